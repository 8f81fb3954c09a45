"""A file of wordings as a source: JSON lines, one wording each, numbered in the order of the file within their type.

    {"kind": "in-scope", "tasks": ["volume"], "question": "How big is {label}?", "answer": "{label} takes {volume}."}

`voxmoe wordings` writes such files; they can be written or edited by hand too. A row that was drawn from one records
the file's sha256.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from voxmoe.errors import DatasetError
from voxmoe.files import write_bytes
from voxmoe.settings import Settings
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Bank, Tasks, Wording, Wordings, type_name
from voxmoe.vqa.wordings.checks import same_words, template_fault
from voxmoe.vqa.wordings.grammar import GRAMMAR


class Entry(Settings):
    """A line of the file."""

    kind: Kind
    tasks: tuple[Task, ...]
    question: str
    answer: str
    topic: str | None = None
    """What is out of scope, if that is known."""


class FileBank(Bank):
    """The wordings of one type; every question has its own answer."""

    def __init__(self, wordings: list[Wording]) -> None:
        self._wordings = wordings
        self.questions = len(wordings)
        self.answers = 1

    def wording(self, question: int, answer: int) -> Wording:
        if not (0 <= question < self.questions and answer == 0):
            raise IndexError(f"no wording {question}/{answer}")
        return self._wordings[question]


class FileWordings(Wordings):
    """The banks of a file."""

    def __init__(self, path: Path, source: str, banks: dict[tuple[Kind, Tasks], FileBank]) -> None:
        self._path = path
        self._source = source
        self._banks = banks

    @property
    def source(self) -> str:
        return self._source

    def bank(self, kind: Kind, tasks: Tasks) -> FileBank:
        try:
            return self._banks[kind, tasks]
        except KeyError:
            raise DatasetError(f"{self._path}: has no wording of {type_name(kind, tasks)}") from None


def file_source(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_wordings(path: Path, entries: Iterable[Entry]) -> str:
    """Write a file of wordings; returns its name as a source."""
    lines = (entry.model_dump_json(exclude_none=True) for entry in entries)
    content = "".join(f"{line}\n" for line in lines).encode()
    write_bytes(path, content)
    return file_source(content)


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        entry = Entry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(
            f"{path}, line {number}: not a wording: {where + ': ' if where else ''}{first['msg']}"
        ) from None
    fault = template_fault(entry.tasks, entry.question, entry.answer)
    if (entry.kind, entry.tasks) not in QUESTION_TYPES:
        fault = f"there is no question type {type_name(entry.kind, entry.tasks)}"
    if fault:
        raise DatasetError(f"{path}, line {number}: {fault}: {entry.question!r}, {entry.answer!r}")
    return entry


def read_wordings(path: Path) -> FileWordings:
    """The wordings of a file; raises `DatasetError` at the first line that cannot be used or says a question again."""
    try:
        content = path.read_bytes()
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as a file of wordings: {error}") from None
    found: dict[tuple[Kind, Tasks], list[Wording]] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        entry = _entry(path, number, line)
        if (first := seen.setdefault(same_words(entry.question), number)) != number:
            raise DatasetError(f"{path}, line {number}: asks the same as line {first}: {entry.question!r}")
        wordings = found.setdefault((entry.kind, entry.tasks), [])
        wordings.append(Wording(entry.question, entry.answer, entry.answer, entry.topic))
    return FileWordings(path, file_source(content), {key: FileBank(value) for key, value in found.items()})


def open_wordings(path: Path | None) -> Wordings:
    """The source of wordings that a path stands for: a file of them, or the grammar for None."""
    return GRAMMAR if path is None else read_wordings(path)


@lru_cache(maxsize=2)
def wordings_from(path: Path | None, source: str) -> Wordings:
    """The same, read once a process; raises `DatasetError` if it is no longer the source of that name."""
    wordings = open_wordings(path)
    if wordings.source != source:
        raise DatasetError(f"{path or 'the grammar'}: is {wordings.source} here, not {source} as where the build began")
    return wordings
