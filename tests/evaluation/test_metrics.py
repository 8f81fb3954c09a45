"""Scores against hand-worked cases, scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from voxmoe.evaluation.baselines import majority_class
from voxmoe.evaluation.metrics import (
    Predictions,
    auroc,
    estimates,
    out_of_scope_scores,
    question_scores,
    truth_of,
)
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.encoding import encode


def row(patient: str, kind: Kind = Kind.IN_SCOPE, **answers: list[str]) -> dict:
    by_task = {Task(name): terms for name, terms in answers.items()}
    return {"patient": patient, "tasks": [str(task) for task in by_task], "targets": encode(kind, by_task)}


ROWS = [
    row("a", volume=["<1%"], region=["frontal", "insula"]),
    row("a", volume=["1-5%"], shape=["oval"]),
    row("b", volume=["<1%"], region=["N/A"], spread=["N/A"]),
    row("b", Kind.PARTIAL, shape=["oval"]),
    row("c", Kind.OUT_OF_SCOPE),
]


def test_majority_scores_by_hand() -> None:
    truth = truth_of(ROWS)
    predictions = majority_class(ROWS, len(ROWS))
    scores = question_scores(predictions, truth)
    np.testing.assert_array_equal(scores[Task.VOLUME], [1, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(scores[Task.SHAPE], [np.nan, 1, np.nan, 1, np.nan])
    np.testing.assert_allclose(scores[Task.REGION], [7 / 9, np.nan, 1, np.nan, np.nan])
    found = estimates({str(task): values for task, values in scores.items()}, truth.patients)
    assert found["volume"].value == pytest.approx(200 / 3)
    assert found["region"].value == pytest.approx(100 * 8 / 9)
    assert found["mean"].value == pytest.approx((200 / 3 + 800 / 9 + 100 + 100) / 4)


def test_standard_deviation_is_that_of_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 6)
    values = (generator.random(240) < generator.random(40)[patients]).astype(float)
    found = estimates({"task": values}, patients)["task"]
    by_question = stats.bootstrap((values,), np.mean, n_resamples=4000, rng=generator).standard_error
    by_patient = stats.bootstrap(
        (values.reshape(40, 6).mean(axis=1),), np.mean, n_resamples=4000, rng=generator
    ).standard_error
    assert found.sd_by_question == pytest.approx(100 * by_question, rel=0.12)
    assert found.sd_by_patient == pytest.approx(100 * by_patient, rel=0.12)
    assert found.sd_by_patient > 1.3 * found.sd_by_question


def test_out_of_scope_against_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, 200)
    chance = np.round(np.clip(truth * 0.3 + generator.random(200) * 0.7, 0, 1), 2)
    scores = out_of_scope_scores(chance, truth)
    assert scores["auroc"] == pytest.approx(100 * roc_auc_score(truth, chance))
    assert scores["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(truth, chance >= 0.5))
    assert scores["accuracy"] == pytest.approx(100 * ((chance >= 0.5) == truth).mean())


def test_negatives_count() -> None:
    """A model that calls everything out of scope is right only as often as that is so."""
    scores = out_of_scope_scores(np.ones(6), np.array([1, 1, 0, 0, 0, 0]))
    assert scores == {"accuracy": pytest.approx(100 / 3), "balanced_accuracy": 50.0, "auroc": 50.0}


def test_area_needs_both_classes() -> None:
    assert auroc(np.array([0.2, 0.7]), np.array([1, 1])) is None


def test_predictions_of_tasks_that_are_not_asked_do_not_count() -> None:
    truth = truth_of(ROWS[:1])
    classes = {task: np.array([1]) for task in (Task.VOLUME, Task.SHAPE, Task.SPREAD)}
    scores = question_scores(Predictions(classes, np.zeros((1, 9), int), np.zeros(1)), truth)
    assert np.isnan(scores[Task.SHAPE][0])
    assert scores[Task.VOLUME][0] == 0
