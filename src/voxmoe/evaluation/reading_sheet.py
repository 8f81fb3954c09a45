"""The sheets of a clinical validation: what a reader is given, and what comes back (mpLLM, Appendix B).

OUT/INSTRUCTIONS.md   what to do
OUT/reading.csv       one row a study, label and task; the reader fills in `answer`
OUT/questions.csv     one row an in-scope question; the reader fills in `valid` and, for answers of models, `sufficient`
OUT/manifest.json     studies, dataset, seed, and which model gave which response: not for the reader

The sheets hold nothing of the dataset's own answers. Files come back from spreadsheets: with commas or semicolons, with
a byte-order mark, in other letter case; everything else that differs is an error that names the row.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxmoe.errors import DatasetError, SheetError
from voxmoe.evaluation.agreement import Terms
from voxmoe.evaluation.predictions import read_predictions
from voxmoe.evaluation.provenance import dataset_record, versions
from voxmoe.evaluation.results import Record
from voxmoe.files import sha256, write_bytes, write_json
from voxmoe.vocabulary import ABSENT, CLASSES, EXCLUSIVE_TASKS, NO_REGION, NOT_ASKED, Kind, Task
from voxmoe.vqa.dataset import SPLITS, Dataset

READING, QUESTIONS, INSTRUCTIONS, MANIFEST = "reading.csv", "questions.csv", "INSTRUCTIONS.md", "manifest.json"
_READING_COLUMNS = ("study", "label", "label_name", "task", "allowed", "answer")
_QUESTION_COLUMNS = ("id", "study", "question", "valid")
Row = dict[str, Any]

Key = tuple[str, str, Task]
"""Study, label and task."""
Readings = Mapping[Key, Terms]

ALLOWED: Mapping[Task, tuple[str, ...]] = {
    task: tuple(name for name in CLASSES[task] if name != NOT_ASKED) + ((NO_REGION,) if task is Task.REGION else ())
    for task in Task
}
"""What may be answered to each task."""

_TEXT = """# Reading sheet

Please read these {studies} studies without looking at any segmentation, report or answer of a model.

## reading.csv

One row a study, label and task. Fill in the column `answer` of every row with a term of the column `allowed`:

{terms}

- volume: the volume of the label relative to the brain.
- region: all regions that the label touches, separated by semicolons; `{no_region}` if it touches none of them.
- shape: of the label as a whole. spread: one lesion, one dominant lesion with smaller ones beside it, or neither.
- `{absent}` in all four tasks if the label is not there.

## questions.csv

One row a question. Fill in `valid` with 1 if a clinician may ask it so and it is clear, else 0.{sufficient}

Save both files as CSV (UTF-8).
"""
_SUFFICIENT = """
For each question that is valid, fill in `sufficient_A` (`_B`, ..) with 1 if the response beside it is right and
complete, so that you would accept it as it stands, else 0."""


def answers_of(rows: Sequence[Row]) -> dict[Key, Terms]:
    """The dataset's own answer to each task about each label of each study that the rows ask about."""
    return {
        (row["study"], row["label"], Task(task)): (row[task],) if task in EXCLUSIVE_TASKS else tuple(row[task])
        for row in rows
        for task in row["tasks"]
    }


# ---------------------------------------------------------------------------------------------------------- going out


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")  # with the mark by which spreadsheets know UTF-8


def _responses(path: Path | None) -> dict[str, dict[str, str]]:
    """Method -> question id -> text, of the methods that wrote text."""
    found: dict[str, dict[str, str]] = {}
    for line in read_predictions(path) if path is not None else ():
        if line["text"] is not None:
            found.setdefault(line["method"], {})[line["id"]] = line["text"]
    if path is not None and not found:
        raise SheetError(f"{path}: holds no written answers; evaluate with --text --predictions")
    return found


