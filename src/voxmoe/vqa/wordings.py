"""The offline grammar: numbered wordings of questions with their answers (mpLLM, section 3.2.1 and Appendix A).

A bank holds every wording of one kind of question without listing them: wording `i` is decoded from the digits of
`i`, so a dataset row that keeps its number can be rebuilt. Templates keep the placeholders {label}, {volume},
{regions}, {shape} and {spread}.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.phrases import (
    ALSO,
    ANSWERS,
    ASKING_ABOUT,
    BESIDES,
    CLAUSES,
    CONTEXTS,
    NOUN_REQUESTS,
    NOUNS,
    REFUSALS,
    REQUESTS,
    SUBJECTS,
    TOPICS,
)

Tasks = tuple[Task, ...]


@dataclass(frozen=True)
class Wording:
    """A question template with its answer template. `topic` is the kind of what is out of scope, if anything is."""

    question: str
    answer: str
    topic: str | None = None


@dataclass(frozen=True)
class _Pattern:
    """A form of sentence: every combination of its slots' choices is one text."""

    slots: tuple[Sequence[Any], ...]
    render: Callable[..., str]

    def __len__(self) -> int:
        return prod(len(slot) for slot in self.slots)

    def __getitem__(self, index: int) -> str:
        choices = []
        for slot in self.slots:
            index, digit = divmod(index, len(slot))
            choices.append(slot[digit])
        return self.render(*choices)


@dataclass(frozen=True)
class _Texts:
    """Several patterns, numbered through."""

    patterns: tuple[_Pattern, ...]

    def __len__(self) -> int:
        return sum(map(len, self.patterns))

    def __getitem__(self, index: int) -> str:
        for pattern in self.patterns:
            if index < len(pattern):
                return pattern[index]
            index -= len(pattern)
        raise IndexError(index)


def _listed(parts: Sequence[str]) -> str:
    if len(parts) < 3:
        return " and ".join(parts)
    return ", ".join(parts[:-1]) + ", and " + parts[-1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _named(text: str, subject: str) -> str:
    return text.replace("{S}", subject)


def _clauses(subject: str, clauses: Sequence[Any], form: str) -> str:
    first = _named(getattr(clauses[0], form), subject)
    return _listed([first, *(_named(getattr(clause, form + "_it"), "it") for clause in clauses[1:])])


def _direct(context: str, subject: str, *clauses: Any) -> str:
    return _sentence(f"{context}{_clauses(subject, clauses, 'direct')}?")


def _request(context: str, request: str, subject: str, *clauses: Any) -> str:
    return _sentence(context + request.format(_clauses(subject, clauses, "indirect")))


def _noun_request(context: str, request: str, subject: str, *nouns: str) -> str:
    return _sentence(context + request.format(f"the {_listed(nouns)} of {subject}"))


@lru_cache(maxsize=32)
def _questions(tasks: Tasks) -> _Texts:
    clauses = tuple(CLAUSES[task] for task in tasks)
    nouns = tuple(NOUNS[task] for task in tasks)
    return _Texts(
        (
            _Pattern((CONTEXTS, SUBJECTS, *clauses), _direct),
            _Pattern((CONTEXTS, REQUESTS, SUBJECTS, *clauses), _request),
            _Pattern((CONTEXTS, NOUN_REQUESTS, SUBJECTS, *nouns), _noun_request),
        )
    )


@lru_cache(maxsize=32)
def _answers(tasks: Tasks) -> _Texts:
    def render(subject: str, *forms: tuple[str, str]) -> str:
        first = _named(forms[0][0], subject)
        return _sentence(_listed([first, *(form[1] for form in forms[1:])])) + "."

    return _Texts((_Pattern((SUBJECTS, *(ANSWERS[task] for task in tasks)), render),))


_TOPICS = tuple((kind, phrase) for kind, phrases in TOPICS.items() for phrase in phrases)


@dataclass(frozen=True)
class Bank:
    """All wordings of one kind of question about a set of tasks (none if completely out of scope)."""

    kind: Kind
    tasks: Tasks

    @property
    def questions(self) -> int:
        """How many distinct questions there are."""
        if self.kind is Kind.IN_SCOPE:
            return len(_questions(self.tasks))
        if self.kind is Kind.OUT_OF_SCOPE:
            return len(_TOPICS) * len(_out_of_scope())
        return len(_TOPICS) * (len(_questions(self.tasks)) * len(ALSO) + len(_besides(self.tasks)))

    @property
    def answers(self) -> int:
        """How many forms of answer go with each question."""
        forms = 1 if self.kind is Kind.OUT_OF_SCOPE else len(_answers(self.tasks))
        return forms if self.kind is Kind.IN_SCOPE else forms * len(REFUSALS)

    def wording(self, question: int, answer: int) -> Wording:
        """The wording with these numbers; raises `IndexError` outside `questions` and `answers`."""
        if not (0 <= question < self.questions and 0 <= answer < self.answers):
            raise IndexError(f"{self.kind}: no wording {question}/{answer}")
        if self.kind is Kind.IN_SCOPE:
            return Wording(_questions(self.tasks)[question], _answers(self.tasks)[answer])
        question, topic_index = divmod(question, len(_TOPICS))
        topic, phrase = _TOPICS[topic_index]
        if self.kind is Kind.OUT_OF_SCOPE:
            subject = "{label}"
            text = _out_of_scope()[question].replace("{topic}", phrase)
            return Wording(_named(text, subject), _named(REFUSALS[answer].format(phrase), subject), topic)
        answer, refusal = divmod(answer, len(REFUSALS))
        text = _partial(self.tasks, question, phrase)
        refused = _named(REFUSALS[refusal].format(phrase), "it")
        return Wording(text, f"{_answers(self.tasks)[answer]} {refused}", topic)


@lru_cache(maxsize=1)
def _out_of_scope() -> _Texts:
    return _Texts(
        (_Pattern((CONTEXTS, ASKING_ABOUT), lambda context, asking: _sentence(context + asking.format("{topic}"))),)
    )


@lru_cache(maxsize=32)
def _besides(tasks: Tasks) -> _Texts:
    def render(frame: str, subject: str, *clauses: Any) -> str:
        return frame.replace("{clauses}", _clauses(subject, clauses, "indirect"))

    return _Texts((_Pattern((BESIDES, SUBJECTS, *(CLAUSES[task] for task in tasks)), render),))


def _partial(tasks: Tasks, question: int, phrase: str) -> str:
    """The out-of-scope part after the question that can be answered, or before it."""
    asked = _questions(tasks)
    if question < len(asked) * len(ALSO):
        question, also = divmod(question, len(ALSO))
        return f"{asked[question]} {_named(ALSO[also].format(phrase), 'it')}"
    text = _besides(tasks)[question - len(asked) * len(ALSO)]
    return text.replace("{topic}", _named(phrase, "{label}"))
