"""Tables and images become a dataset; what was left out is on record, in the dataset and beside it."""

import csv
import json
from pathlib import Path

import pytest

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.collect import collect
from voxmoe.vqa.ct.dataset import open_ct_dataset
from voxmoe.vqa.ct.statistics import statistics

HEADER = ("image", "patient", "task", "kind", "question", "answer", "choice_a", "choice_b", "split")


def write(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return path


def own(tmp_path: Path, split: str = "") -> Path:
    for number in range(4):
        (tmp_path / f"{number}.nii.gz").touch()
    return write(
        tmp_path / "own.csv",
        ("0.nii.gz", "p0", "closed", "side", "Which?", "left", "right", "left", split),
        ("1.nii.gz", "p1", "closed", "side", "Which?", "right", "right", "left", split),
        ("2.nii.gz", "p2", "closed", "side", "Which?", "left", "right", "left", split),
        ("3.nii.gz", "p3", "report", "", "", "No nodule is seen.", "", "", split),
        ("4.nii.gz", "p4", "report", "", "", "No nodule is seen.", "", "", split),
    )


def test_rows_become_a_dataset(tmp_path: Path) -> None:
    done = collect("own", [str(own(tmp_path))], tmp_path / "set", tmp_path)
    assert done.skipped == {"own.csv:6": f"image: 4.nii.gz: no such file in {tmp_path}"}
    assert json.loads((tmp_path / "set" / "meta" / "skipped.json").read_text()) == done.skipped
    assert done.manifest["rows"] == {"train": 2, "validation": 1, "test": 1}
    unchecked = collect("own", [str(own(tmp_path))], tmp_path / "set", tmp_path, check_files=False)
    assert sum(unchecked.manifest["rows"].values()) == 5


def test_splits_of_the_tables_or_drawn(tmp_path: Path) -> None:
    table = own(tmp_path)
    given = collect("own", [f"test={table}"], tmp_path / "set", tmp_path).manifest
    assert (given["rows"], given["splits"]) == ({"train": 0, "validation": 0, "test": 4}, "given")
    said = collect("own", [str(own(tmp_path, "validation"))], tmp_path / "set", tmp_path).manifest
    assert said["rows"] == {"train": 0, "validation": 4, "test": 0}
    drawn = collect("own", [f"test={table}"], tmp_path / "set", tmp_path, draw_splits=True).manifest
    assert (drawn["rows"]["train"], drawn["splits"]) == (2, "drawn")


def test_what_cannot_be_collected(tmp_path: Path) -> None:
    table = str(own(tmp_path))
    with pytest.raises(DatasetError, match=r"gone: no such folder"):
        collect("own", [table], tmp_path / "set", tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"dev=.*own\.csv: no such file"):
        collect("own", [f"dev={table}"], tmp_path / "set", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"own\.csv: none of its 5 rows can be used as own; the first, own\.csv:2"):
        collect("own", [table], tmp_path / "set", tmp_path / "empty")
    assert not (tmp_path / "set").exists()


def test_counts_of_a_dataset(tmp_path: Path) -> None:
    collect("own", [f"test={own(tmp_path)}"], tmp_path / "set", tmp_path)
    found = statistics(open_ct_dataset(tmp_path / "set"))
    assert (found["rows"], found["patients"], found["skipped"], found["splits_are"]) == (4, 4, 1, "given")
    assert found["kinds"] == {"closed: side": 3, "report: report": 1}
    assert found["letters"] == found["splits"]["test"]["letters"] == {"A": 1, "B": 2}
    assert found["choices"] == {"2": 3}
    assert found["answer_words"]["report"] == {"mean": 4, "median": 4, "max": 4}
    assert found["answer_words"]["open"] is None
    assert found["splits"]["train"]["rows"] == 0