def export(
    dataset: Dataset,
    out: Path,
    *,
    studies: int = 10,
    split: str = "test",
    seed: int = 0,
    predictions: Path | None = None,
) -> Record:
    """Write the sheets for some studies of a split, drawn by the seed; returns the manifest.

    With `predictions` the answers that models wrote stand beside the questions, as A, B, .. in an order that the seed
    draws. Raises `DatasetError` if there are fewer studies and `SheetError` if a sheet is there already.
    """
    if (out / READING).exists():
        raise SheetError(f"{out / READING}: is there already and may be filled in; choose another folder")
    rows = dataset.rows(split)
    names = sorted({row["study"] for row in rows})
    if len(names) < studies:
        raise DatasetError(f"{dataset.root}: its split {split} has {len(names)} studies, not {studies}; ask for fewer")
    generator = np.random.default_rng(seed)
    chosen = sorted(generator.choice(names, size=studies, replace=False).tolist())
    rows = [row for row in rows if row["study"] in chosen]
    labels = {row["label"]: row["label_name"] for row in rows}
    reading = [
        {"study": study, "label": key, "label_name": name, "task": task, "allowed": " | ".join(ALLOWED[task])}
        for study in chosen
        for key, name in labels.items()
        for task in Task
    ]
    responses = _responses(predictions)
    methods = generator.permutation(sorted(responses)).tolist()
    letters = {chr(ord("A") + place): method for place, method in enumerate(methods)}
    questions = [
        {
            **{name: row[name] for name in ("id", "study", "question")},
            **{f"response_{letter}": responses[method].get(row["id"], "") for letter, method in letters.items()},
        }
        for row in rows
        if row["kind"] == Kind.IN_SCOPE
    ]
    columns = [*_QUESTION_COLUMNS, *(f"{what}_{letter}" for letter in letters for what in ("response", "sufficient"))]
    terms = "\n".join(f"- {task}: {', '.join(f'`{term}`' for term in ALLOWED[task])}" for task in Task)
    text = _TEXT.format(
        studies=studies,
        terms=terms,
        no_region=NO_REGION,
        absent=ABSENT,
        sufficient=_SUFFICIENT if letters else "",
    )
    manifest = {
        "versions": versions(),
        "dataset": dataset_record(dataset),
        "split": split,
        "seed": seed,
        "studies": chosen,
        "labels": list(labels),
        "questions": len(questions),
        "responses": letters,
        "predictions": None if predictions is None else sha256(predictions),
    }
    write_bytes(out / INSTRUCTIONS, text.encode())
    write_bytes(out / READING, _table(_READING_COLUMNS, reading))
    write_bytes(out / QUESTIONS, _table(columns, questions))
    write_json(out / MANIFEST, manifest)
    return manifest


# -------------------------------------------------------------------------------------------------------- coming back


@dataclass(frozen=True)
class Line:
    """A row of a sheet with the number of its line in the file."""

    number: int
    cells: Mapping[str, str]


def _lines(path: Path, columns: Sequence[str]) -> list[Line]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SheetError(f"{path}: no such sheet; voxmoe readers export writes one") from None
    except UnicodeDecodeError:
        raise SheetError(f"{path}: not UTF-8; save it from the spreadsheet as CSV UTF-8") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), restkey="", restval=""
    )
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise SheetError(f"{path}: has no column {', '.join(missing)}; its first line names {', '.join(columns)}")
    lines = []
    for row in reader:
        cells = {name: (value or "").strip() for name, value in row.items() if name}
        if any(cells.values()):
            lines.append(Line(reader.line_num, cells))
    return lines


def _plain(term: str) -> str:
    return re.sub(r"\s+", "", re.sub(r"[‐‑‒–—−]", "-", term.lower()))


_BY_PLAIN = {task: {_plain(term): term for term in terms} for task, terms in ALLOWED.items()}


def _terms(task: Task, answer: str, where: str) -> Terms:
    """The terms of an answer; raises `SheetError` that says where it stands."""
    if not answer:
        raise SheetError(f"{where}: has no answer; every row needs one")
    parts = re.split(r"\s*[;,+&]\s*|\s+and\s+", answer) if task is Task.REGION else [answer]
    found = []
    for part in filter(None, parts):
        term = _BY_PLAIN[task].get(_plain(part))
        if term is None:
            raise SheetError(f"{where}: {part!r} is no {task}; there are {', '.join(ALLOWED[task])}")
        found.append(term)
    if len(found) > 1 and (alone := {ABSENT, NO_REGION} & set(found)):
        raise SheetError(f"{where}: {alone.pop()!r} stands beside regions; it stands alone or not at all")
    if len(set(found)) < len(found):
        raise SheetError(f"{where}: names a region twice")
    return tuple(sorted(found))


