"""The forms of question: sentences made of a frame, a request, and clauses or nouns in any order."""

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any, NamedTuple

from voxmoe.vqa.wordings import phrases, topics
from voxmoe.vqa.wordings.bank import Tasks
from voxmoe.vqa.wordings.patterns import Mix, Pattern
from voxmoe.vqa.wordings.phrases import Clause, Frame
from voxmoe.vqa.wordings.topics import Topic

Topics = tuple[Topic, ...]
_Order = tuple[int, ...]
_Lister = Callable[[str, Sequence[Clause]], str]

_ONE_TOPIC = tuple((topic,) for topic in topics.TOPICS)
_TWO_TOPICS = tuple((one, two) for one, two in combinations(topics.TOPICS, 2) if one.kind != two.kind)


class Asked(NamedTuple):
    """A question template, and what it asks for in the order in which it mentions it: tasks, and topics."""

    text: str
    tasks: Tasks
    topics: Topics


# -------------------------------------------------------------------------------------------------------- sentences


def listed(parts: Sequence[str], word: str = "and") -> str:
    if len(parts) < 3:
        return f" {word} ".join(parts)
    return f"{', '.join(parts[:-1])}, {word} {parts[-1]}"


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _framed(frame: Frame, text: str) -> str:
    """A sentence inside its frame, whose second part comes before the full stop."""
    return sentence(f"{frame.before}{text[:-1]}{frame.after}{text[-1]}")


def _direct(subject: str, clauses: Sequence[Clause]) -> str:
    return listed([clauses[0].direct.replace("{S}", subject), *(clause.direct_it for clause in clauses[1:])])


def _indirect(subject: str, clauses: Sequence[Clause]) -> str:
    return listed([clauses[0].indirect.replace("{S}", subject), *(clause.indirect_it for clause in clauses[1:])])


def nouns_of(subject: str, mentioned: Topics, word: str) -> str:
    return listed([mentioned[0].noun.replace("{S}", subject), *(topic.noun_it for topic in mentioned[1:])], word)


# -------------------------------------------------------------------------------------------------------- questions

_ALSO_CLAUSES = (
    *((text, "direct_it") for text in topics.ALSO_QUESTIONS),
    *((text, "indirect_it") for text in topics.ALSO_CLAUSES),
)
_ALSO = (*_ALSO_CLAUSES, *((text, "noun_it") for text in topics.ALSO_NOUNS))


def _also(also: tuple[str, str], mentioned: Sequence[Any]) -> str:
    """A second sentence, with the named form of what it asks for."""
    text, form = also
    return sentence(text.replace("{}", listed([getattr(one, form) for one in mentioned])))


