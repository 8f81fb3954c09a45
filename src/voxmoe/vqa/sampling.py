"""Which questions are asked about a study: drawn, recorded, then applied (mpLLM, section 3.2.1).

For each label: four multi-task questions of distinct types that together ask every task, one partially out of scope
and one completely out of scope. A study's draws depend on the seed, the study's id, the source of wordings and the type
weights alone, not on its place in the cohort; no question of a study is drawn twice.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import ABSENT, EXCLUSIVE_TASKS, NO_REGION, Kind, Label, Profile, Task
from voxmoe.vqa.findings import LabelFindings
from voxmoe.vqa.type_weights import UNIFORM, TypeWeights, type_drawer
from voxmoe.vqa.wordings.bank import PLACEHOLDERS, QUESTION_TYPES, Tasks, Wordings, type_name
from voxmoe.vqa.wordings.grammar import GRAMMAR


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


def check_enough(wordings: Wordings, labels: int) -> None:
    """Raise `DatasetError` unless a study of so many labels can be asked without saying a question twice."""
    for kind, tasks in QUESTION_TYPES:
        found = wordings.bank(kind, tasks).questions
        if found < labels:
            raise DatasetError(
                f"{wordings.source}: {found} wordings of {type_name(kind, tasks)}, but a study of {labels} labels "
                f"may need {labels} without repeating one; make more with voxmoe wordings"
            )


def draw_questions(
    study_id: str, profile: Profile, seed: int, wordings: Wordings = GRAMMAR, weights: TypeWeights = UNIFORM
) -> Iterator[Draw]:
    """The draws for one study: six for each label of the profile, whether the label is present or not."""
    generator = _study_generator(seed, study_id)
    types = type_drawer(weights)
    used: set[tuple[Kind, Tasks, int]] = set()

    def draw(label: Label, kind: Kind, tasks: Tasks) -> Draw:
        bank = wordings.bank(kind, tasks)
        while True:
            question = int(generator.integers(bank.questions))
            if (kind, tasks, question) not in used:
                used.add((kind, tasks, question))
                return Draw(label.key, kind, tasks, question, int(generator.integers(bank.answers)))

    for label in profile.labels:
        for tasks in types.four(generator):
            yield draw(label, Kind.IN_SCOPE, tasks)
        yield draw(label, Kind.PARTIAL, types.one(generator))
        yield draw(label, Kind.OUT_OF_SCOPE, ())


def listed(terms: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c": how answers name several regions."""
    return " and ".join((", ".join(terms[:-1]), terms[-1])) if len(terms) > 1 else terms[0]


def _filled(
    draw: Draw, name: str, present: bool, answers: Mapping[Task, Sequence[str]], wordings: Wordings
) -> Question:
    wording = wordings.bank(draw.kind, draw.tasks).wording(draw.question, draw.answer)
    terms = {PLACEHOLDERS[task].strip("{}"): listed(answers[task]) for task in draw.tasks}
    answer = wording.answer if present else wording.absent
    return Question(draw, wording.question.format(label=name), answer.format(label=name, **terms), wording.topic)


def apply_draw(
    draw: Draw, profile: Profile, findings: Mapping[str, LabelFindings], wordings: Wordings = GRAMMAR
) -> Question:
    """The question and answer of a draw; raises `DatasetError` if the findings cannot answer it."""
    label = next(label for label in profile.labels if label.key == draw.label)
    found = findings[label.key]
    answers = {task: found.answer(task) for task in draw.tasks}
    for task, terms in answers.items():
        if not terms:
            raise DatasetError(f"the {task} of {label.key} cannot be answered: {'; '.join(found.reasons.values())}")
    return _filled(draw, label.name, found.present, answers, wordings)


def _answers_in(found: Mapping[str, Any]) -> dict[Task, tuple[str, ...]]:
    """The answer terms to every task in the JSON form of a label's findings."""
    regions = tuple(found["regions"]) or (NO_REGION,)
    return {
        Task.REGION: regions if found["present"] else (ABSENT,),
        **{task: (found[task]["category"],) for task in EXCLUSIVE_TASKS},
    }


def rebuild(row: Mapping[str, Any], findings: Mapping[str, Any], wordings: Wordings = GRAMMAR) -> Question:
    """Question and answer of a dataset's row from its record alone, as they were when it was made.

    `findings` are the study's in their JSON form, as meta/studies.json keeps them. Raises `DatasetError` if the row
    was drawn from another source of wordings.
    """
    record = row["draw"]
    if record["source"] != wordings.source:
        raise DatasetError(f"{row['id']}: was drawn from {record['source']}, not from {wordings.source}")
    tasks = tuple(Task(task) for task in row["tasks"])
    draw = Draw(row["label"], Kind(row["kind"]), tasks, record["question"], record["answer"])
    found = findings["labels"][draw.label]
    return _filled(draw, row["label_name"], found["present"], _answers_in(found), wordings)
