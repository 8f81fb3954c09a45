"""RadGenome-ChestCT's five tables become questions, by its own templates where they lie beside."""

import json
from collections import Counter
from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask

VOLUME = {"Volumename": "train_430_a_1.nii.gz", "Anatomy": "lung/lung/right lung"}
PRESENCE = VOLUME | {"Finding": "a nodule", "Presence": "Yes."}
FOUND = VOLUME | {"Abnormality": "nodule"}


def write_all(folder: Path) -> Path:
    table(folder / "train_vqa_presence.csv", [PRESENCE])
    table(folder / "train_vqa_abnormality.csv", [FOUND])
    table(folder / "train_vqa_location.csv", [FOUND])
    table(folder / "train_vqa_size.csv", [FOUND | {"Size": "6x4 mm"}])
    table(folder / "train_case_disorders.csv", [{"Volumename": VOLUME["Volumename"], "Disorders": "no findings"}])
    return folder


def test_five_tables(tmp_path: Path) -> None:
    reading = reading_of("radgenome", write_all(tmp_path / "tables"))
    assert {one.kind: (one.prompt, one.target) for one in reading.exchanges} == {
        "presence": ("Does the right lung show a nodule? Choices: A. Yes B. No", "A. Yes"),
        "abnormality": ("Which abnormalities does the right lung show?", "nodule"),
        "location": ("Where does the scan show nodule?", "right lung"),
        "size": ("How large is the nodule in the right lung?", "6x4 mm"),
        "disorders": ("Which disorders does the scan show?", "no findings"),
    }
    assert {one.image for one in reading.exchanges} == {"train/train_430/train_430_a/train_430_a_1.nii.gz"}
    assert reading.splits == {"train/train_430/train_430_a/train_430_a_1.nii.gz": "train"}


def test_published_templates_word_the_questions(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "tables")
    (folder / "size_template.json").write_text(json.dumps({"size": ["{abnormality} in {region}, {other}?"]}))
    sizes = [one for one in reading_of("radgenome", folder).exchanges if one.kind == "size"]
    assert [one.question for one in sizes] == ["nodule in right lung, {other}?"]
    (folder / "size_template.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"size_template\.json: holds no list of templates under size"):
        reading_of("radgenome", folder)


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    changes = [{}, {"Presence": "Maybe"}, {"Anatomy": ""}, {"Finding": ""}, {"Volumename": "scan"}]
    path = table(tmp_path / "presence.csv", [PRESENCE | change for change in changes])
    assert reading_of("radgenome", path).skipped == {
        "presence.csv:3": "its presence is Maybe; Yes or No is needed",
        "presence.csv:4": "its region is empty",
        "presence.csv:5": "its abnormality is empty",
        "presence.csv:6": "scan: no name of CT-RATE, such as train_1_a_2.nii.gz",
    }


def test_tables_are_known_by_their_names(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [FOUND])
    with pytest.raises(DatasetError, match="its name has to say which table it is: one of presence, abnormality"):
        reading_of("radgenome", path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: holds no \.csv file, nor do the folders in it"):
        reading_of("radgenome", tmp_path / "empty")


def test_other_tables_of_a_folder_are_left_out(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "dataset" / "radgenome_files")
    table(folder / "train_region_report.csv", [{"Volumename": VOLUME["Volumename"], "Sentence": "Clear."}])
    reading = reading_of("radgenome", folder)
    assert len(reading.exchanges) == 5
    assert list(reading.skipped) == ["train_region_report.csv"]
    assert "left out as a whole; its name has to say which" in reading.skipped["train_region_report.csv"]
    above = reading_of("radgenome", folder.parent)
    assert {one.id.rpartition("/")[0] for one in above.exchanges} == {
        f"radgenome/radgenome_files/{path.stem}" for path in folder.glob("train_*.csv") if "report" not in path.stem
    }
    assert list(above.skipped) == ["radgenome_files/train_region_report.csv"]
    with pytest.raises(DatasetError, match=r"train_region_report\.csv: its name has to say which table it is"):
        reading_of("radgenome", folder / "train_region_report.csv")


@pytest.mark.real
def test_the_real_tables(real_data: Path) -> None:
    reading = reading_of("radgenome", real_data / "text" / "radgenome")
    assert all(reason.startswith("says the same as") for reason in reading.skipped.values())
    assert len(reading.exchanges) + len(reading.skipped) == 1000
    kinds = Counter((one.task, one.kind) for one in reading.exchanges)
    assert set(kinds) == {
        (CTTask.CLOSED, "presence"),
        *((CTTask.OPEN, kind) for kind in ("abnormality", "location", "size", "disorders")),
    }
    assert not any("{" in one.question for one in reading.exchanges)
    assert len({one.question for one in reading.exchanges if one.kind == "disorders"}) > 10
