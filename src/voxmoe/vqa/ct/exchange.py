"""What is said about a CT: a question with its answer, or a report. One schema for every source.

A closed question is put as M3D puts it, "question Choices: A. .. B. ..", and answered "A. text"; the same row without
its choices is an open one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask

LETTERS = "ABCDEFGH"
REPORT_PROMPT = "Describe the findings of this CT scan."
"""What a report is asked for by, where its source has no words for it."""


@dataclass(frozen=True)
class Exchange:
    """One row: something asked about a volume and what is answered."""

    id: str
    """Unique within a dataset."""
    source: str
    """Where it comes from: the name of a published format, `phantom`, or that of own data."""
    image: str
    """The volume: a path relative to the dataset's folder of images, with forward slashes."""
    patient: str
    """Whom the volume is of: splits and intervals are by patient."""
    task: CTTask
    kind: str
    """The kind of question within its task, as its source names it, e.g. plane, organ; `report` for reports."""
    question: str
    """Without choices."""
    answer: str
    """Its text, without a letter."""
    choices: tuple[str, ...] = ()
    """Of a closed question, in the order of the letters; none for others."""
    slice: int | None = None
    """The number of the slice, from inferior, that alone is asked about; None: the whole volume."""
    rescale: tuple[float, float] | None = None
    """Slope and intercept that nobody has applied yet to the values of the file; None where they are in HU."""

    def __post_init__(self) -> None:
        if not self.question.strip() or not self.answer.strip():
            raise DatasetError(f"{self.id}: its {'answer' if self.question.strip() else 'question'} is empty")
        if (self.task is CTTask.CLOSED) != bool(self.choices):
            raise DatasetError(f"{self.id}: is {self.task} and has {len(self.choices)} choices; closed ones have some")
        if self.choices and (len(set(self.choices)) < len(self.choices) or not 2 <= len(self.choices) <= len(LETTERS)):
            raise DatasetError(
                f"{self.id}: its choices are {list(self.choices)}; 2 to {len(LETTERS)} that differ are needed"
            )
        if self.choices and self.answer not in self.choices:
            raise DatasetError(f"{self.id}: its answer {self.answer!r} is none of its choices {list(self.choices)}")

    @property
    def letter(self) -> str | None:
        """Of the right choice."""
        return LETTERS[self.choices.index(self.answer)] if self.choices else None

    @property
    def prompt(self) -> str:
        """What a model is asked."""
        return prompt_of(self.question, self.choices)

    @property
    def target(self) -> str:
        """What a model should say."""
        return self.told(with_letter=True)

    def told(self, with_letter: bool) -> str:
        """What a model should say that answers closed questions by letter and text, or by the text alone."""
        return answers_of(self.choices, with_letter)[self.choices.index(self.answer)] if self.choices else self.answer


def lettered(choices: Sequence[str]) -> list[str]:
    """Choices with their letters, "A. ..", as they are asked and answered."""
    return [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]


def answers_of(choices: Sequence[str], with_letter: bool) -> list[str]:
    """Choices as a model should say them, "A. .." or the text alone."""
    return lettered(choices) if with_letter else list(choices)


def prompt_of(question: str, choices: Sequence[str] = ()) -> str:
    """What a model is asked: a closed question has its choices behind it."""
    return question + (f" Choices: {' '.join(lettered(choices))}" if choices else "")


def to_row(exchange: Exchange) -> dict[str, Any]:
    """As it stands in a Parquet file (`voxmoe.vqa.ct.dataset`)."""
    rescale = exchange.rescale
    return {
        "id": exchange.id,
        "source": exchange.source,
        "image": exchange.image,
        "patient": exchange.patient,
        "task": str(exchange.task),
        "kind": exchange.kind,
        "question": exchange.question,
        "choices": list(exchange.choices),
        "letter": exchange.letter,
        "answer": exchange.answer,
        "slice": exchange.slice,
        "rescale": None if rescale is None else {"slope": rescale[0], "intercept": rescale[1]},
    }


def from_row(row: Mapping[str, Any]) -> Exchange:
    """Raises `DatasetError` for a row that is none."""
    rescale = row["rescale"]
    return Exchange(
        id=row["id"],
        source=row["source"],
        image=row["image"],
        patient=row["patient"],
        task=CTTask(row["task"]),
        kind=row["kind"],
        question=row["question"],
        answer=row["answer"],
        choices=tuple(row["choices"]),
        slice=row["slice"],
        rescale=None if rescale is None else (rescale["slope"], rescale["intercept"]),
    )
