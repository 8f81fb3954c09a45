"""3D-RAD's six tasks, with a dash for what is absent."""

from collections import Counter
from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.formats import format_named
from voxmoe.vqa.ct.formats.form import Terms, read

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
    assert reading.splits == {"valid/valid_1004/valid_1004_a/valid_1004_a_1.nii.gz": "test"}


def test_its_test_volumes_are_validation_volumes_of_ct_rate(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [OPEN | {"VolumeName": "test_1016_d_2.nii.gz"}])
    file = tmp_path / "images" / "valid/valid_1016/valid_1016_d/valid_1016_d_2.nii.gz"
    file.parent.mkdir(parents=True)
    file.touch()
    rescales = {"valid_1016_d_2.nii.gz": Rescale(1.0, -8192.0)}
    reading = read(format_named("3d-rad"), [(None, path)], Terms(tmp_path / "images", rescales=rescales))
    (found,) = reading.exchanges
    assert (found.image, found.patient, found.rescale) == (
        "valid/valid_1016/valid_1016_d/valid_1016_d_2.nii.gz",
        "valid_1016",
        (1.0, -8192.0),
    )
    assert reading.splits == {found.image: "test"}


def test_folders_as_they_are_published(tmp_path: Path) -> None:
    root = tmp_path / "3DRAD"
    changes = [
        ("test", "Task5_Static", {"Question": "Now?"}),
        ("test", "Task6_Longitudinal", {"Question": "Past: [0]. Now?"}),
        ("train", "Task5_Static", {"VolumeName": "train_1_c_1.nii.gz"}),
    ]
    tables = {
        f"{split}/{task}": table(root / split / task / "c.csv", [OPEN | change, OPEN | change])
        for split, task, change in changes
    }
    whole = reading_of("3d-rad", root)
    assert [one.id for one in whole.exchanges] == [f"3d-rad/{name}/c/2" for name in tables]
    assert sorted((whole.splits or {}).values()) == ["test", "train"]
    assert whole.skipped == {f"{name}/c.csv:3": f"says the same as {name}/c.csv:2 (open)" for name in tables}
    folders = [root / "test" / task for task in ("Task5_Static", "Task6_Longitudinal")]
    for given in (folders, [folder / "c.csv" for folder in folders]):
        apart = reading_of("3d-rad", *given)
        assert [one.id for one in apart.exchanges] == [f"3d-rad/{folder.name}/c/2" for folder in folders]
        assert list(apart.skipped) == [f"{folder.name}/c.csv:3" for folder in folders]
    deeper = reading_of("3d-rad", *(root / split / "Task5_Static" for split in ("test", "train")))
    assert [one.id for one in deeper.exchanges] == [f"3d-rad/{split}/Task5_Static/c/2" for split in ("test", "train")]
    (alone,) = reading_of("3d-rad", tables["test/Task5_Static"]).exchanges
    assert alone.id == "3d-rad/c/2"


def test_a_table_that_is_given_twice(tmp_path: Path) -> None:
    path = table(tmp_path / "Task5" / "c.csv", [OPEN])
    for again in (path, path.parent, path.parent / ".." / "Task5" / "c.csv"):
        with pytest.raises(DatasetError, match=r"c\.csv: is given twice, by itself or with its folder; give it once"):
            reading_of("3d-rad", path, again)


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
