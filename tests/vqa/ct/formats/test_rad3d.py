"""3D-RAD's six tasks, with a dash for what is absent."""

from collections import Counter
from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask

OPEN = {
    "Task": "3",
    "Subtask": "1",
    "VolumeName": "test_1004_a_1.nii.gz",
    "Question": "What is the diameter of the largest lymph node?",
    "Answer": "2 cm",
    "QuestionType": "Open",
    "AnswerChoice": "-",
    "Choice A": "-",
    "Choice B": "-",
    "Choice C": "-",
    "Choice D": "-",
}
CLOSED = OPEN | {
    "Task": "4",
    "Question": "Is there a nodule?",
    "Answer": "No",
    "QuestionType": "Close",
    "AnswerChoice": "B",
    "Choice A": "Yes",
    "Choice B": "No",
}


def test_open_and_closed_questions(tmp_path: Path) -> None:
    table(tmp_path / "all" / "Task3.csv", [OPEN])
    table(tmp_path / "all" / "Task4.csv", [CLOSED])
    reading = reading_of("3d-rad", tmp_path / "all")
    asked, closed = reading.exchanges
    assert (asked.task, asked.kind, asked.target) == (CTTask.OPEN, "medical-computation", "2 cm")
    assert (closed.kind, closed.prompt) == ("existence-detection", "Is there a nodule? Choices: A. Yes B. No")
    assert (closed.target, closed.id) == ("B. No", "3d-rad/Task4/2")
    assert reading.splits == {"test/test_1004/test_1004_a/test_1004_a_1.nii.gz": "test"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AnswerChoice": "A"}, "its letter A means 'Yes', its answer is 'No'"),
        ({"AnswerChoice": "-"}, "its letter is -; its choices have A, B"),
        ({"Choice B": "-"}, "has 1 choices"),
        ({"QuestionType": "Half"}, "its question type is Half; there are Open and Close"),
        ({"Task": "7"}, "its task is 7; there are 1, 2, 3, 4, 5, 6"),
        ({"VolumeName": "-"}, "-: no name of CT-RATE"),
    ],
)
def test_rows_that_cannot_be_used_are_named(change: dict[str, str], said: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [CLOSED, CLOSED | change])
    assert said in reading_of("3d-rad", path).skipped["t.csv:3"]


def test_a_folder_with_a_table_of_something_else(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", [OPEN])
    table(tmp_path / "b.csv", [{"Question": "?"}])
    with pytest.raises(DatasetError, match=r"b\.csv: lacks Task, Subtask"):
        reading_of("3d-rad", tmp_path)


@pytest.mark.real
def test_the_real_tables(real_data: Path) -> None:
    """Every row of the extracts can be used: 1,800 on existence, 453 temporal, 900 open ones."""
    reading = reading_of("3d-rad", real_data / "text" / "3drad")
    assert reading.skipped == {}
    assert Counter(one.kind for one in reading.exchanges) == {
        "image-observation": 200,
        "anomaly-detection": 400,
        "medical-computation": 300,
        "existence-detection": 1800,
        "static-temporal-diagnosis": 453,
    }
    assert {len(one.choices) for one in reading.exchanges if one.kind == "static-temporal-diagnosis"} == {4}
    assert set((reading.splits or {}).values()) == {"test"}
