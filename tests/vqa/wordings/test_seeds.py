"""The paper's own questions: 15 types, 60 prompts for its glioma labels."""

import re

import pytest

from voxmoe.errors import QuestionError
from voxmoe.vocabulary import PROFILES_BY_NAME, TASK_COMBINATIONS, Task
from voxmoe.vqa.wordings.bank import PLACEHOLDERS
from voxmoe.vqa.wordings.seeds import SEEDS, seed_question, template_prompts


def test_each_type_has_one_and_it_fits() -> None:
    assert tuple(SEEDS) == TASK_COMBINATIONS
    for tasks, seed in SEEDS.items():
        assert re.findall(r"\{\w+\}", seed.question) == ["{label}"]
        assert re.findall(r"\{\w+\}", seed.answer) == ["{label}", *(PLACEHOLDERS[task] for task in tasks)]
    assert len({seed.question for seed in SEEDS.values()}) == 15


def test_single_seeds() -> None:
    assert seed_question((Task.REGION,)).question == "Which region(s) of the brain is {label} located in?"
    assert seed_question((Task.SPREAD, Task.VOLUME)) == seed_question((Task.VOLUME, Task.SPREAD))
    assert seed_question((Task.VOLUME, Task.SPREAD)).answer == (
        "The overall volume of {label} is {volume}, and it is characterized as {spread}."
    )
    assert seed_question(tuple(Task)).question == "What is the volume, region, shape, and spread of {label}?"


def test_nothing_asked_has_no_seed() -> None:
    with pytest.raises(QuestionError, match="volume, region, shape, spread, not about nothing"):
        seed_question(())


def test_the_60_template_prompts_of_figure_3() -> None:
    prompts = template_prompts(PROFILES_BY_NAME["gli"])
    assert len(set(prompts.values())) == len(prompts) == 60
    assert prompts["RC", (Task.SHAPE,)] == "What is the shape of Resection Cavity?"
    assert [key for key, _ in prompts][::15] == ["NETC", "SNFH", "ET", "RC"]
