"""A generated answer as text -> what it says to each task, and whether it refuses: as the heads do, from words.

The terms are those of the paper, with the inflections in which they come ("fronto-parietal", "insular", "ovoid", "1 to
5 percent"). For each task there is one answer or none: a text that offers two, denies what it says, or says nothing
that fits a category, has none. What stands in a clause that refuses ("I cannot say whether it is round") is not said.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voxmoe.evaluation.answer_marks import Fragment, Mark, Piece, Sign, pieces
from voxmoe.vocabulary import ABSENT, NO_REGION, Task


@dataclass(frozen=True)
class TextAnswer:
    """What a text says: the terms of each task that it answers, and whether it refuses anything."""

    terms: Mapping[Task, tuple[str, ...]]
    refused: bool


@dataclass
class _Claims:
    """What was found so far: values said and denied, and tasks that cannot be read."""

    said: dict[Task, set[str]] = field(default_factory=lambda: defaultdict(set))
    denied: dict[Task, set[str]] = field(default_factory=lambda: defaultdict(set))
    open: set[Task] = field(default_factory=set)
    refused: bool = False

    def answer(self, task: Task) -> tuple[str, ...]:
        """The one answer to a task; empty if there is none."""
        said = self.said[task]
        if task in self.open or "" in said or said & self.denied[task]:
            return ()
        alone = task is not Task.REGION or bool(said & {ABSENT, NO_REGION})
        return () if alone and len(said) > 1 else tuple(sorted(said))


def _clauses(piece: Piece) -> list[Piece]:
    """Each independent fragment with the dependent ones beside it.

    A dependent fragment belongs to the clause before it, or at the beginning to the one after it; in "frontal is
    involved, parietal and temporal are spared" the parietal belongs to what follows.
    """
    clauses: list[Piece] = []
    for fragment in piece:
        if clauses and (fragment.dependent or all(other.dependent for other in clauses[-1])):
            clauses[-1].append(fragment)
            continue
        clause = [fragment]
        while clauses and clause[0].link in ("and", "or") and _begins_with_a_term(fragment) and _lists(clauses[-1][-1]):
            clause.insert(0, clauses[-1].pop())
        clauses.append(clause)
    return clauses


def _begins_with_a_term(fragment: Fragment) -> bool:
    return bool(fragment.marks) and fragment.marks[0].sign is Sign.TERM


def _lists(fragment: Fragment) -> bool:
    return fragment.dependent and _begins_with_a_term(fragment)


Place = tuple[int, int]
"""Fragment and mark of a clause."""


def _ahead(clause: Piece, terms: Sequence[Place], here: Place) -> list[Place]:
    """The terms after a mark in its fragment, and those of the same task in the fragments that continue the list.

    A verb or a colon after the last of them ends it: "all but the insula are involved: frontal and parietal".
    """
    number, place = here
    marks = clause[number].marks
    colons = [other for other in range(place, len(marks)) if marks[other].value == ":"]
    end = colons[0] if colons and marks[place].sign is Sign.DENIES else len(marks)
    found = [(n, p) for n, p in terms if n == number and place < p < end]
    if not found or _verbs(clause[number], found[-1][1]):
        return found
    tasks = {marks[p].task for _, p in found}
    for n, fragment in enumerate(clause[number + 1 :], start=number + 1):
        last = not fragment.dependent
        if last and (number or fragment.link not in ("and", "or") or not _begins_with_a_term(fragment)):
            break
        end = _verbs(fragment)[0] if last else len(fragment.marks)
        found += [(m, p) for m, p in terms if m == n and p < end and fragment.marks[p].task in tasks]
        if last:  # "all but the insula and the limbic lobe are involved"
            break
    return found


def _verbs(fragment: Fragment, start: int = 0) -> list[int]:
    """The places of the verbs, colons among them."""
    return [place for place in range(start, len(fragment.marks)) if fragment.marks[place].sign is Sign.VERB]


def _denied_places(clause: Piece) -> tuple[set[Place], set[Place]]:
    """The terms of a clause that are denied, and the places at which "absent" or "N/A" is said of the label itself."""
    places = [(number, place) for number, fragment in enumerate(clause) for place in range(len(fragment.marks))]
    mark_at = {here: clause[here[0]].marks[here[1]] for here in places}
    terms = [here for here in places if mark_at[here].sign is Sign.TERM]
    cued = any(mark.sign is Sign.CUE for mark in mark_at.values())
    denied: set[Place] = set()
    gone: set[Place] = set()
    for here in places:
        mark = mark_at[here]
        ahead, behind = _ahead(clause, terms, here), [term for term in terms if term < here]
        if mark.sign is Sign.DENIES:
            denied.update(ahead or (behind if mark.last else ()))
        elif mark.sign in (Sign.DENIED, Sign.GONE):
            denied.update(behind or ahead)
        elif mark.sign is Sign.NOT_APPLICABLE and not cued:
            denied.update(term for term in behind if term[0] == here[0])
        if not behind and not ahead and all(other.sign is not Sign.OTHER for other in clause[here[0]].marks):
            gone.add(here)
    return denied, gone


class _Reader:
    """Takes in the clauses of one piece, in order."""

    def __init__(self, claims: _Claims) -> None:
        self.claims = claims
        self.pending: list[Task] = []
        """The tasks that are spoken about and whose value has not come yet: what an "N/A" belongs to."""
        self.verb_since = False
        """Whether a verb came after the last of them, so that the next one begins anew."""
        self.spoken_of: Task | None = None

    def read(self, piece: Piece) -> None:
        for clause in _clauses(piece):
            signs = {mark.sign for fragment in clause for mark in fragment.marks}
            self.claims.refused |= Sign.REFUSES in signs
            if not signs & {Sign.REFUSES, Sign.UNSURE}:
                self._clause(clause)

    def _clause(self, clause: Piece) -> None:
        denied, gone = _denied_places(clause)
        regions, aside = 0, False
        for number, fragment in enumerate(clause):
            if not fragment.dependent:
                self.spoken_of = None
            before = regions
            aside = aside and fragment.link in ("and", "or")
            for place, mark in enumerate(fragment.marks):
                here = (number, place)
                aside = mark.sign is Sign.OTHER or (aside and mark.sign is not Sign.CUE)
                if aside and mark.task is Task.VOLUME:
                    continue
                if mark.sign is Sign.TERM:
                    self._term(mark, here in denied)
                    regions += mark.task is Task.REGION and here not in denied
                elif mark.sign in (Sign.GONE, Sign.NOT_APPLICABLE) and here in gone and not self.pending:
                    self._absent(tuple(Task))
                else:
                    self._other(mark)
            if fragment.link == "or" and 0 < before < regions:
                self.claims.open.add(Task.REGION)

    def _term(self, mark: Mark, denied: bool) -> None:
        assert mark.task is not None
        if mark.task is Task.SHAPE and self.spoken_of is Task.SPREAD:
            return  # "its distribution is irregular"
        self.pending = [task for task in self.pending if task is not mark.task]
        if self.spoken_of is mark.task:
            self.spoken_of = None
        if not denied:
            self.claims.said[mark.task].add(mark.value)
        elif not mark.sided:
            self.claims.denied[mark.task].add(mark.value)

    def _other(self, mark: Mark) -> None:
        if mark.sign is Sign.CUE:
            assert mark.task is not None
            self.pending = [mark.task] if self.verb_since else [*self.pending, mark.task]
            self.verb_since, self.spoken_of = False, mark.task
        elif mark.sign is Sign.WEAK_CUE:
            self.pending = self.pending or [Task.SPREAD]
        elif mark.sign is Sign.VERB:
            self.verb_since = bool(self.pending)
        elif mark.sign is Sign.NOT_APPLICABLE:
            self._absent(tuple(self.pending))
            self.pending, self.verb_since = [], False

    def _absent(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            self.claims.said[task].add(ABSENT)


def read_answer(text: str, label: str) -> TextAnswer:
    """What an answer about a label says. `label` is its name in questions: words in it are no terms."""
    claims = _Claims()
    for piece in pieces(text, label):
        _Reader(claims).read(piece)
    answers = {task: claims.answer(task) for task in Task}
    return TextAnswer({task: answer for task, answer in answers.items() if answer}, claims.refused)
