"""The offline grammar: numbered wordings of questions with their answers (mpLLM, section 3.2.1 and Appendix A).

A bank holds every wording of one kind of question without listing them: wording `i` is decoded from the digits of
`i`, so a dataset row that keeps its numbers can be rebuilt. Number 0 of a bank that can be answered is the paper's own
question with its own answer. Words are in `phrases.py`, `topics.py` and `seeds.py`, sentences in `forms.py`.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache, cached_property

from voxmoe.vocabulary import Kind
from voxmoe.vqa.wordings import forms, phrases, topics
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Bank, Tasks, Wording, Wordings
from voxmoe.vqa.wordings.forms import Asked, Topics, listed, nouns_of, sentence
from voxmoe.vqa.wordings.patterns import Pattern
from voxmoe.vqa.wordings.phrases import Statement
from voxmoe.vqa.wordings.seeds import seed_question

# ---------------------------------------------------------------------------------------------------------- answers


def _joined(lead: str, frame: str, statements: Sequence[str]) -> str:
    *most, last = statements
    return f"{lead}{frame}{', '.join(most)}{', and ' if most else ''}{last}"


@cache
def _answers(tasks: Tasks) -> Pattern:
    """What is said of tasks, in this order, about a label that is there: main clauses without a full stop."""

    def render(frame: str, subject: str, *statements: Statement) -> str:
        first = statements[0].first.replace("{S}", subject)
        return _joined("", frame, [first, *(statement.later for statement in statements[1:])])

    return Pattern((phrases.ANSWER_FRAMES, phrases.SUBJECTS, *(phrases.STATEMENTS[task] for task in tasks)), render)


@cache
def _absent_answers(tasks: Tasks) -> Pattern:
    """The same about a label that is not there."""

    def render(lead: str, *statements: Statement) -> str:
        first = statements[0].later if lead else statements[0].first.replace("{S}", "the {label}")
        return _joined(lead, "", [first, *(statement.later for statement in statements[1:])])

    return Pattern((phrases.ABSENT_LEADS, *(phrases.ABSENT_STATEMENTS[task] for task in tasks)), render)


_REFUSAL = Pattern((topics.REFUSALS, topics.JOINS, (False, True)), lambda *chosen: chosen)
"""A refusal beside an answer: its words, how they are joined, whether it comes first."""


def _beside(answer: str, refusal: str, join: str, refusal_first: bool, mentioned: Topics) -> str:
    if refusal_first:
        first, second = refusal.replace("{}", nouns_of("the {label}", mentioned, "or")), answer
    else:
        first, second = answer, refusal.replace("{}", listed([topic.noun_it for topic in mentioned], "or"))
    return f"{sentence(first)}{join}{sentence(second) if join == '. ' else second}."


# ------------------------------------------------------------------------------------------------------------ banks


class _GrammarBank(Bank):
    """Questions from a mix of patterns; a subclass says what the answers are."""

    kind: Kind

    def wording(self, question: int, answer: int) -> Wording:
        if not (0 <= question < self.questions and 0 <= answer < self.answers):
            raise IndexError(f"{self.kind}: no wording {question}/{answer}")
        return self._wording(question, answer)

    @abstractmethod
    def _wording(self, question: int, answer: int) -> Wording: ...


class _InScopeBank(_GrammarBank):
    """The paper's own question and answer have number 0."""

    kind = Kind.IN_SCOPE

    def __init__(self, tasks: Tasks) -> None:
        self._seed = seed_question(tasks)
        self._tasks = tasks
        self._asked = forms.in_scope(tasks)
        self.questions = self._asked.size + 1
        self.answers = _answers(tasks).size + 1

    def _wording(self, question: int, answer: int) -> Wording:
        text, tasks, _ = self._asked[question - 1] if question else Asked(self._seed.question, self._tasks, ())
        said = sentence(_answers(tasks)[answer - 1]) + "." if answer else self._seed.answer
        absent = _absent_answers(tasks)
        return Wording(text, said, sentence(absent[answer % absent.size]) + ".")


class _PartialBank(_GrammarBank):
    """Answers tell what can be told and refuse the rest."""

    kind = Kind.PARTIAL

    def __init__(self, tasks: Tasks) -> None:
        self._asked = forms.partial(tasks)
        self.questions = self._asked.size
        self.answers = _REFUSAL.size * _answers(tasks).size

    def _wording(self, question: int, answer: int) -> Wording:
        text, tasks, mentioned = self._asked[question]
        answer, number = divmod(answer, _REFUSAL.size)
        refusal = (*_REFUSAL[number], mentioned)
        absent = _absent_answers(tasks)
        return Wording(
            text,
            _beside(_answers(tasks)[answer], *refusal),
            _beside(absent[answer % absent.size], *refusal),
            _kinds(mentioned),
        )


class _OutOfScopeBank(_GrammarBank):
    """Answers refuse, whether the label is there or not."""

    kind = Kind.OUT_OF_SCOPE

    def __init__(self) -> None:
        self._asked = forms.out_of_scope()
        self._refusals = Pattern((topics.REFUSALS, topics.REFUSAL_LEADS), lambda refusal, lead: lead + refusal)
        self.questions = self._asked.size
        self.answers = self._refusals.size

    def _wording(self, question: int, answer: int) -> Wording:
        text, _, mentioned = self._asked[question]
        refusal = self._refusals[answer].replace("{}", nouns_of("the {label}", mentioned, "or"))
        said = sentence(refusal) + "."
        return Wording(text, said, said, _kinds(mentioned))


def _kinds(mentioned: Topics) -> str:
    return ", ".join(topic.kind for topic in mentioned)


@cache
def _bank(kind: Kind, tasks: Tasks) -> _GrammarBank:
    if kind is Kind.OUT_OF_SCOPE:
        return _OutOfScopeBank()
    return _InScopeBank(tasks) if kind is Kind.IN_SCOPE else _PartialBank(tasks)


_PROOFS = 8
"""Wordings of each bank that the name of the source depends on."""


class Grammar(Wordings):
    """The grammar as a source of wordings. Its name tells one edition of words and sentences from another."""

    @cached_property
    def source(self) -> str:
        digest = hashlib.sha256()
        for module in (phrases, topics):
            words = {name: value for name, value in vars(module).items() if name.isupper()}
            digest.update(repr(words).encode())
        for kind, tasks in QUESTION_TYPES:
            bank = self.bank(kind, tasks)
            for proof in range(_PROOFS):
                numbers = (proof * (count - 1) // (_PROOFS - 1) for count in (bank.questions, bank.answers))
                digest.update(repr(bank.wording(*numbers)).encode())
        return f"grammar:{digest.hexdigest()[:16]}"

    def bank(self, kind: Kind, tasks: Tasks) -> Bank:
        return _bank(kind, tasks)


GRAMMAR = Grammar()
