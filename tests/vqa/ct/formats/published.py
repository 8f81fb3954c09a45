"""Small tables with the columns of published ones."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from voxmoe.vqa.ct.formats import format_named
from voxmoe.vqa.ct.formats.form import Reading, Terms, read


def table(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def reading_of(name: str, *tables: Path, images: Path | None = None) -> Reading:
    """Without looking for images, unless their folder is named."""
    terms = Terms(images or Path("images"), check_files=images is not None)
    return read(format_named(name), [(None, path) for path in tables], terms)
