"""Findings as a table for a spreadsheet or for statistics: a row a label of each study."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from voxmoe.errors import StudyError
from voxmoe.files import atomic_path
from voxmoe.imaging.study import StudyFiles
from voxmoe.vqa.components import Shape
from voxmoe.vqa.findings import Findings, LabelFindings

_COLUMNS = pa.schema(
    [
        ("study", pa.string()),
        ("patient", pa.string()),
        ("mask", pa.string()),
        ("label", pa.string()),
        ("present", pa.bool_()),
        ("voxels", pa.int64()),
        ("volume_mm3", pa.float64()),
        ("brain_percent", pa.float64()),
        ("volume", pa.string()),
        ("region", pa.string()),
        ("shape", pa.string()),
        *((name, pa.float64()) for name in Shape.__dataclass_fields__),
        ("spread", pa.string()),
        ("components", pa.int64()),
        ("core_fraction", pa.float64()),
        ("reasons", pa.string()),
        ("profile", pa.string()),
        ("protocol", pa.string()),
        ("atlas", pa.string()),
        ("space", pa.string()),
    ]
)
"""`brain_percent` is the share of the brain as it is, `volume` its bin by the protocol; `region` holds each region with
its sides, parted by semicolons, and is empty for an absent label; compactness is in 1/mm. What cannot be told is empty,
with the reason in `reasons`."""
SUFFIXES = (".csv", ".parquet")


def findings_table(measured: Iterable[tuple[StudyFiles, Findings]]) -> pa.Table:
    """The table of studies and what is found in them."""
    rows = [
        {**_mask(files), "label": key, **_row(label), **_rules(found)}
        for files, found in measured
        for key, label in found.labels.items()
    ]
    return pa.Table.from_pylist(rows, schema=_COLUMNS)


def check_suffix(path: Path) -> None:
    """Raise `StudyError` for a file that no table can be written to."""
    if path.suffix not in SUFFIXES:
        raise StudyError(f"{path}: a table is written as {' or '.join(SUFFIXES)}; name it so")


def write_table(path: Path, table: pa.Table) -> None:
    """Write it whole or not at all, as CSV or Parquet by the suffix; raises `StudyError` for another."""
    check_suffix(path)
    with atomic_path(path) as temporary:
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, temporary)


def _mask(files: StudyFiles) -> dict[str, Any]:
    return {"study": files.id, "patient": files.patient, "mask": str(files.mask)}


def _row(found: LabelFindings) -> dict[str, Any]:
    regions = found.regions and "; ".join(
        f"{name} ({', '.join(sides)})" for name, sides in sorted(found.regions.items())
    )
    return {
        "present": found.present,
        "voxels": found.voxels,
        "volume_mm3": found.volume_mm3,
        "brain_percent": None if found.brain_fraction is None else 100 * found.brain_fraction,
        "volume": found.volume,
        "region": regions or None,
        "shape": found.shape,
        **(vars(found.shape_numbers) if found.shape_numbers else {}),
        "spread": found.spread,
        "components": found.components,
        "core_fraction": found.core_fraction,
        "reasons": "; ".join(f"{field}: {reason}" for field, reason in found.reasons.items()) or None,
    }


def _rules(found: Findings) -> dict[str, Any]:
    return {"profile": found.profile, "protocol": found.protocol, "atlas": found.atlas, "space": found.space}
