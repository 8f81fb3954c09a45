"""Tables of a published format, or of own data, and a folder of images -> a dataset (`voxmoe.vqa.ct.dataset`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.dataset import check_out, write_ct_dataset
from voxmoe.vqa.ct.formats import format_named
from voxmoe.vqa.ct.formats.form import Terms, read, read_rescales
from voxmoe.vqa.dataset import SPLITS


@dataclass(frozen=True)
class Collection:
    """What was collected: the manifest of the dataset, and the rows that were left out with their reasons."""

    manifest: dict[str, Any]
    skipped: dict[str, str]


def _table(written: str) -> tuple[str | None, Path]:
    """ "train=FILE" or "FILE"."""
    split, _, file = written.partition("=")
    return (split, Path(file)) if file and split in SPLITS else (None, Path(written))


def collect(
    format_name: str,
    tables: Sequence[str],
    out: Path,
    images: Path,
    *,
    metadata: Path | None = None,
    masks: Path | None = None,
    draw_splits: bool = False,
    check_files: bool = True,
    seed: int = 0,
) -> Collection:
    """Write the dataset of some tables, each a path or SPLIT=PATH.

    Splits are those that the tables say, if they do, else (or with `draw_splits`) drawn by patient. `metadata` is the
    table with slope and intercept of files that hold stored values. Rows that cannot be used are left out and listed.
    Raises `DatasetError` for an unknown format, a table of another one or without a row that can be used, and splits
    that contradict each other.
    """
    if not images.is_dir():
        raise DatasetError(f"{images}: no such folder; name the one that the images' paths are relative to")
    check_out(out)
    terms = Terms(images, check_files, None if metadata is None else read_rescales(metadata))
    reading = read(format_named(format_name), [_table(table) for table in tables], terms, published=not draw_splits)
    manifest = write_ct_dataset(
        reading.exchanges, out, images, seed=seed, splits=reading.splits, masks=masks, skipped=reading.skipped
    )
    return Collection(manifest, reading.skipped)
