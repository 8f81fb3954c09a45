"""The grammar's banks: big enough, distinct, and every wording a sentence with the right placeholders."""

import re
from functools import cache

import numpy as np
import pytest

from voxmoe.vocabulary import CLASSES, NO_REGION, Kind, Task
from voxmoe.vqa.wordings import phrases, topics
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Tasks, Wording, type_name
from voxmoe.vqa.wordings.checks import template_fault, text_fault
from voxmoe.vqa.wordings.forms import sentence
from voxmoe.vqa.wordings.grammar import GRAMMAR
from voxmoe.vqa.wordings.seeds import SEEDS

TASKS = {"volume": Task.VOLUME, "regions": Task.REGION, "shape": Task.SHAPE, "spread": Task.SPREAD}
ENOUGH = 3_000
OWN = {text for seed in SEEDS.values() for text in seed}
every_type = pytest.mark.parametrize(("kind", "tasks"), QUESTION_TYPES, ids=[type_name(*one) for one in QUESTION_TYPES])


@cache
def sample(kind: Kind, tasks: Tasks) -> list[Wording]:
    """Wordings of at least `ENOUGH` questions: of all there are in a small bank, of random ones in a big one."""
    bank = GRAMMAR.bank(kind, tasks)
    generator = np.random.default_rng(0)
    if bank.questions < 50_000:
        questions = generator.permutation(bank.questions)[:4_000]
    else:
        questions = np.unique([0, bank.questions - 1, *generator.integers(bank.questions, size=ENOUGH + 100)])
    answers = generator.integers(bank.answers, size=len(questions))
    return [bank.wording(*numbers) for numbers in zip(questions.tolist(), answers.tolist(), strict=True)]


def some(kind: Kind, tasks: Tasks) -> list[Wording]:
    """A quarter of them, from all over the bank."""
    return sample(kind, tasks)[::4]


def said_tasks(answer: str) -> list[Task]:
    return [TASKS[field] for field in re.findall(r"\{(\w+)\}", answer) if field != "label"]


@every_type
def test_at_least_3000_questions_stay_distinct_with_a_label_filled_in(kind: Kind, tasks: Tasks) -> None:
    wordings = sample(kind, tasks)
    for label in ("Resection Cavity", "Edema/Invaded Tissue"):
        rendered = {wording.question.format(label=label).lower() for wording in wordings}
        assert len(rendered) == len(wordings) >= ENOUGH


@every_type
def test_answers_are_distinct_but_for_the_papers_own(kind: Kind, tasks: Tasks) -> None:
    bank = GRAMMAR.bank(kind, tasks)
    assert bank.answers >= (36 if kind is Kind.OUT_OF_SCOPE else 145)
    numbers = range(1, bank.answers) if bank.answers < 2_000 else np.random.default_rng(2).choice(bank.answers, 1_000)
    question = bank.questions - 1
    said = {bank.wording(question, int(number)).answer for number in set(numbers)}
    assert len(said) == len(set(numbers))


@every_type
def test_placeholders_are_those_of_the_tasks(kind: Kind, tasks: Tasks) -> None:
    for wording in some(kind, tasks):
        assert template_fault(tasks, wording.question, wording.answer) is None
        assert template_fault(tasks, wording.question, wording.absent) is None


@every_type
def test_every_wording_is_made_of_sentences(kind: Kind, tasks: Tasks) -> None:
    for wording in some(kind, tasks):
        for text in (wording.question, wording.answer, wording.absent):
            assert re.fullmatch(r"[A-Z].*[.?]", text)
            assert not re.search(r"  | [,.?]|[,.?]{2}|\ba [aeiou]|\b(\w+) \1\b|^ | $|\{S\}|\{N\}|\{\}", text), text
            sentences = re.split(r"(?<=[.?]) ", text)
            assert len(sentences) <= 2
            assert all(re.match(r"[A-Z]", one) for one in sentences)
        assert wording.answer.endswith(".")
        assert wording.absent.endswith(".")
        assert text_fault(kind, wording.question, wording.answer) is None, "it passes what a language model has to pass"


@every_type
def test_the_label_is_named_before_it_is_called_it(kind: Kind, tasks: Tasks) -> None:
    for wording in some(kind, tasks):
        for text in (wording.question, wording.answer, wording.absent):
            pronoun = re.search(r"\b(it|its)\b", text)
            assert pronoun is None or text.index("{label}") < pronoun.start()
            if wording.question not in OWN and text not in OWN:
                assert set(re.findall(r"(\w+) \{label\}", text)) <= {"the", "The", "segmented", "as"}


@every_type
def test_a_topic_is_named_exactly_where_something_is_out_of_scope(kind: Kind, tasks: Tasks) -> None:
    wordings = some(kind, tasks)
    if kind is Kind.IN_SCOPE:
        assert {wording.topic for wording in wordings} == {None}
        return
    named = [set((wording.topic or "").split(", ")) for wording in wordings]
    kinds = {topic.kind for topic in topics.TOPICS}
    assert len(kinds) >= 40
    assert set.union(*named) == kinds
    assert {len(found) for found in named} == {1, 2}, "one thing that cannot be answered, or two of different kinds"


@every_type
def test_the_refusal_names_what_was_asked(kind: Kind, tasks: Tasks) -> None:
    nouns = {topic.kind: set() for topic in topics.TOPICS}
    for topic in topics.TOPICS:
        for noun in (topic.noun.replace("{S}", "the {label}"), topic.noun_it):
            nouns[topic.kind].add(noun)
    for wording in some(kind, tasks):
        for name in (wording.topic or "").split(", ") if wording.topic else ():
            for text in (wording.answer, wording.absent):
                assert any(noun in text or sentence(noun) in text for noun in nouns[name])


