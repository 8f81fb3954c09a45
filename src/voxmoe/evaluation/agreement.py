"""Agreement beyond chance between two readers of the same things: Cohen's kappa (mpLLM, Table 9)."""

from collections.abc import Sequence

import numpy as np

from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task

Terms = tuple[str, ...]


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """(observed agreement - chance agreement) / (1 - chance agreement), unweighted.

    None where both say one and the same category throughout: chance alone would agree then.
    """
    categories = sorted({*first, *second})
    table = np.zeros((len(categories), len(categories)))
    for one, other in zip(first, second, strict=True):
        table[categories.index(one), categories.index(other)] += 1
    table /= len(first)
    chance = float(table.sum(axis=1) @ table.sum(axis=0))
    return None if chance == 1 else float((np.trace(table) - chance) / (1 - chance))


def _named(terms: Sequence[Terms], region: str) -> list[str]:
    return [str(region in named) for named in terms]


def task_kappa(task: Task, first: Sequence[Terms], second: Sequence[Terms]) -> float | None:
    """Kappa of a task's answers. For region the mean over the nine regions of the kappas of "named or not"; a region
    that both never name (or always) has none and is left out."""
    if task in EXCLUSIVE_TASKS:
        return kappa([term for (term,) in first], [term for (term,) in second])
    found = [kappa(_named(first, region), _named(second, region)) for region in REGIONS]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def task_agreement(task: Task, first: Sequence[Terms], second: Sequence[Terms]) -> float:
    """Share of the same answers, 0 to 1; for region the share of the nine that both name or leave out."""
    if task in EXCLUSIVE_TASKS:
        return float(np.mean([one == other for one, other in zip(first, second, strict=True)]))
    same = [
        np.mean([(region in one) == (region in other) for region in REGIONS])
        for one, other in zip(first, second, strict=True)
    ]
    return float(np.mean(same))
