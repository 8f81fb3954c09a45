"""A torso's truth -> exchanges: closed questions, their open twins and a report, about a volume or about one slice."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from voxmoe.errors import DatasetError
from voxmoe.imaging.torso.truth import TorsoTruth
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import REPORT_PROMPT, Exchange
from voxmoe.vqa.ct.facts import Fact, facts_of
from voxmoe.vqa.ct.prose import Rng, pick, report
from voxmoe.vqa.ct.slices import SLICE_PROMPTS, caption, chosen_slices, open_facts, seen_in, slice_facts

SOURCE = "phantom"
PER_KIND = {"phase": 1, "organ": 2, "abnormality": 2, "location": 2, "size": 2, "count": 2, "presence": 4}
"""The most questions of a kind about one volume."""
_CHOICES = 4


def _offered(fact: Fact, rng: Rng) -> tuple[str, ...]:
    """At most four choices, numbers next to each other, in an order that is drawn."""
    choices = list(fact.choices)
    if len(choices) > _CHOICES:
        right = choices.index(fact.answer)
        low, high = max(0, right - _CHOICES + 1), min(right, len(choices) - _CHOICES)
        start = int(rng.integers(low, high + 1))
        choices = choices[start : start + _CHOICES]
    return tuple(choices[int(at)] for at in rng.permutation(len(choices)))


def _kept(facts: Iterable[Fact], rng: Rng) -> Iterator[Fact]:
    """A few of each kind, so drawn that the answers of a question are alike often."""
    asked = [fact for fact in facts if rng.random() < fact.keep]
    counts: dict[str, int] = {}
    chosen = []
    for at in rng.permutation(len(asked)):
        fact = asked[int(at)]
        counts[fact.kind] = counts.get(fact.kind, 0) + 1
        if counts[fact.kind] <= PER_KIND[fact.kind]:
            chosen.append(int(at))
    for at in sorted(chosen):
        yield asked[at]


def _asked(fact: Fact, blank: Exchange, rng: Rng) -> Iterator[Exchange]:
    """The question with its choices, if it has any, and without."""
    own = replace(blank, kind=fact.kind, answer=fact.answer)
    name = f"{blank.id}:{fact.kind}:{fact.topic.replace(' ', '-')}"
    if fact.choices:
        yield replace(
            own,
            id=f"{name}:closed",
            task=CTTask.CLOSED,
            question=pick(rng, *fact.wordings),
            choices=_offered(fact, rng),
        )
    if fact.twin:
        yield replace(own, id=f"{name}:open", question=pick(rng, *fact.wordings))


def exchanges_of(truth: TorsoTruth, image: str, patient: str, seed: int) -> list[Exchange]:
    """What is asked about a torso and answered by its truth: closed questions with open twins, and one report.

    `image` is its path below the dataset's folder of images. The same arguments give the same exchanges.
    """
    rng = np.random.default_rng([seed, truth.seed, truth.index, 0])
    blank = Exchange(patient, SOURCE, image, patient, CTTask.OPEN, "report", REPORT_PROMPT, report(truth, rng))
    exchanges = [each for fact in _kept(facts_of(truth), rng) for each in _asked(fact, blank, rng)]
    return [*exchanges, replace(blank, id=f"{patient}:report", task=CTTask.REPORT)]


def _of_slice(truth: TorsoTruth, labels: UInt8[np.ndarray, "X Y Z"], blank: Exchange, rng: Rng) -> Iterator[Exchange]:
    assert blank.slice is not None
    seen = seen_in(truth, labels, blank.slice)
    for fact in (*slice_facts(truth, seen, rng), *open_facts(seen)):
        if rng.random() < fact.keep:
            yield from _asked(fact, blank, rng)
    yield replace(
        blank,
        id=f"{blank.id}:caption",
        task=CTTask.REPORT,
        kind="caption",
        question=pick(rng, *SLICE_PROMPTS),
        answer=caption(truth, seen, rng),
    )


def slice_exchanges(
    truth: TorsoTruth, labels: UInt8[np.ndarray, "X Y Z"], image: str, patient: str, seed: int, per_volume: int
) -> list[Exchange]:
    """What is asked about each of `per_volume` slices by itself: closed and open questions, and a caption.

    `labels` are the torso's (`Torso.labels`, or its mask as read); slices count from inferior. Half of the slices show
    a finding as far as there is one. Raises `DatasetError` for labels of another grid, or more slices than there are.
    """
    if labels.shape != truth.shape or not 1 <= per_volume <= truth.shape[2]:
        told = "x".join(map(str, labels.shape))
        raise DatasetError(
            f"{truth.id}: {per_volume} slices of labels {told} were asked for; its truth is about "
            f"{'x'.join(map(str, truth.shape))} voxels: give labels of that shape, and ask for 1 to {truth.shape[2]}"
        )
    rng = np.random.default_rng([seed, truth.seed, truth.index, 1])
    blank = Exchange(patient, SOURCE, image, patient, CTTask.OPEN, "caption", "-", "-")
    return [
        exchange
        for at in chosen_slices(truth, labels, per_volume, rng)
        for exchange in _of_slice(truth, labels, replace(blank, id=f"{patient}:slice-{at}", slice=at), rng)
    ]
