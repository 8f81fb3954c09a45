"""Answers as numbers for the heads and back (mpLLM, section 3.2.2). Class 0 of volume, shape and spread is "not
asked"."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from voxmoe.vocabulary import ABSENT, CLASSES, EXCLUSIVE_TASKS, NO_REGION, NOT_ASKED, Kind, Task
from voxmoe.vqa.findings import LabelFindings


class Targets(TypedDict):
    """What the heads should say: a class of each exclusive task, 0 or 1 for each entry of region, and out of scope."""

    volume: int
    region: list[int]
    shape: int
    spread: int
    out_of_scope: int


def encode(kind: Kind, answers: Mapping[Task, Sequence[str]]) -> Targets:
    """Targets from the answer terms of the tasks that were asked."""
    exclusive = {
        task: CLASSES[task].index(answers[task][0] if task in answers else NOT_ASKED) for task in EXCLUSIVE_TASKS
    }
    named = set(answers.get(Task.REGION, (NOT_ASKED,)))
    return Targets(
        volume=exclusive[Task.VOLUME],
        region=[int(name in named) for name in CLASSES[Task.REGION]],
        shape=exclusive[Task.SHAPE],
        spread=exclusive[Task.SPREAD],
        out_of_scope=int(kind is not Kind.IN_SCOPE),
    )


NOTHING = encode(Kind.IN_SCOPE, {})
"""No answer to any task."""


def encode_findings(found: LabelFindings) -> Targets:
    """What is measured of a label as an answer to all tasks; "not asked" where it cannot be."""
    answers = {task: found.answer(task) for task in Task}
    return encode(Kind.IN_SCOPE, {task: terms for task, terms in answers.items() if terms})


def decode_region(entries: Sequence[int]) -> tuple[str, ...]:
    """The terms that a 0/1 vector stands for: regions, "N/A", "not asked", or "no labelled region" if all are 0."""
    names = tuple(name for name, on in zip(CLASSES[Task.REGION], entries, strict=True) if on)
    for exclusive in (NOT_ASKED, ABSENT):
        if exclusive in names:
            return (exclusive,)
    return names or (NO_REGION,)
