"""M3D-Cap's lists are its splits; a text is in the file or in one of its own."""

import json
from pathlib import Path

import pytest
from published import reading_of

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.exchange import REPORT_PROMPT

ENTRY = {"image": "ct_case/000001/Axial.npy", "text": "A cyst."}


def test_lists_are_splits_and_texts_may_lie_in_files(tmp_path: Path) -> None:
    case = tmp_path / "images" / "ct_case" / "000002"
    case.mkdir(parents=True)
    (case / "Axial.npy").touch()
    (case / "text.txt").write_text("Ascites.\n")
    filed = {"image": "ct_case/000002/Axial.npy", "text": "ct_case/000002/text.txt"}
    lost = filed | {"text": "ct_case/000002/gone.txt"}
    content = {"train": [filed, lost, ENTRY, {"image": 1}], "val": [], "test500": [filed]}
    (tmp_path / "cap.json").write_text(json.dumps(content))
    reading = reading_of("m3d-cap", tmp_path / "cap.json", images=tmp_path / "images")
    (report,) = reading.exchanges
    assert (report.id, report.question, report.answer) == ("m3d-cap/cap/train/0", REPORT_PROMPT, "Ascites.")
    assert report.patient == "ct_case/000002"
    assert reading.splits == {"ct_case/000002/Axial.npy": "train"}
    assert reading.skipped == {
        "cap.json:test500": "is no split; those are train, validation, val, test",
        "cap.json:train[1]": f"ct_case/000002/gone.txt: no such file in {tmp_path / 'images'}",
        "cap.json:train[2]": f"ct_case/000001/Axial.npy: no such file in {tmp_path / 'images'}",
        "cap.json:train[3]": "has no image and text",
    }


def test_one_image_in_two_splits(tmp_path: Path) -> None:
    (tmp_path / "cap.json").write_text(json.dumps({"train": [ENTRY], "test": [ENTRY]}))
    with pytest.raises(DatasetError, match=r"cap.json:test\[0\]: puts ct_case/.*Axial.npy in the split test, another"):
        reading_of("m3d-cap", tmp_path / "cap.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds a list; lists under some of train, validation, val, test are needed"),
        ('{"dev": []}', "holds the keys dev; lists"),
        ('{"train": [{"image": "a.npy", "text": " "}]}', r"the first, cap.json:train\[0\]: .*its answer is empty"),
        ('{"train": [{"image": "a.npy", "text": "../x.txt"}]}', r"\.\./x\.txt: leaves images"),
        ("{", "cap.json:1: no JSON"),
    ],
)
def test_what_is_no_such_file(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "cap.json").write_text(content)
    with pytest.raises(DatasetError, match=said):
        reading_of("m3d-cap", tmp_path / "cap.json")
