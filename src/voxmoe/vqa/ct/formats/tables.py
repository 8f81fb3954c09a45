"""Tables as they are published -> rows that know where they stand."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from voxmoe.errors import DatasetError


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    place: str
    """FILE:LINE, for people; a file in a folder of tables as seen from that folder."""
    id: str
    """FILE/LINE without the suffix: unique among the rows of tables of other names."""
    cells: Mapping[str, Any]
    """By column, without blanks around."""
    split: str | None = None
    """The split that the table itself says."""
    broken: str | None = None
    """Why it has no cells."""

    def of_split(self, split: str | None) -> "Row":
        """Itself as a row of a table that is one split: tables of two splits may have the same name."""
        return replace(self, place=f"{split}={self.place}", id=f"{split}/{self.id}", split=split) if split else self

    def under(self, start: str) -> "Row":
        """Itself with what tells its table from others of the same name (`starts_of`)."""
        return replace(self, place=f"{start}{self.place}", id=f"{start}{self.id}")

    def usable(self) -> "Row":
        """Itself; raises `DatasetError` if it is broken."""
        if self.broken:
            raise DatasetError(self.broken)
        return self


def _missing(path: Path, needed: Sequence[str], found: Sequence[str]) -> DatasetError | None:
    lacking = [names for names in needed if not set(names.split("|")) & set(found)]
    if not lacking:
        return None

    def told(names: Sequence[str]) -> str:
        return ", ".join(name.replace("|", " or ") for name in names) or "none"

    return DatasetError(f"{path}: lacks {told(lacking)}; its columns are {told(found)}; needed are {told(needed)}")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DatasetError(f"{path}: is a folder; a file is needed here") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_csv(path: Path, needed: Sequence[str], given: Path | None = None) -> Iterator[Row]:
    """The rows of a CSV file with a header; `needed` columns may name alternatives, as in "a|b".

    `given` is the folder that was given, if it was not the file. A row of another length than the header is broken.
    Raises `DatasetError` if the file is missing, no CSV text, or lacks a column, and says which it has.
    """
    name = name_of(path, given or path)
    lines = csv.reader(StringIO(_text_of(path), newline="\n"), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if error := _missing(path, needed, header):
            raise error
        before = lines.line_num
        for cells in lines:
            line, before = before + 1, lines.line_num
            if not cells:
                continue
            row = Row(f"{name}:{line}", f"{_bare(name)}/{line}", dict(zip(header, map(str.strip, cells), strict=False)))
            told = f"has {len(cells)} cells under {len(header)} columns"
            yield row if len(cells) == len(header) else replace(row, broken=told)
    except csv.Error as error:
        raise DatasetError(f"{path}:{lines.line_num}: no CSV ({error}); quotes in a cell are doubled") from None


def read_json(path: Path) -> Any:
    """Raises `DatasetError` if the file is missing or no JSON."""
    try:
        return json.loads(_text_of(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: no JSON ({error.msg})") from None


def read_json_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSONL file; a line that is none is broken."""
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        place, id, broken = f"{path.name}:{number}", f"{path.stem}/{number}", None
        try:
            cells = json.loads(line)
        except json.JSONDecodeError as error:
            cells, broken = {}, f"no JSON ({error.msg})"
        if not isinstance(cells, dict):
            cells, broken = {}, "is no JSON object"
        cells = {key: value.strip() if isinstance(value, str) else value for key, value in cells.items()}
        yield Row(place, id, cells, broken=broken)


def tables_in(place: Path, suffix: str = ".csv") -> list[Path]:
    """A table itself, or those of a folder and of the folders in it, by name; raises `DatasetError` if it has none."""
    if not place.is_dir():
        return [place]
    found = sorted(path for path in place.rglob(f"*{suffix}") if path.is_file())
    if not found:
        raise DatasetError(f"{place}: holds no {suffix} file, nor do the folders in it; name the one with the tables")
    return found


def name_of(table: Path, given: Path) -> str:
    """What a table is called: its path below the folder that was given, or its name if it was given itself."""
    return table.name if table == given else table.relative_to(given).as_posix()


def _bare(name: str) -> str:
    """Without the suffix, as ids have it."""
    return str(PurePosixPath(name).with_suffix(""))


def _names(given: Path) -> list[str]:
    return [name_of(path, given) for path in given.rglob("*.csv")] if given.is_dir() else [given.name]


def _last(folder: Path, depth: int) -> str:
    """The last so many parts of a folder's path, each with / at the end."""
    parts = folder.resolve().parts[1:]
    return "".join(f"{part}/" for part in parts[max(len(parts) - depth, 0) :])


def starts_of(given: Sequence[Path]) -> list[str]:
    """For each table or folder of tables what goes before their names, so that no two tables are called the same.

    Nothing for those whose names differ anyhow; else as many of their last folders as tell them apart, with / at the
    end. Raises `DatasetError` for a table that is given twice.
    """
    names = [_names(path) for path in given]
    times = Counter(chain.from_iterable(names))
    shared = [any(times[name] > 1 for name in own) for own in names]
    folders = [path if path.is_dir() else path.parent for path in given]
    deepest = max((len(folder.resolve().parts) for folder in folders), default=1)
    for depth in range(deepest):
        starts = [_last(folder, depth) if clash else "" for folder, clash in zip(folders, shared, strict=True)]
        called = [start + name for start, own in zip(starts, names, strict=True) for name in own]
        if len(set(called)) == len(called):
            return starts
    raise DatasetError(f"{given[shared.index(True)]}: is given twice, by itself or with its folder; give it once")
