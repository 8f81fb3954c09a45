"""The tables of a CT dataset: rows by split, task, kind and source, the balance of letters, the lengths of answers."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.dataset import CTDataset
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.dataset import SPLITS


def _lengths(exchanges: Sequence[Exchange]) -> dict[str, float] | None:
    """Of answers, in words; None where there are none."""
    words = [len(exchange.answer.split()) for exchange in exchanges]
    return {"mean": fmean(words), "median": median(words), "max": max(words)} if words else None


def counts(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """What some rows hold; kinds are told as "task: kind"."""

    def count(values: Sequence[str]) -> dict[str, int]:
        return dict(sorted(Counter(values).items()))

    return {
        "rows": len(exchanges),
        "patients": len({one.patient for one in exchanges}),
        "volumes": len({one.image for one in exchanges}),
        "unique_questions": len({one.question for one in exchanges}),
        "unique_answers": len({one.answer for one in exchanges}),
        "tasks": count([str(one.task) for one in exchanges]),
        "kinds": count([f"{one.task}: {one.kind}" for one in exchanges]),
        "sources": count([one.source for one in exchanges]),
        "choices": count([str(len(one.choices)) for one in exchanges if one.choices]),
        "letters": count([one.letter for one in exchanges if one.letter]),
        "answer_words": {str(task): _lengths([one for one in exchanges if one.task is task]) for task in CTTask},
    }


def statistics(dataset: CTDataset) -> dict[str, Any]:
    """All tables of a dataset, ready for JSON."""
    by_split = {split: dataset.exchanges(split) for split in SPLITS}
    return {
        "splits_are": dataset.manifest["splits"],
        "skipped": dataset.manifest["skipped"],
        **counts([one for own in by_split.values() for one in own]),
        "splits": {split: counts(own) for split, own in by_split.items()},
    }