class _Forms:
    """The forms of question about some tasks and one choice of topics, in any order."""

    def __init__(self, tasks: Tasks, outside: tuple[Topics, ...] = ((),)) -> None:
        self.tasks = tasks
        self.outside = outside
        self.clauses = [phrases.CLAUSES[task] for task in tasks]
        self.nouns = [phrases.NOUNS[task] for task in tasks]
        self.orders = tuple(permutations(range(len(tasks))))
        self.mixed_orders = tuple(permutations(range(len(tasks) + len(outside[0]))))

    def _in_order(self, order: _Order) -> Tasks:
        return tuple(self.tasks[place] for place in order)

    def _one_sentence(self, frames: tuple[Frame, ...], requests: tuple[str, ...], lister: _Lister) -> Pattern:
        count = len(self.tasks)

        def render(frame: Frame, request: str, subject: str, order: _Order, chosen: Topics, *clauses: Clause) -> Asked:
            mentioned = (*clauses, *(topic.clause for topic in chosen))
            text = _framed(frame, request.replace("{}", lister(subject, [mentioned[place] for place in order])))
            outside = tuple(chosen[place - count] for place in order if place >= count)
            return Asked(text, self._in_order(tuple(place for place in order if place < count)), outside)

        return Pattern((frames, requests, phrases.SUBJECTS, self.mixed_orders, self.outside, *self.clauses), render)

    def questions(self, frames: tuple[Frame, ...]) -> Pattern:
        """ "How large is X, what treatment does it call for, and where is it located?" """
        return self._one_sentence(frames, ("{}?",), _direct)

    def requests(self, frames: tuple[Frame, ...]) -> Pattern:
        """ "Please state how large X is, what treatment it calls for, and where it is located." """
        return self._one_sentence(frames, phrases.REQUESTS, _indirect)

    def noun_requests(self, frames: tuple[Frame, ...], requests: tuple[str, ...]) -> Pattern:
        """ "Please report the volume and location of X." """

        def render(frame: Frame, request: str, subject: str, order: _Order, *nouns: str) -> Asked:
            asked = f"the {listed([nouns[place] for place in order])} of {subject}"
            return Asked(_framed(frame, request.replace("{}", asked)), self._in_order(order), ())

        return Pattern((frames, requests, phrases.SUBJECTS, self.orders, *self.nouns), render)

    def topic_requests(self) -> Pattern:
        """ "What can you say about the prognosis with X?" """

        def render(frame: Frame, request: str, subject: str, order: _Order, chosen: Topics) -> Asked:
            outside = tuple(chosen[place] for place in order)
            return Asked(_framed(frame, request.replace("{}", nouns_of(subject, outside, "and"))), (), outside)

        slots = (topics.FRAMES, topics.NOUN_REQUESTS, phrases.SUBJECTS, self.mixed_orders, self.outside)
        return Pattern(slots, render)

    def then_topics(self) -> Pattern:
        """ "Please report the volume and location of X. Also, what treatment does it call for?" """

        def render(
            frame: Frame,
            request: str,
            subject: str,
            order: _Order,
            chosen: Topics,
            also: tuple[str, str],
            *nouns: str,
        ) -> Asked:
            asked = f"the {listed([nouns[place] for place in order])} of {subject}"
            second = _also(also, chosen if also[1] == "noun_it" else [topic.clause for topic in chosen])
            text = f"{_framed(frame, request.replace('{}', asked))} {second}"
            return Asked(text, self._in_order(order), chosen)

        requests = (*phrases.NOUN_REQUESTS, "what is {}?" if len(self.tasks) == 1 else "what are {}?")
        slots = (phrases.REQUEST_FRAMES, requests, phrases.SUBJECTS, self.orders, self.outside, _ALSO, *self.nouns)
        return Pattern(slots, render)

    def topics_first(self) -> Pattern:
        """ "What treatment does X call for? Also, how large is it and where is it located?" """

        def render(
            frame: Frame, subject: str, order: _Order, chosen: Topics, also: tuple[str, str], *clauses: Clause
        ) -> Asked:
            first = _framed(frame, _direct(subject, [topic.clause for topic in chosen]) + "?")
            text = f"{first} {_also(also, [clauses[place] for place in order])}"
            return Asked(text, self._in_order(order), chosen)

        slots = (topics.FRAMES, phrases.SUBJECTS, self.orders, self.outside, _ALSO_CLAUSES, *self.clauses)
        return Pattern(slots, render)


def in_scope(tasks: Tasks) -> Mix:
    forms = _Forms(tasks)
    shares = [
        (1, forms.questions(phrases.QUESTION_FRAMES)),
        (2, forms.requests(phrases.REQUEST_FRAMES)),
        (2, forms.noun_requests(phrases.REQUEST_FRAMES, phrases.NOUN_REQUESTS)),
    ]
    if len(tasks) > 1:  # of one task, "what is the volume of X" is there already
        shares.append((1, forms.noun_requests(phrases.QUESTION_FRAMES, ("what are {}?", "what is {}?"))))
    return Mix(*shares)


def partial(tasks: Tasks) -> Mix:
    one, two = _Forms(tasks, _ONE_TOPIC), _Forms(tasks, _TWO_TOPICS)
    return Mix(
        (3, one.questions(topics.FRAMES)),
        (2, one.requests(topics.FRAMES)),
        (2, one.then_topics()),
        (1, one.topics_first()),
        (1, two.questions(topics.FRAMES)),
        (1, two.requests(topics.FRAMES)),
        (1, two.then_topics()),
        (1, two.topics_first()),
    )


def out_of_scope() -> Mix:
    one, two = _Forms((), _ONE_TOPIC), _Forms((), _TWO_TOPICS)
    return Mix(
        (1, one.questions(topics.FRAMES)),
        (3, one.requests(topics.FRAMES)),
        (3, one.topic_requests()),
        (2, two.questions(topics.FRAMES)),
        (2, two.requests(topics.FRAMES)),
        (1, two.topic_requests()),
    )
