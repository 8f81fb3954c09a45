"""What holds for every format: the splits of its tables, tables given one a split, and names."""

from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.formats import FORMATS, format_named
from voxmoe.vqa.ct.formats.form import Terms, read

ROW = {"image": "a.nii.gz", "patient": "p1", "task": "report", "answer": "A nodule.", "split": ""}


def test_tables_given_one_a_split(tmp_path: Path) -> None:
    own, other = (table(tmp_path / name / "t.csv", [ROW | {"image": f"{name}.nii.gz"}]) for name in ("a", "b"))
    reading = read(format_named("own"), [("train", own), ("test", other)], Terms(tmp_path, check_files=False))
    assert reading.splits == {"a.nii.gz": "train", "b.nii.gz": "test"}
    assert [exchange.id for exchange in reading.exchanges] == ["own/train/t/2", "own/test/t/2"]
    bad = [table(path, [ROW, ROW | {"answer": "", "task": split}]) for split, path in (("a", own), ("b", other))]
    named = read(format_named("own"), list(zip(("train", "test"), bad, strict=True)), Terms(tmp_path, False), False)
    assert list(named.skipped) == ["train=t.csv:3", "test=t.csv:2", "test=t.csv:3"]
    assert named.skipped["test=t.csv:2"] == "says the same as train=t.csv:2 (report)"


def test_tables_of_one_name_are_told_apart_within_a_split(tmp_path: Path) -> None:
    """Those of other names, and of other splits, are called what they are called alone."""
    rows = [[ROW | {"image": f"{name}.nii.gz"}, ROW | {"answer": ""}] for name in "abcd"]
    places = [tmp_path / name for name in ("a/t.csv", "b/t.csv", "b/u.csv", "c/t.csv")]
    given = list(zip(("train", "train", "train", "test"), places, strict=True))
    for path, own in zip(places, rows, strict=True):
        table(path, own)
    reading = read(format_named("own"), given, Terms(tmp_path, check_files=False), published=False)
    assert [one.id for one in reading.exchanges] == [
        "own/train/a/t/2",
        "own/train/b/t/2",
        "own/train/u/2",
        "own/test/t/2",
    ]
    assert list(reading.skipped) == ["train=a/t.csv:3", "train=b/t.csv:3", "train=u.csv:3", "test=t.csv:3"]


def test_splits_are_of_all_rows_or_of_none(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [ROW | {"split": "train"}, ROW | {"image": "b.nii.gz"}])
    reading = reading_of("own", path)
    with pytest.raises(DatasetError, match=r"b\.nii\.gz .* have no published split, others have one"):
        assert reading.splits
    drawn = read(format_named("own"), [(None, path)], Terms(tmp_path, check_files=False), published=False)
    assert drawn.splits is None


def test_what_two_splits_say_alike_is_kept_in_both(tmp_path: Path) -> None:
    """It is for the audit to name leaks, not for the reader to hide them."""
    rows = [ROW | {"split": split, "image": f"{split}.nii.gz", "patient": split} for split in ("train", "test")]
    assert len(reading_of("own", table(tmp_path / "t.csv", rows)).exchanges) == 2


def test_formats_are_known_by_name() -> None:
    assert all(format_named(name).name == name for name in FORMATS)
    with pytest.raises(DatasetError, match="no format is called 'csv'; there are m3d-vqa, m3d-cap, ct-rate, radgenome"):
        format_named("csv")
