"""Kappa against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from voxmoe.evaluation.agreement import kappa, task_agreement, task_kappa
from voxmoe.vocabulary import REGIONS, SHAPES, Task


def drawn(seed: int, count: int = 60) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    first = generator.choice(SHAPES, count)
    second = np.where(generator.random(count) < 0.6, first, generator.choice(SHAPES, count))
    return first.tolist(), second.tolist()


def test_kappa_against_scikit_learn() -> None:
    for seed in range(5):
        first, second = drawn(seed)
        assert kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_extremes() -> None:
    assert kappa(["a", "b", "a"], ["a", "b", "a"]) == 1
    assert kappa(["a", "b"], ["b", "a"]) == -1
    assert kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]) == 0
    assert kappa(["a", "a"], ["a", "a"]) is None
    assert kappa(["a", "a"], ["b", "b"]) == 0


def test_exclusive_tasks_take_their_terms() -> None:
    first, second = drawn(9)
    pair = [(term,) for term in first], [(term,) for term in second]
    assert task_kappa(Task.SHAPE, *pair) == pytest.approx(cohen_kappa_score(first, second))
    assert task_agreement(Task.SHAPE, *pair) == pytest.approx(np.mean(np.array(first) == second))


def test_regions_are_nine_questions() -> None:
    generator = np.random.default_rng(3)
    first = generator.random((40, 9)) < 0.3
    second = np.where(generator.random((40, 9)) < 0.8, first, ~first)
    first[:, 4] = second[:, 4] = False  # a region that nobody names has no kappa
    pair = [[tuple(np.array(REGIONS)[named].tolist()) or ("N/A",) for named in reader] for reader in (first, second)]
    expected = [cohen_kappa_score(first[:, place], second[:, place]) for place in range(9) if place != 4]
    assert task_kappa(Task.REGION, *pair) == pytest.approx(np.mean(expected))
    assert task_agreement(Task.REGION, *pair) == pytest.approx((first == second).mean())
    assert task_kappa(Task.REGION, [("N/A",)] * 3, [("no labelled region",)] * 3) is None
