"""Own data: a CSV or JSONL file of our own schema, and a validator that names every problem with its line.

Columns (keys, in JSONL): `image`, `patient`, `task` (report, closed, open) and `answer` are needed, `question` too but
for reports. Closed questions have `choice_a`, `choice_b`, .. up to `choice_h` (in JSONL, one list `choices`), one of
which is the answer. `id`, `kind`, `split` (train, validation, test), `slice` and the pair `slope`, `intercept` may be
left out or empty.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmoe.errors import DatasetError
from voxmoe.files import inside
from voxmoe.imaging.dicom import is_dicom
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import LETTERS, REPORT_PROMPT, Exchange
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.tables import Row, read_csv, read_json_lines
from voxmoe.vqa.dataset import SPLITS

NAME = "own"
NEEDED = ("image", "patient", "task", "answer")
TEXTS = ("question", "id", "kind", "split")
NUMBERS = ("slice", "slope", "intercept")
CHOICES = tuple(f"choice_{letter.lower()}" for letter in LETTERS)
COLUMNS = (*NEEDED, *TEXTS, *NUMBERS)
_SLICES = 100_000
"""More than any CT has."""


def rows(path: Path) -> Iterator[Row]:
    """A row with a list of choices, from either form."""
    if path.suffix not in (".csv", ".jsonl"):
        raise DatasetError(f"{path}: own data is a .csv or a .jsonl file")
    if path.suffix == ".jsonl":
        yield from _with_split(read_json_lines(path))
        return
    for row in _with_split(read_csv(path, NEEDED)):
        cells = {name: cell for name, cell in row.cells.items() if name not in CHOICES}
        choices = [row.cells.get(name, "") for name in CHOICES]
        while choices and not choices[-1]:
            choices.pop()
        yield Row(row.place, row.id, {**cells, "choices": choices}, row.split, row.broken)


def _with_split(found: Iterator[Row]) -> Iterator[Row]:
    for row in found:
        yield Row(row.place, row.id, row.cells, row.cells.get("split") or None, row.broken)


def _number(value: Any) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def _text_problems(cells: Mapping[str, Any]) -> Iterator[str]:
    for name in cells.keys() - {*COLUMNS, "choices"}:
        yield f"{name}: no such column; there are {', '.join(COLUMNS)}, and choices"
    for name in (*NEEDED, *TEXTS):
        if cells.get(name) is not None and not isinstance(cells[name], str):
            yield f"{name}: is {cells[name]!r}; text is needed"
        elif name in NEEDED and not cells.get(name):
            yield f"{name}: is missing or empty"
    tasks = [str(task) for task in CTTask]
    if cells.get("task") and cells["task"] not in tasks:
        yield f"task: is {cells['task']!r}; there are {', '.join(tasks)}"
    if cells.get("task") in ("closed", "open") and not cells.get("question"):
        yield "question: is missing or empty; only reports do without"
    if cells.get("split") and cells["split"] not in SPLITS:
        yield f"split: is {cells['split']!r}; there are {', '.join(SPLITS)}"


def _choice_problems(cells: Mapping[str, Any]) -> Iterator[str]:
    choices, closed = cells.get("choices") or [], cells.get("task") == "closed"
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        yield f"choices: are {choices!r}; a list of texts is needed"
    elif not closed and choices:
        yield f"choices: {len(choices)} are given; only closed questions have some"
    elif closed and not 2 <= len(choices) <= len(LETTERS):
        yield f"choices: {len(choices)} are given; 2 to {len(LETTERS)} are needed"
    elif not all(choice.strip() for choice in choices):
        yield f"choices: {LETTERS[[bool(choice.strip()) for choice in choices].index(False)]} is empty"
    elif len(set(choices)) < len(choices):
        yield f"choices: {choices} do not all differ"
    elif closed and cells.get("answer") and cells["answer"] not in choices:
        yield f"answer: {cells['answer']!r} is none of the choices {choices}"


def _number_problems(cells: Mapping[str, Any]) -> Iterator[str]:
    given = {name: cells[name] for name in NUMBERS if cells.get(name) not in (None, "")}
    numbers = {name: _number(value) for name, value in given.items()}
    for name, number in numbers.items():
        if number is None:
            yield f"{name}: is {given[name]!r}; a number is needed"
    place = numbers.get("slice")
    if place is not None and not (0 <= place < _SLICES and place == int(place)):
        yield f"slice: is {given['slice']}; a whole number from 0 to {_SLICES - 1} is needed"
    if ("slope" in given) != ("intercept" in given):
        yield "slope, intercept: one is given without the other"
    if numbers.get("slope") == 0:
        yield "slope: is 0"


def _image_problems(cells: Mapping[str, Any], images: Path | None) -> Iterator[str]:
    name = cells.get("image")
    if images is None or not name or not isinstance(name, str):
        return
    try:
        path = inside(images, name)
        if not os.path.exists(path):  # noqa: PTH110 - False, too, for names that no file can have
            yield f"image: {name}: no such file in {images}"
        elif not path.is_dir() and is_dicom(path):
            yield f"image: {name}: is a single DICOM file; name the folder of its series, one that holds no other"
    except DatasetError as error:
        yield f"image: {error}"


def problems(cells: Mapping[str, Any], images: Path | None = None) -> list[str]:
    """All that is wrong with one row, each "column: what"; images are looked for if their folder is given."""
    return [
        *_text_problems(cells),
        *_choice_problems(cells),
        *_number_problems(cells),
        *_image_problems(cells, images),
    ]


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    cells = row.cells
    if found := problems(cells, terms.images if terms.check_files else None):
        raise DatasetError("; ".join(found))
    numbers = {name: _number(cells[name]) for name in NUMBERS if cells.get(name) not in (None, "")}
    slope, intercept, place = numbers.get("slope"), numbers.get("intercept"), numbers.get("slice")
    yield Exchange(
        cells.get("id") or f"{NAME}/{row.id}",
        NAME,
        cells["image"],
        cells["patient"],
        CTTask(cells["task"]),
        cells.get("kind") or cells["task"],
        cells.get("question") or REPORT_PROMPT,
        cells["answer"],
        tuple(cells.get("choices") or ()),
        None if place is None else int(place),
        None if slope is None or intercept is None else (slope, intercept),
    )


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    rows: int
    problems: tuple[str, ...]
    """FILE:LINE: column: what, in the order of the lines."""


class _Across:
    """What rows say that another row contradicts."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, str], tuple[str, str]] = {}
        self.rescales: dict[str, tuple[str, str]] = {}

    def problems(self, row: Row) -> Iterator[str]:
        cells = {name: value for name, value in row.cells.items() if isinstance(value, str)}
        for name, value in (("id", "place"), ("image", "patient"), ("patient", "split")):
            key, said = cells.get(name), row.place if value == "place" else cells.get(value, "")
            if not key:
                continue
            earlier, place = self.first.setdefault((name, key), (said, row.place))
            if value == "place" and place != row.place:
                yield f"id: {key} is the id of {place} too"
            elif value != "place" and earlier != said:
                yield f"{value}: is {said or 'empty'} for {key}, and {earlier or 'empty'} in {place}"
        yield from self._rescale_problems(row)

    def _rescale_problems(self, row: Row) -> Iterator[str]:
        image, slope, intercept = row.cells.get("image"), *map(_number, map(row.cells.get, ("slope", "intercept")))
        whole = (slope is None) == (intercept is None) and slope != 0  # else the row is told of by itself
        if not (whole and image and isinstance(image, str)):
            return
        said = "empty" if slope is None else f"{slope:g} and {intercept:g}"
        earlier, place = self.rescales.setdefault(image, (said, row.place))
        if earlier != said:
            yield f"slope, intercept: are {said} for {image}, and {earlier} in {place}"


def validate(path: Path, images: Path | None = None) -> Validation:
    """All problems of a file of own data; raises `DatasetError` only where it cannot be read as a table at all."""
    found: list[str] = []
    across, number = _Across(), 0
    for row in rows(path):
        number += 1
        told = [row.broken] if row.broken else [*problems(row.cells, images), *across.problems(row)]
        found += [f"{row.place}: {problem}" for problem in told]
    return Validation(number, tuple(found) if number else (f"{path.name}: holds no row",))


OWN = Format(NAME, "own data (CSV or JSONL)", rows, exchanges)
