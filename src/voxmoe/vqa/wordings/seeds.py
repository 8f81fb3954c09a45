"""The 15 questions with answers of which the paper's wordings were made: its Appendix A, as printed. Pure data."""

from collections.abc import Mapping
from typing import NamedTuple

from voxmoe.errors import QuestionError
from voxmoe.vocabulary import TASK_COMBINATIONS, Profile, Task


class Seed(NamedTuple):
    """A question template with its answer template."""

    question: str
    answer: str


_PRINTED = (
    Seed("How large is the volume covered by {label}?", "The overall volume of {label} is {volume}."),
    Seed("Which region(s) of the brain is {label} located in?", "The {label} is located in {regions}."),
    Seed("What is the shape of {label}?", "The shape of {label} is {shape}."),
    Seed("How spread out is {label}?", "The spread of {label} is {spread}."),
    Seed(
        "How large is the volume of {label} and where is it located?",
        "The overall volume of {label} is {volume}, and it is located in {regions}.",
    ),
    Seed(
        "How large is the volume of {label} and what is its shape?",
        "The overall volume of {label} is {volume}, and its shape is described as {shape}.",
    ),
    Seed(
        "How large is the volume of {label} and how spread out is it?",
        "The overall volume of {label} is {volume}, and it is characterized as {spread}.",
    ),
    Seed(
        "In which region is {label} and what is its shape?",
        "The {label} is located in {regions}, and its shape is described as {shape}.",
    ),
    Seed(
        "In which region is {label} and how spread out is it?",
        "The {label} is located in {regions}, and it is characterized as {spread}.",
    ),
    Seed(
        "What is the shape of {label} and how spread out is it?",
        "The shape of {label} is described as {shape}, and it is characterized as {spread}.",
    ),
    Seed(
        "What is the volume, region, and shape of {label}?",
        "The overall volume of {label} is {volume}, it is located in {regions}, and its shape is described as {shape}.",
    ),
    Seed(
        "What is the volume, region, and spread of {label}?",
        "The overall volume of {label} is {volume}, it is located in {regions}, and it is characterized as {spread}.",
    ),
    Seed(
        "What is the volume, shape, and spread of {label}?",
        "The overall volume of {label} is {volume}, its shape is described as {shape}, and it is characterized as "
        "{spread}.",
    ),
    Seed(
        "What is the region, shape, and spread of {label}?",
        "The {label} is located in {regions}, its shape is described as {shape}, and it is characterized as {spread}.",
    ),
    Seed(
        "What is the volume, region, shape, and spread of {label}?",
        "The overall volume of {label} is {volume}, it is located in {regions}, its shape is described as {shape}, and "
        "it is characterized as {spread}.",
    ),
)
SEEDS: Mapping[tuple[Task, ...], Seed] = dict(zip(TASK_COMBINATIONS, _PRINTED, strict=True))
"""By question type, in the order of the appendix."""


def seed_question(tasks: tuple[Task, ...]) -> Seed:
    """The paper's own question about a set of tasks, in any order; raises `QuestionError` if there is none."""
    ordered = tuple(task for task in Task if task in tasks)
    if ordered not in SEEDS:
        raise QuestionError(f"the paper asks about {', '.join(Task)}, not about {', '.join(tasks) or 'nothing'}")
    return SEEDS[ordered]


def template_prompts(profile: Profile) -> dict[tuple[str, tuple[Task, ...]], str]:
    """The seed questions about every label: by label and type, the 60 template prompts of Figure 3 for `gli-2024`."""
    return {
        (label.key, tasks): seed.question.format(label=label.name)
        for label in profile.labels
        for tasks, seed in SEEDS.items()
    }
