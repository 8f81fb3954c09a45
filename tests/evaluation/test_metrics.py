"""Scores against hand-worked cases and scikit-learn."""

import numpy as np
import pytest
from drawn import PREDICTIONS, row
from drawn import ROWS as DRAWN
from sklearn import metrics as oracle

from voxmoe.evaluation.baselines import majority_class
from voxmoe.evaluation.metrics import auroc, balanced_accuracy, question_scores, region_scores, truth_of
from voxmoe.evaluation.predictions import NO_ANSWER, Predictions
from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Kind, Task

ROWS = [
    row("a", volume=["<1%"], region=["frontal", "insula"]),
    row("a", volume=["1-5%"], shape=["oval"]),
    row("b", volume=["<1%"], region=["N/A"], spread=["N/A"]),
    row("b", Kind.PARTIAL, shape=["oval"]),
    row("c", Kind.OUT_OF_SCOPE),
]


def test_scores_by_hand() -> None:
    scores = question_scores(majority_class(ROWS, len(ROWS)), truth_of(ROWS))
    np.testing.assert_array_equal(scores.tasks[Task.VOLUME], [1, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(scores.tasks[Task.SHAPE], [np.nan, 1, np.nan, 1, np.nan])
    np.testing.assert_allclose(scores.tasks[Task.REGION], [7 / 9, np.nan, 1, np.nan, np.nan])
    np.testing.assert_array_equal(scores.out_of_scope, [1, 1, 1, 0, 0])


def test_accuracy_of_the_asked_questions_against_scikit_learn() -> None:
    truth = truth_of(DRAWN)
    scores = question_scores(PREDICTIONS, truth)
    for task in EXCLUSIVE_TASKS:
        asked = [str(task) in one["tasks"] for one in DRAWN]
        true = [one["targets"][task] for one, on in zip(DRAWN, asked, strict=True) if on]
        expected = oracle.accuracy_score(true, PREDICTIONS.classes[task][asked])
        assert np.nanmean(scores.tasks[task]) == pytest.approx(expected)
    said = PREDICTIONS.out_of_scope >= 0.5
    assert scores.out_of_scope.mean() == pytest.approx(oracle.accuracy_score(truth.out_of_scope, said))


def test_regions_against_scikit_learn() -> None:
    truth = truth_of(DRAWN)
    found = region_scores(PREDICTIONS, truth)
    asked = truth.asked[Task.REGION]
    true, said = truth.regions[asked], PREDICTIONS.regions[asked]
    assert found is not None
    assert found["questions"] == asked.sum()
    for average in ("macro", "micro"):
        assert found[f"f1_{average}"] == pytest.approx(100 * oracle.f1_score(true, said, average=average))
        assert found[f"iou_{average}"] == pytest.approx(100 * oracle.jaccard_score(true, said, average=average))
    assert found["exact"] == pytest.approx(100 * oracle.accuracy_score(true, said))
    for place, region in enumerate(REGIONS):
        one = found["by_region"][region]
        assert one["accuracy"] == pytest.approx(100 * oracle.accuracy_score(true[:, place], said[:, place]))
        assert one["f1"] == pytest.approx(100 * oracle.f1_score(true[:, place], said[:, place]))
        assert one["iou"] == pytest.approx(100 * oracle.jaccard_score(true[:, place], said[:, place]))
    by_region = [one["accuracy"] for one in found["by_region"].values()]
    scores = question_scores(PREDICTIONS, truth).tasks[Task.REGION]
    assert np.mean(by_region) == pytest.approx(100 * np.nanmean(scores))


def test_a_region_that_nobody_names_has_no_f1_and_leaves_the_mean_alone() -> None:
    truth = truth_of(ROWS[:1])
    said = truth.regions.copy()
    said[0, REGIONS.index("limbic")] = 1
    found = region_scores(Predictions({}, said, np.zeros(1)), truth)
    assert found is not None
    assert found["by_region"]["cerebellum"]["f1"] is None
    assert found["by_region"]["limbic"]["f1"] == 0
    expected = oracle.f1_score(truth.regions, said, average="macro", zero_division=np.nan)
    assert found["f1_macro"] == pytest.approx(100 * expected) == pytest.approx(200 / 3)


def test_scope_against_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, 200)
    chance = np.round(np.clip(truth * 0.3 + generator.random(200) * 0.7, 0, 1), 2)  # rounded: with ties
    right = ((chance >= 0.5) == truth).astype(float)
    assert auroc(chance, truth) == pytest.approx(oracle.roc_auc_score(truth, chance))
    assert balanced_accuracy(right, truth) == pytest.approx(oracle.balanced_accuracy_score(truth, chance >= 0.5))


def test_negatives_count() -> None:
    """A model that calls everything out of scope is right only as often as that is so."""
    truth = truth_of(ROWS)
    everything = Predictions(majority_class(ROWS, 5).classes, np.zeros((5, 9), int), np.ones(5))
    right = question_scores(everything, truth).out_of_scope
    assert right.mean() == pytest.approx(2 / 5)
    assert balanced_accuracy(right, truth.out_of_scope) == 0.5
    assert auroc(everything.out_of_scope, truth.out_of_scope) == 0.5


def test_area_needs_both_classes() -> None:
    assert auroc(np.array([0.2, 0.7]), np.array([1, 1])) is None


def test_no_answer_is_wrong_for_every_target() -> None:
    truth = truth_of(ROWS)
    classes = {task: np.full(5, NO_ANSWER) for task in EXCLUSIVE_TASKS}
    silent = Predictions(classes, np.full((5, 9), NO_ANSWER), np.zeros(5))
    for values in question_scores(silent, truth).tasks.values():
        assert np.nansum(values) == 0
    found = region_scores(silent, truth)
    assert found is not None
    assert found["f1_micro"] == 0
    assert found["by_region"]["cerebellum"]["accuracy"] == 0


def test_without_region_questions_there_are_no_region_scores() -> None:
    assert region_scores(majority_class(ROWS, 2), truth_of(ROWS[3:])) is None
