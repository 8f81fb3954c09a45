"""What a published format is here (its rows, and what is made of one), and reading: what is used, what not, and why.

A row that cannot be used is left out with its file, its line and the reason; a table without the columns that it needs,
or without any row that can be used, is an error.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxmoe.errors import DatasetError, ImageError
from voxmoe.files import inside
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.tables import Row, read_csv, starts_of


@dataclass(frozen=True)
class Terms:
    """What holds for all rows."""

    images: Path
    """The folder that the paths of images are relative to."""
    check_files: bool = True
    """Leave out rows whose image is not there."""
    rescales: Mapping[str, Rescale] | None = None
    """Slope and intercept by the name of the volume, for files with stored values; None: the files are in HU."""

    def place(self, *names: str) -> str:
        """The first of the names that an image may have below the folder; raises `DatasetError` if none is there."""
        paths = [inside(self.images, name) for name in names]
        if not self.check_files:
            return names[0]
        for name, path in zip(names, paths, strict=True):
            if os.path.exists(path):  # noqa: PTH110 - False, too, for names that no file can have
                return name
        also = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
        raise DatasetError(f"{names[0]}: no such file in {self.images}{also}")

    def rescale(self, volume: str) -> tuple[float, float] | None:
        if self.rescales is None:
            return None
        if volume not in self.rescales:
            raise DatasetError(f"{volume}: has no row in the metadata that slope and intercept are taken from")
        found = self.rescales[volume]
        return found.slope, found.intercept


@dataclass(frozen=True)
class Format:
    """One published format."""

    name: str
    summary: str
    rows: Callable[[Path], Iterator[Row]]
    """The rows of a table (or of the tables of a folder); raises `DatasetError` for one that is of another format."""
    exchanges: Callable[[Row, Terms], Iterable[Exchange]]
    """What one row says; raises `DatasetError` if it cannot be used."""
    stored_values: bool = False
    """Whether its files may hold stored values, so that a table of metadata is of use."""


@dataclass
class Reading:
    """What was read."""

    exchanges: list[Exchange] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Place of a row -> why it was left out, as a whole or in part."""
    image_splits: dict[str, str] = field(default_factory=dict)
    """Image -> its published split, where there is one."""

    @property
    def splits(self) -> dict[str, str] | None:
        """The published splits, or None if no row names one; raises `DatasetError` if only some do."""
        without = sorted({exchange.image for exchange in self.exchanges} - self.image_splits.keys())
        if self.image_splits and without:
            raise DatasetError(
                f"{without[0]} (and {len(without) - 1} more images) have no published split, others have one; say "
                "SPLIT=TABLE for each table, or draw the splits anew"
            )
        return self.image_splits or None


def _add(reading: Reading, row: Row, made: Sequence[Exchange], split: str | None, said: dict[Any, str]) -> None:
    """Add what a row says, but for what an earlier row of the same split has said already."""
    for exchange in made:
        if split and reading.image_splits.setdefault(exchange.image, split) != split:
            other = reading.image_splits[exchange.image]
            raise DatasetError(
                f"{row.place}: puts {exchange.image} in the split {split}, another row in {other}; draw the splits "
                "anew, or collect each split as a dataset of its own and audit them against each other"
            )
        asked = (exchange.image, exchange.patient, exchange.slice, exchange.task, exchange.question, exchange.choices)
        key = (split, asked, exchange.answer)
        if (earlier := said.setdefault(key, row.place)) != row.place:
            reading.skipped[row.place] = f"says the same as {earlier} ({exchange.task})"
        else:
            reading.exchanges.append(exchange)


def _starts(tables: Sequence[tuple[str | None, Path]]) -> list[str]:
    """What tells the rows of each table from those of others of its split (`starts_of`)."""
    splits = {split for split, _ in tables}
    of_split = {split: iter(starts_of([path for other, path in tables if other == split])) for split in splits}
    return [next(of_split[split]) for split, _ in tables]


def read(form: Format, tables: Iterable[tuple[str | None, Path]], terms: Terms, published: bool = True) -> Reading:
    """All rows of some tables, each with the split that it is (None: what its rows say); or without published splits.

    Raises `DatasetError` if a table is missing, given twice or of another format, none of its rows can be used, or one
    image is in two splits.
    """
    if terms.rescales is not None and not form.stored_values:
        raise DatasetError(f"{form.name}: its images need no slope and intercept; leave out the metadata")
    tables = list(tables)
    reading, said = Reading(), dict[Any, str]()
    for (given, table), start in zip(tables, _starts(tables), strict=True):
        used, refused = 0, dict[str, str]()
        for found in form.rows(table):
            row = found.under(start).of_split(given)
            try:
                made = list(form.exchanges(row.usable(), terms))
            except DatasetError as error:
                refused[row.place] = reading.skipped[row.place] = str(error)
                continue
            used += 1
            _add(reading, row, made, row.split if published else None, said)
        if not used:
            first = "".join(f"; the first, {place}: {reason}" for place, reason in list(refused.items())[:1])
            raise DatasetError(f"{table}: none of its {len(refused)} rows can be used as {form.name}{first}")
    return reading


def read_rescales(path: Path) -> dict[str, Rescale]:
    """Volume -> slope and intercept, from CT-RATE's table of metadata; raises `DatasetError` for what is not one."""
    found = {}
    for row in read_csv(path, ("VolumeName", "RescaleSlope", "RescaleIntercept")):
        try:
            cells = row.usable().cells
            found[cells["VolumeName"]] = Rescale.of_row(cells)
        except (DatasetError, ImageError) as error:
            raise DatasetError(f"{row.place}: {error}; mend the row, or take it away and with it the volume") from None
    return found
