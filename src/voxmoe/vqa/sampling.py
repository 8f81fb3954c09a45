"""Which questions are asked about a study: drawn, recorded, then applied (mpLLM, section 3.2.1).

For each label: four multi-task questions of distinct types that together ask every task, one partially out of scope
and one completely out of scope. A study's draws depend on the seed and the study's id alone, not on its place in the
cohort; no question of a study is drawn twice.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import TASK_COMBINATIONS, Kind, Label, Profile, Task
from voxmoe.vqa.findings import LabelFindings
from voxmoe.vqa.wordings import Bank, Tasks

MULTI_TASK_QUESTIONS = 4


@dataclass(frozen=True)
class Draw:
    """The record from which a question and its answer are rebuilt."""

    label: str
    kind: Kind
    tasks: Tasks
    question: int
    answer: int


@dataclass(frozen=True)
class Question:
    """A question with its answer, ready to be asked."""

    draw: Draw
    text: str
    answer: str
    topic: str | None


def _study_generator(seed: int, study_id: str) -> np.random.Generator:
    digest = hashlib.sha256(study_id.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _multi_task_types(generator: np.random.Generator) -> list[Tasks]:
    """Four distinct types, uniform among the sets that cover all tasks (by rejection)."""
    while True:
        chosen = generator.choice(len(TASK_COMBINATIONS), size=MULTI_TASK_QUESTIONS, replace=False)
        types = [TASK_COMBINATIONS[index] for index in chosen]
        if {task for tasks in types for task in tasks} == set(Task):
            return types


def _draw_one(
    generator: np.random.Generator, label: Label, kind: Kind, tasks: Tasks, used: set[tuple[Kind, Tasks, int]]
) -> Draw:
    bank = Bank(kind, tasks)
    while True:
        question = int(generator.integers(bank.questions))
        if (kind, tasks, question) not in used:
            used.add((kind, tasks, question))
            return Draw(label.key, kind, tasks, question, int(generator.integers(bank.answers)))


def draw_questions(study_id: str, profile: Profile, seed: int) -> Iterator[Draw]:
    """The draws for one study: six for each label of the profile, whether the label is present or not."""
    generator = _study_generator(seed, study_id)
    used: set[tuple[Kind, Tasks, int]] = set()
    for label in profile.labels:
        for tasks in _multi_task_types(generator):
            yield _draw_one(generator, label, Kind.IN_SCOPE, tasks, used)
        partial = TASK_COMBINATIONS[int(generator.integers(len(TASK_COMBINATIONS)))]
        yield _draw_one(generator, label, Kind.PARTIAL, partial, used)
        yield _draw_one(generator, label, Kind.OUT_OF_SCOPE, (), used)


def listed(terms: tuple[str, ...]) -> str:
    """ "a", "a and b", "a, b and c": how answers name several regions."""
    return " and ".join((", ".join(terms[:-1]), terms[-1])) if len(terms) > 1 else terms[0]


def apply_draw(draw: Draw, profile: Profile, findings: Mapping[str, LabelFindings]) -> Question:
    """The question and answer of a draw; raises `DatasetError` if the findings cannot answer it."""
    label = next(label for label in profile.labels if label.key == draw.label)
    wording = Bank(draw.kind, draw.tasks).wording(draw.question, draw.answer)
    terms = {"label": label.name}
    for task in draw.tasks:
        answer = findings[label.key].answer(task)
        if not answer:
            reasons = "; ".join(findings[label.key].reasons.values())
            raise DatasetError(f"the {task} of {label.key} cannot be answered: {reasons}")
        terms["regions" if task is Task.REGION else str(task)] = listed(answer)
    return Question(draw, wording.question.format(**terms), wording.answer.format(**terms), wording.topic)