@pytest.mark.parametrize("tasks", SEEDS, ids="+".join)
def test_out_of_scope_parts_stand_before_between_and_after(tasks: Tasks) -> None:
    """Where the subordinate clause or question of a topic stands among those of the tasks."""
    asked = {clause for topic in topics.TOPICS for clause in topic.clause}
    asked |= {noun for topic in topics.TOPICS for noun in (topic.noun, topic.noun_it)}
    subject = r"the (?:segmented |area marked as )?\{label\}"
    patterns = [re.escape(part).replace(re.escape("{S}"), subject) for part in asked]
    outside = re.compile("|".join(sorted(patterns, key=len, reverse=True)), re.IGNORECASE)
    places = []
    for wording in some(Kind.PARTIAL, tasks)[:200]:
        spans = [found.span() for found in outside.finditer(wording.question)]
        assert spans, wording.question
        places.append((spans[0][0] < 30, spans[-1][1] > len(wording.question) - 20))
    first, last = (np.mean([place[end] for place in places]) for end in (0, 1))
    assert 0.2 < first < 0.8
    assert 0.2 < last < 0.8
    if len(tasks) > 1:
        assert (False, False) in places


@every_type
def test_answers_tell_the_tasks_and_only_them(kind: Kind, tasks: Tasks) -> None:
    """No word of any task's categories stands in a template: a reader of answers would take it for a finding."""
    terms = {term for classes in CLASSES.values() for term in classes} | {NO_REGION}
    forbidden = re.compile(rf"\b({'|'.join(map(re.escape, sorted(terms)))})\b", re.IGNORECASE)
    orders = set()
    for wording in some(kind, tasks):
        for text in (wording.answer, wording.absent):
            assert not forbidden.search(text), text
        assert sorted(said_tasks(wording.answer)) == sorted(tasks)
        orders.add(tuple(said_tasks(wording.answer)))
    assert len(orders) == np.prod(range(1, len(tasks) + 1)), "in every order"


def test_answers_follow_the_order_of_the_question() -> None:
    bank = GRAMMAR.bank(Kind.IN_SCOPE, (Task.VOLUME, Task.REGION))
    volume, region = (re.compile(rf"\b({'|'.join(phrases.NOUNS[task])})\b") for task in (Task.VOLUME, Task.REGION))
    checked = 0
    for number in range(1, 4_000):
        wording = bank.wording(number, 1 + number % (bank.answers - 1))
        found = re.search(r"the (.*) and (.*) of the .*\{label\}", wording.question)
        if found and volume.search(found[1]) and region.search(found[2]):
            first = Task.VOLUME
        elif found and region.search(found[1]) and volume.search(found[2]):
            first = Task.REGION
        else:
            continue
        checked += 1
        assert said_tasks(wording.answer)[0] is first
        assert said_tasks(wording.absent)[0] is first
    assert checked > 1_000


def test_single_wordings() -> None:
    bank = GRAMMAR.bank(Kind.IN_SCOPE, (Task.VOLUME,))
    assert bank.wording(0, 0) == Wording(
        "How large is the volume covered by {label}?",
        "The overall volume of {label} is {volume}.",
        "The volume of the {label} is {volume}.",
    )
    bank = GRAMMAR.bank(Kind.IN_SCOPE, (Task.VOLUME, Task.REGION, Task.SHAPE))
    assert bank.wording(1, 1) == Wording(
        "How large is the {label}, where is it located, and what is its shape?",
        "The overall volume of the {label} is {volume}, it is located in {regions}, and its shape is {shape}.",
        "The {label} is absent, so its volume is {volume}, its location is {regions}, and its shape is {shape}.",
    )


@pytest.mark.parametrize("tasks", SEEDS, ids="+".join)
def test_number_0_is_the_papers_own(tasks: Tasks) -> None:
    wording = GRAMMAR.bank(Kind.IN_SCOPE, tasks).wording(0, 0)
    assert (wording.question, wording.answer) == SEEDS[tasks]


def test_an_absent_label_is_located_in_nothing() -> None:
    for kind, tasks in QUESTION_TYPES:
        for wording in some(kind, tasks)[:300]:
            assert not re.search(r"\b(in|to) \{regions\}|(described|classified|characterized) as \{", wording.absent)


@every_type
def test_numbers_outside_the_bank(kind: Kind, tasks: Tasks) -> None:
    bank = GRAMMAR.bank(kind, tasks)
    for question, answer in ((-1, 0), (0, -1), (bank.questions, 0), (0, bank.answers)):
        with pytest.raises(IndexError, match=f"no wording {question}/{answer}"):
            bank.wording(question, answer)


def test_the_source_is_another_where_a_word_or_a_sentence_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxmoe.vqa.wordings import grammar

    assert re.fullmatch(r"grammar:[0-9a-f]{16}", GRAMMAR.source)
    assert grammar.Grammar().source == GRAMMAR.source
    with monkeypatch.context() as changed:
        changed.setattr(topics, "REFUSALS", (*topics.REFUSALS[:-1], "I would rather not talk about {}"))
        assert grammar.Grammar().source != GRAMMAR.source
    with monkeypatch.context() as changed:
        changed.setattr(grammar, "sentence", lambda text: text)
        assert grammar.Grammar().source != GRAMMAR.source
