"""Baselines: the majority by hand, expected scores of guessing against guesses that are drawn."""

from typing import Any

import numpy as np
import pytest
from drawn import ROWS, drawn_rows, row
from sklearn.dummy import DummyClassifier

from voxmoe.evaluation.baselines import majority_class, majority_class_of_the_label, prior_guess, uniform_guess
from voxmoe.evaluation.metrics import Scores, balanced_accuracy, question_scores, truth_of
from voxmoe.evaluation.predictions import Predictions
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS, Kind, Task

TRAINING = [
    *(row("a", label="ET", volume=["<1%"], region=["frontal", "insula"]) for _ in range(3)),
    *(row("b", label="RC", volume=["N/A"], region=["N/A"]) for _ in range(2)),
    row("c", Kind.OUT_OF_SCOPE, label="ET"),
]


def test_majority_by_task_and_by_label() -> None:
    asked = [row("x", label="ET", volume=["<1%"]), row("x", label="RC", volume=["<1%"]), row("x", label="NETC")]
    overall = majority_class(TRAINING, 3)
    assert [CLASSES[Task.VOLUME][c] for c in overall.classes[Task.VOLUME]] == ["<1%"] * 3
    by_label = majority_class_of_the_label(TRAINING, asked)
    assert [CLASSES[Task.VOLUME][c] for c in by_label.classes[Task.VOLUME]] == ["<1%", "N/A", "<1%"]
    assert by_label.regions.sum(axis=1).tolist() == [2, 0, 2]
    np.testing.assert_allclose(by_label.out_of_scope, [1 / 4, 0, 1 / 6])


def test_majority_against_scikit_learn() -> None:
    training = drawn_rows(300, seed=5)
    known, truth = truth_of(training), truth_of(ROWS)
    said = majority_class(training, len(ROWS))
    for task in EXCLUSIVE_TASKS:
        theirs = DummyClassifier(strategy="most_frequent").fit(
            np.zeros((known.asked[task].sum(), 1)), known.classes[task][known.asked[task]]
        )
        np.testing.assert_array_equal(said.classes[task], theirs.predict(np.zeros((len(truth), 1))))


def drawn_scores(rows: list[Any], chances: dict[Task, np.ndarray], outside: float, repeats: int) -> Scores:
    """The mean score of each question over guesses that are drawn."""
    generator = np.random.default_rng(0)
    truth = truth_of(rows)
    tasks = {task: np.zeros(len(rows)) for task in Task}
    scope = np.zeros(len(rows))
    for _ in range(repeats):
        guess = Predictions(
            {task: generator.choice(len(CLASSES[task]), len(rows), p=chances[task]) for task in EXCLUSIVE_TASKS},
            (generator.random((len(rows), 9)) < chances[Task.REGION]).astype(int),
            (generator.random(len(rows)) < outside).astype(float),
        )
        scores = question_scores(guess, truth)
        tasks = {task: tasks[task] + scores.tasks[task] / repeats for task in Task}
        scope = scope + scores.out_of_scope / repeats
    return Scores(tasks, scope)


def agree(expected: Scores, drawn: Scores) -> None:
    for task in Task:
        np.testing.assert_array_equal(np.isnan(expected.tasks[task]), np.isnan(drawn.tasks[task]))
        assert np.nanmean(expected.tasks[task]) == pytest.approx(np.nanmean(drawn.tasks[task]), abs=0.005)
        np.testing.assert_allclose(expected.tasks[task], drawn.tasks[task], atol=0.1)
    np.testing.assert_allclose(expected.out_of_scope, drawn.out_of_scope, atol=0.1)


def test_uniform_guessing_reaches_what_is_expected() -> None:
    even = {task: np.r_[0, np.full(len(CLASSES[task]) - 1, 1 / (len(CLASSES[task]) - 1))] for task in EXCLUSIVE_TASKS}
    expected = uniform_guess(truth_of(ROWS))
    assert np.nanmean(expected.tasks[Task.VOLUME]) == pytest.approx(1 / 7)
    agree(expected, drawn_scores(ROWS, {**even, Task.REGION: np.full(9, 0.5)}, 0.5, 500))


def test_guessing_by_the_prior_reaches_what_is_expected() -> None:
    training = drawn_rows(200, seed=7)
    asked = {task: [one for one in training if str(task) in one["tasks"]] for task in Task}
    shares: dict[Task, np.ndarray] = {
        task: np.array([np.mean([one[task] == name for one in asked[task]]) for name in CLASSES[task]])
        for task in EXCLUSIVE_TASKS
    }
    shares[Task.REGION] = np.array(
        [np.mean([region in one["region"] for one in asked[Task.REGION]]) for region in REGIONS]
    )
    outside = float(np.mean([one["kind"] != Kind.IN_SCOPE for one in training]))
    truth = truth_of(ROWS)
    expected = prior_guess(training, truth)
    agree(expected, drawn_scores(ROWS, shares, outside, 500))
    assert balanced_accuracy(expected.out_of_scope, truth.out_of_scope) == pytest.approx(0.5)
