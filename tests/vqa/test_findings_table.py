"""Findings of a folder as a table: a row a label, what cannot be told is empty with its reason."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from conftest import make_study
from voxmoe.errors import StudyError
from voxmoe.imaging.volume import write_volume
from voxmoe.vqa.findings import Findings, to_json
from voxmoe.vqa.findings_table import findings_table, write_table
from voxmoe.vqa.measure import measure, measure_all


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two masks that lie alone, and one that is cut off."""
    folder = tmp_path_factory.mktemp("masks")
    mask = make_study().mask
    assert mask is not None
    for number in (1, 2):
        write_volume(mask, folder / f"BraTS-GLI-0000{number}-100-seg.nii.gz")
    whole = (folder / "BraTS-GLI-00001-100-seg.nii.gz").read_bytes()
    (folder / "BraTS-GLI-00003-100-seg.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def test_each_is_measured_as_by_itself_and_a_bad_one_is_named(masks: Path) -> None:
    steps: list[tuple[int, int]] = []
    outcomes = measure_all(masks, progress=lambda done, total: steps.append((done, total)))
    assert [files.id for files, _ in outcomes] == [f"BraTS-GLI-0000{number}-100" for number in (1, 2, 3)]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for files, found in outcomes[:2]:
        assert isinstance(found, Findings)
        assert files.mask is not None
        assert to_json(found) == to_json(measure(files.mask))
    reason = outcomes[2][1]
    assert isinstance(reason, str)
    assert "BraTS-GLI-00003-100-seg.nii.gz" in reason


def test_rows_hold_the_findings_and_why_something_is_missing(masks: Path) -> None:
    measured = [(files, found) for files, found in measure_all(masks) if isinstance(found, Findings)]
    rows = findings_table(measured).to_pylist()
    assert [(row["study"], row["label"]) for row in rows[:4]] == [
        ("BraTS-GLI-00001-100", label) for label in ("NETC", "SNFH", "ET", "RC")
    ]
    for (_, found), at in zip(measured, (0, 4), strict=True):
        for row, (key, label) in zip(rows[at : at + 4], found.labels.items(), strict=True):
            assert (row["label"], row["voxels"], row["shape"], row["spread"]) == (
                key,
                label.voxels,
                label.shape,
                label.spread,
            )
            assert row["brain_percent"] is None
            assert row["sphericity"] == (label.shape_numbers.sphericity if label.shape_numbers else None)
            assert ("no T1 image" in row["reasons"]) == label.present
    assert [row["mask"] for row in rows[::4]] == [str(files.mask) for files, _ in measured]
    assert rows[3]["present"] is False
    assert rows[3]["region"] is None


def test_regions_are_named_with_their_sides(cohort: Path) -> None:
    outcomes = measure_all(cohort)
    measured = [(files, found) for files, found in outcomes if isinstance(found, Findings)]
    assert len(measured) == len(outcomes)
    rows = findings_table(measured).to_pylist()
    for row, label in zip(rows, (label for _, found in measured for label in found.labels.values()), strict=True):
        assert label.regions is not None
        named = {part.split(" (")[0] for part in row["region"].split("; ")} if row["region"] else set()
        assert named == set(label.regions)
        assert all(
            part.endswith(("(left)", "(right)", "(left, right)")) for part in (row["region"] or "x (left)").split("; ")
        )
        assert row["brain_percent"] == pytest.approx(100 * (label.brain_fraction or 0))


def test_both_files_hold_the_table(masks: Path, tmp_path: Path) -> None:
    table = findings_table((files, found) for files, found in measure_all(masks) if isinstance(found, Findings))
    write_table(tmp_path / "found.parquet", table)
    assert pyarrow.parquet.read_table(tmp_path / "found.parquet").equals(table)
    write_table(tmp_path / "found.csv", table)
    read = pyarrow.csv.read_csv(tmp_path / "found.csv")
    assert read.column_names == table.column_names
    np.testing.assert_array_equal(read["volume_mm3"], table["volume_mm3"])
    with pytest.raises(StudyError, match=r"found\.xlsx: a table is written as \.csv or \.parquet"):
        write_table(tmp_path / "found.xlsx", table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.csv", "found.parquet"]