def _key(line: Line, where: str, studies: Sequence[str], labels: Sequence[str]) -> Key:
    study, label, task = (line.cells[name] for name in ("study", "label", "task"))
    for value, known, what in ((study, studies, "study"), (label, labels, "label"), (task, tuple(Task), "task")):
        if value not in known:
            raise SheetError(f"{where}: there is no {what} {value!r}; there are {', '.join(known)}")
    return study, label, Task(task)


def read_reading(path: Path, studies: Sequence[str], labels: Sequence[str]) -> dict[Key, Terms]:
    """The reader's answer to every task about every label of the studies.

    Raises `SheetError` naming the row that is missing, repeated, unknown or not answered.
    """
    found: dict[Key, Terms] = {}
    first: dict[Key, int] = {}
    for line in _lines(path, ("study", "label", "task", "answer")):
        where = f"{path}, line {line.number} ({line.cells['study']}, {line.cells['label']}, {line.cells['task']})"
        key = _key(line, where, studies, labels)
        if key in first:
            raise SheetError(f"{where}: stands already in line {first[key]}; keep one of them")
        first[key] = line.number
        found[key] = _terms(key[2], line.cells["answer"], where)
    for study in studies:
        for label in labels:
            for task in Task:
                if (study, label, task) not in found:
                    raise SheetError(f"{path}: the row {study}, {label}, {task} is missing; put it back and fill it in")
    return found


@dataclass(frozen=True)
class Judgements:
    """What the reader thinks of questions and responses: 1 or 0 by question id; responses only of valid questions."""

    valid: Mapping[str, int]
    sufficient: Mapping[str, Mapping[str, int]]
    """By the letter of the response."""


def _judgement(value: str, where: str, what: str) -> int:
    if value not in ("0", "1"):
        raise SheetError(f"{where}: {what} is {value!r}; it has to be 1 or 0")
    return int(value)


def read_questions(path: Path, ids: Sequence[str], letters: Sequence[str]) -> Judgements | None:
    """The reader's judgements of the questions; None if the sheet is not filled in at all.

    Raises `SheetError` naming the row that is missing, repeated, unknown or not judged.
    """
    marks = [f"sufficient_{letter}" for letter in letters]
    lines = _lines(path, ("id", "valid", *marks))
    if not any(line.cells[name] for line in lines for name in ("valid", *marks)):
        return None
    valid: dict[str, int] = {}
    sufficient: dict[str, dict[str, int]] = {letter: {} for letter in letters}
    for line in lines:
        name = line.cells["id"]
        where = f"{path}, line {line.number} ({name})"
        if name not in ids:
            raise SheetError(f"{where}: there is no such question in this export")
        if name in valid:
            raise SheetError(f"{where}: this question stands there twice; keep one row")
        valid[name] = _judgement(line.cells["valid"], where, "valid")
        if valid[name]:
            for letter in letters:
                mark = f"sufficient_{letter}"
                sufficient[letter][name] = _judgement(line.cells[mark], where, mark)
    if missing := [name for name in ids if name not in valid]:
        raise SheetError(f"{path}: the row of {missing[0]} is missing; put it back and fill it in")
    return Judgements(valid, sufficient)


def read_manifest(folder: Path) -> Record:
    """What was exported into a folder; raises `SheetError` if nothing was, or what says so is damaged."""
    path = folder / MANIFEST
    try:
        manifest: Record = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise SheetError(f"{folder}: no reading was exported here; voxmoe readers export DATASET {folder}") from None
    except ValueError as error:
        raise SheetError(f"{path}: is damaged ({error}); export again with the same seed into another folder") from None
    if not (isinstance(manifest, dict) and {"studies", "labels", "responses"} <= manifest.keys()):
        raise SheetError(f"{path}: is of no reading; name the folder that voxmoe readers export wrote")
    return manifest


def rows_about(dataset: Dataset, studies: Sequence[str]) -> list[Row]:
    """The dataset's rows about some studies; raises `DatasetError` if it has none about one of them."""
    rows = [row for split in SPLITS for row in dataset.rows(split) if row["study"] in studies]
    if missing := sorted(set(studies) - {row["study"] for row in rows}):
        raise DatasetError(f"{dataset.root}: has no study {missing[0]}; score a sheet with the dataset it came from")
    return rows
