"""Calibration errors worked by hand; Brier scores against scikit-learn."""

import numpy as np
import pytest
from drawn import PREDICTIONS, ROWS
from sklearn.metrics import brier_score_loss

from voxmoe.evaluation.calibration import (
    brier,
    calibration,
    calibration_error,
    even_edges,
    filled_edges,
    reliability,
)
from voxmoe.evaluation.metrics import truth_of
from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task


def test_expected_calibration_error_by_hand() -> None:
    """Confidences .62 and .64 (one right) share the bin .60 to .667, .95 and 1 (both right) the last one.

    (2/5 |1/2 - .63| + 1/5 |0 - .31| + 2/5 |1 - .975|) = .052 + .062 + .010
    """
    confidence = np.array([0.62, 0.64, 0.31, 0.95, 1.0])
    right = np.array([True, False, False, True, True])
    bins = reliability(confidence, right, even_edges())
    assert [entry.count for entry in bins] == [1, 2, 2]
    assert (bins[1].low, bins[1].high) == pytest.approx((9 / 15, 10 / 15))
    assert (bins[1].confidence, bins[1].accuracy) == pytest.approx((0.63, 0.5))
    assert calibration_error(bins) == pytest.approx(0.124)


def test_adaptive_error_by_hand() -> None:
    """30 confidences in 15 bins of two: each bin has one right, and its own mean confidence."""
    confidence = np.linspace(0.5, 0.99, 30)
    right = np.tile([True, False], 15)
    bins = reliability(confidence, right, filled_edges(confidence))
    assert [entry.count for entry in bins] == [2] * 15
    expected = np.mean([abs(0.5 - confidence[place : place + 2].mean()) for place in range(0, 30, 2)])
    assert calibration_error(bins) == pytest.approx(expected)


def test_an_edge_belongs_to_the_bin_below_and_nothing_is_lost() -> None:
    confidence = np.linspace(0, 1, 16)
    bins = reliability(confidence, np.ones(16, bool), even_edges())
    assert sum(entry.count for entry in bins) == 16
    assert bins[0].count == 2  # 0 and 1/15


def test_equal_confidences_stay_together_whatever_their_order() -> None:
    confidence = np.array([0.7] * 50 + [0.9] * 10)
    right = np.arange(60) % 2 == 0
    bins = reliability(confidence, right, filled_edges(confidence))
    assert [entry.count for entry in bins] == [50, 10]
    order = np.random.default_rng(0).permutation(60)
    again = reliability(confidence[order], right[order], filled_edges(confidence[order]))
    assert calibration_error(again) == pytest.approx(calibration_error(bins))


def test_honest_confidence_has_a_small_error_and_boasting_a_large_one() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.3, 1, 40_000)
    right = generator.random(40_000) < confidence
    for edges in (even_edges(), filled_edges(confidence)):
        assert calibration_error(reliability(confidence, right, edges)) < 0.01
    boast = np.full(40_000, 0.95)
    error = calibration_error(reliability(boast, right, even_edges()))
    assert error == pytest.approx(0.95 - right.mean())


def test_brier_scores_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    chances = generator.dirichlet(np.ones(5), 300)
    truth = generator.integers(0, 5, 300)
    expected = brier_score_loss(truth, chances, labels=range(5), scale_by_half=False)
    assert brier(chances, truth) == pytest.approx(expected)
    assert brier(np.eye(5)[truth], truth) == 0
    assert brier(np.eye(5)[(truth + 1) % 5], truth) == 2


def test_each_head_is_judged_on_what_it_is_asked() -> None:
    truth = truth_of(ROWS)
    chances = PREDICTIONS.chances
    assert chances is not None
    found = calibration(chances, truth)
    assert list(found) == ["volume", "region", "shape", "spread", "out_of_scope"]
    for task in EXCLUSIVE_TASKS:
        asked = truth.asked[task]
        assert found[task]["decisions"] == asked.sum()
        said = chances[task][asked].astype(float)
        said /= said.sum(axis=1, keepdims=True)
        expected = brier_score_loss(truth.classes[task][asked], said, labels=range(said.shape[1]), scale_by_half=False)
        assert found[task]["brier"] == pytest.approx(expected, rel=1e-5)
    asked = truth.asked[Task.REGION]
    named = chances["region"][asked][:, : len(REGIONS)].reshape(-1)
    assert found["region"]["decisions"] == 9 * asked.sum()
    assert found["region"]["brier"] == pytest.approx(2 * np.mean((named - truth.regions[asked].reshape(-1)) ** 2))
    assert found["out_of_scope"]["decisions"] == len(ROWS)
    for head in found.values():
        assert sum(entry["count"] for entry in head["reliability"]) == head["decisions"]
        assert 0 <= head["ece"] <= 100


def test_a_task_that_is_not_asked_is_left_out() -> None:
    without = [number for number, one in enumerate(ROWS) if "shape" not in one["tasks"]]
    assert PREDICTIONS.chances is not None
    chances = {name: values[without] for name, values in PREDICTIONS.chances.items()}
    assert "shape" not in calibration(chances, truth_of([ROWS[number] for number in without]))
