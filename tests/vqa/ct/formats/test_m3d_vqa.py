"""Each row of M3D-VQA gives its closed and its open form; rows that contradict themselves are named."""

from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask

ROW = {
    "Image Path": "M3D_Cap_npy/ct_quizze/000003/Axial_C__portal_venous_phase.npy",
    "Text": "A caption.",
    "Question Type": "2",
    "Question": "What phase is shown?",
    "Choice A": "Arterial",
    "Choice B": "Portal venous",
    "Choice C": "Delayed",
    "Choice D": "NA",
    "Answer": "portal venous.",
    "Answer Choice": "B",
}


def test_a_row_is_a_closed_and_an_open_question(tmp_path: Path) -> None:
    reading = reading_of("m3d-vqa", table(tmp_path / "M3D_VQA_test.csv", [ROW]))
    closed, asked = reading.exchanges
    assert (closed.id, asked.id) == ("m3d-vqa/M3D_VQA_test/2/closed", "m3d-vqa/M3D_VQA_test/2/open")
    assert closed.prompt == "What phase is shown? Choices: A. Arterial B. Portal venous C. Delayed"
    assert (closed.target, asked.prompt, asked.target) == ("B. Portal venous", ROW["Question"], "Portal venous")
    assert (closed.task, asked.task, closed.kind, closed.patient) == (
        CTTask.CLOSED,
        CTTask.OPEN,
        "phase",
        "ct_quizze/000003",
    )
    assert reading.skipped == {}
    assert reading.splits is None


@pytest.mark.parametrize(
    ("number", "kind"), [("1", "plane"), ("2", "phase"), ("3", "organ"), ("4", "abnormality"), ("5", "location")]
)
def test_question_types(number: str, kind: str, tmp_path: Path) -> None:
    reading = reading_of("m3d-vqa", table(tmp_path / "t.csv", [ROW | {"Question Type": number}]))
    assert {exchange.kind for exchange in reading.exchanges} == {kind}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Answer Choice": "C"}, "its letter C means 'Delayed', its answer is 'portal venous.'"),
        ({"Answer Choice": "D"}, "its letter is D; its choices have A, B, C"),
        ({"Answer Choice": ""}, "its letter is empty"),
        ({"Answer": "Nephrographic"}, "its answer is 'Nephrographic'"),
        ({"Choice B": "NA"}, "its choice B is absent and a later one is not"),
        ({"Choice A": "NA", "Choice B": "NA", "Choice C": "NA"}, "has 0 choices"),
        ({"Choice C": "Arterial"}, "2 to 8 that differ are needed"),
        ({"Question": " "}, "its question is empty"),
        ({"Question Type": "6"}, "its question type is 6; there are 1 plane, 2 phase"),
        ({"Image Path": "../secret.npy"}, r"\.\./secret\.npy: leaves images"),
        ({"Image Path": ""}, "'': names no file"),
        ({"Image Path": "/secret.npy"}, "/secret.npy: leaves images"),
    ],
)
def test_rows_that_cannot_be_used_are_named(change: dict[str, str], said: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [ROW, ROW | change])
    reading = reading_of("m3d-vqa", path)
    assert [exchange.task for exchange in reading.exchanges] == [CTTask.CLOSED, CTTask.OPEN]
    assert list(reading.skipped) == ["t.csv:3"]
    with pytest.raises(DatasetError, match=f"t.csv: none of its 1 rows can be used as m3d-vqa; the first, .*{said}"):
        reading_of("m3d-vqa", table(path, [ROW | change]))


def test_what_is_said_twice_is_kept_once(tmp_path: Path) -> None:
    other = ROW | {"Choice C": "None"}
    reading = reading_of("m3d-vqa", table(tmp_path / "t.csv", [ROW, other]))
    assert [exchange.task for exchange in reading.exchanges] == [CTTask.CLOSED, CTTask.OPEN, CTTask.CLOSED]
    assert reading.skipped == {"t.csv:3": "says the same as t.csv:2 (open)"}


def test_a_table_of_another_format(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [{"Question": "a", "Answer": "b"}])
    with pytest.raises(
        DatasetError, match=r"t\.csv: lacks Image Path, .*; its columns are Question, Answer; needed are Image Path, Q"
    ):
        reading_of("m3d-vqa", path)
