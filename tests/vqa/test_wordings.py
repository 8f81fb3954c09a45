"""The grammar's banks: big enough, distinct, and every wording a sentence with the right placeholders."""

import re
from itertools import chain

import numpy as np
import pytest

from voxmoe.vocabulary import TASK_COMBINATIONS, Kind, Task
from voxmoe.vqa.wordings import Bank, Tasks, Wording

PLACEHOLDERS = {Task.VOLUME: "volume", Task.REGION: "regions", Task.SHAPE: "shape", Task.SPREAD: "spread"}
BANKS = [
    *(Bank(kind, tasks) for kind in (Kind.IN_SCOPE, Kind.PARTIAL) for tasks in TASK_COMBINATIONS),
    Bank(Kind.OUT_OF_SCOPE, ()),
]
SMALL = [bank for bank in BANKS if bank.questions < 15_000]


def name(bank: Bank) -> str:
    return f"{bank.kind}-{'+'.join(bank.tasks)}"


def fields(text: str) -> list[str]:
    return re.findall(r"\{(\w*)\}", text)


def sample(bank: Bank, size: int, seed: int = 0) -> list[Wording]:
    generator = np.random.default_rng(seed)
    questions = np.unique(generator.integers(bank.questions, size=size)).tolist()
    edges = [(0, 0), (bank.questions - 1, bank.answers - 1)]
    return [
        bank.wording(question, answer)
        for question, answer in chain(edges, ((number, int(generator.integers(bank.answers))) for number in questions))
    ]


@pytest.mark.parametrize("bank", BANKS, ids=name)
def test_there_are_at_least_3000_questions(bank: Bank) -> None:
    assert bank.questions >= 3_000
    assert bank.answers >= 6


@pytest.mark.parametrize("bank", SMALL, ids=name)
def test_small_banks_hold_no_question_twice(bank: Bank) -> None:
    assert len({bank.wording(number, 0).question for number in range(bank.questions)}) == bank.questions


@pytest.mark.parametrize("bank", [bank for bank in BANKS if bank not in SMALL], ids=name)
def test_big_banks_hold_no_question_twice(bank: Bank) -> None:
    numbers = np.unique(np.random.default_rng(1).integers(bank.questions, size=4_000)).tolist()
    numbers += range(1_000)
    numbers = list(set(numbers))
    assert len({bank.wording(number, 0).question for number in numbers}) == len(numbers)


@pytest.mark.parametrize("bank", BANKS, ids=name)
def test_answers_are_distinct(bank: Bank) -> None:
    assert len({bank.wording(0, number).answer for number in range(bank.answers)}) == bank.answers


@pytest.mark.parametrize("bank", BANKS, ids=name)
def test_placeholders_are_those_of_the_tasks(bank: Bank) -> None:
    expected = sorted(PLACEHOLDERS[task] for task in bank.tasks)
    for wording in sample(bank, 400):
        assert set(fields(wording.question)) == {"label"}
        found = fields(wording.answer)
        assert found.count("label") == 1
        assert sorted(field for field in found if field != "label") == expected
        rest = re.sub(r"\{(label|volume|regions|shape|spread)\}", "", wording.question + wording.answer)
        assert not set("{}") & set(rest)


@pytest.mark.parametrize("bank", BANKS, ids=name)
def test_every_wording_is_made_of_sentences(bank: Bank) -> None:
    for wording in sample(bank, 400):
        for text in (wording.question, wording.answer):
            assert re.fullmatch(r"(\{label\}|[A-Z]).*[.?]", text)
            assert not re.search(r"  | [,.?]|[,.?]{2}|\bthe the\b|\ba [aeiou]|^ | $|\{S\}|\{N\}", text)
            sentences = re.split(r"(?<=[.?]) ", text)
            assert len(sentences) <= 2
            assert all(re.match(r"\{label\}|[A-Z]", sentence) for sentence in sentences)
        assert wording.answer.endswith(".")


@pytest.mark.parametrize("bank", BANKS, ids=name)
def test_a_topic_is_named_exactly_where_something_is_out_of_scope(bank: Bank) -> None:
    topics = {wording.topic for wording in sample(bank, 400)}
    if bank.kind is Kind.IN_SCOPE:
        assert topics == {None}
    else:
        assert None not in topics
        assert len(topics) == 28


@pytest.mark.parametrize("kind", [Kind.PARTIAL, Kind.OUT_OF_SCOPE])
def test_the_refusal_names_what_was_asked(kind: Kind) -> None:
    bank = Bank(kind, (Task.SHAPE,) if kind is Kind.PARTIAL else ())
    for wording in sample(bank, 300):
        if wording.topic == "prognosis":
            asked = re.search(r"the prognosis|the expected survival", wording.question)
            assert asked is not None
            assert asked[0] in wording.answer


def test_the_first_wordings() -> None:
    assert Bank(Kind.IN_SCOPE, (Task.VOLUME,)).wording(0, 0) == Wording(
        "How large is {label}?", "The overall volume of {label} is {volume}."
    )
    assert Bank(Kind.IN_SCOPE, (Task.VOLUME, Task.REGION, Task.SHAPE)).wording(0, 0) == Wording(
        "How large is {label}, where is it located, and what is its shape?",
        "The overall volume of {label} is {volume}, it is located in {regions}, and its shape is {shape}.",
    )


@pytest.mark.parametrize("bank", BANKS[::6], ids=name)
def test_numbers_outside_the_bank(bank: Bank) -> None:
    for question, answer in ((-1, 0), (0, -1), (bank.questions, 0), (0, bank.answers)):
        with pytest.raises(IndexError, match=f"no wording {question}/{answer}"):
            bank.wording(question, answer)


@pytest.mark.parametrize("tasks", [(Task.VOLUME, Task.SPREAD), tuple(Task)], ids=len)
def test_answers_tell_the_tasks_in_the_order_of_the_question(tasks: Tasks) -> None:
    for wording in sample(Bank(Kind.IN_SCOPE, tasks), 200):
        assert [field for field in fields(wording.answer) if field != "label"] == [PLACEHOLDERS[task] for task in tasks]
