"""What every source of wordings offers: banks of numbered questions with their answers, as templates.

There are two sources, the grammar (`grammar.py`) and a file of what a language model wrote (`file.py`);
nothing that draws, fills in or rebuilds questions knows which it has.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from voxmoe.vocabulary import TASK_COMBINATIONS, Kind, Task

Tasks = tuple[Task, ...]

QUESTION_TYPES: tuple[tuple[Kind, Tasks], ...] = (
    *((kind, tasks) for kind in (Kind.IN_SCOPE, Kind.PARTIAL) for tasks in TASK_COMBINATIONS),
    (Kind.OUT_OF_SCOPE, ()),
)
"""Every bank that a source should have."""


def type_name(kind: Kind, tasks: Tasks) -> str:
    """ "in-scope volume+region": how a question type is called in messages and counts."""
    return " ".join(filter(None, (str(kind), "+".join(tasks))))


PLACEHOLDERS = {Task.VOLUME: "{volume}", Task.REGION: "{regions}", Task.SHAPE: "{shape}", Task.SPREAD: "{spread}"}
"""Where an answer says what was found. The label's name stands for {label}, in questions too."""


@dataclass(frozen=True)
class Wording:
    """A question template with its answer template, and the answer if the label is not there at all.

    `topic` names the kinds of what is out of scope, joined by commas: None if nothing is, or if the source does not
    say.
    """

    question: str
    answer: str
    absent: str
    topic: str | None = None


class Bank(ABC):
    """All wordings of one kind of question about a set of tasks (none if completely out of scope)."""

    questions: int
    """How many distinct questions there are."""
    answers: int
    """How many forms of answer go with each question."""

    @abstractmethod
    def wording(self, question: int, answer: int) -> Wording:
        """The wording with these numbers; raises `IndexError` outside `questions` and `answers`."""


class Wordings(ABC):
    """A source of wordings."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What rows record: the same source gives the same wording for the same numbers."""

    @abstractmethod
    def bank(self, kind: Kind, tasks: Tasks) -> Bank:
        """The bank of a question type; raises `DatasetError` if the source has none."""
