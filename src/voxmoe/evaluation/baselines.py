"""The baselines that look at nothing: the commonest answer of the training questions, and guessing.

What guessing reaches is computed, not drawn. For a question whose answer is class c, of K classes that can be answered:

    uniform          1 / K                       each region: 1/2            out of scope: 1/2
    training prior   share of c in training      p or 1 - p of each region   p or 1 - p

where p is the share of training questions that name the region (or are out of scope), taken where it is so and 1 - p
where it is not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from voxmoe.evaluation.metrics import Scores, Truth, truth_of
from voxmoe.evaluation.predictions import Predictions
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS, Task

Rows = Sequence[Mapping[str, Any]]


def majority_class(training: Rows, count: int) -> Predictions:
    """For each task its commonest class among the training questions that ask it, for `count` questions."""
    truth = truth_of(training)
    classes = {}
    for task in EXCLUSIVE_TASKS:
        answers = truth.classes[task][truth.asked[task]]
        classes[task] = np.full(count, np.bincount(answers).argmax() if answers.size else 0)
    asked = truth.asked[Task.REGION]
    regions = (truth.regions[asked].mean(axis=0) > 0.5).astype(int) if asked.any() else np.zeros(len(REGIONS), int)
    return Predictions(classes, np.tile(regions, (count, 1)), np.full(count, float(truth.out_of_scope.mean())))


def majority_class_of_the_label(training: Rows, rows: Rows) -> Predictions:
    """The same by task and label: what the question alone gives away. A label without training questions has that of
    all."""
    labels = [row["label"] for row in rows]
    found = {
        label: majority_class([row for row in training if row["label"] == label] or training, 1)
        for label in dict.fromkeys(labels)
    }
    return Predictions(
        {task: np.array([found[label].classes[task][0] for label in labels]) for task in EXCLUSIVE_TASKS},
        np.array([found[label].regions[0] for label in labels]),
        np.array([found[label].out_of_scope[0] for label in labels]),
    )


def uniform_guess(truth: Truth) -> Scores:
    """What guessing evenly among all classes but "not asked" is expected to reach."""
    even = {task: np.full(len(truth), 1 / (len(CLASSES[task]) - 1)) for task in EXCLUSIVE_TASKS}
    half = np.full(len(truth), 0.5)
    return _where_asked({**even, Task.REGION: half}, half, truth)


def prior_guess(training: Rows, truth: Truth) -> Scores:
    """What guessing by the frequencies of the training questions is expected to reach."""
    known = truth_of(training)
    scores = {}
    for task in EXCLUSIVE_TASKS:
        answers = known.classes[task][known.asked[task]]
        share = np.bincount(answers, minlength=len(CLASSES[task])) / max(answers.size, 1)
        scores[task] = share[truth.classes[task]]
    asked = known.asked[Task.REGION]
    named = known.regions[asked].mean(axis=0) if asked.any() else np.zeros(len(REGIONS))
    scores[Task.REGION] = np.where(truth.regions == 1, named, 1 - named).mean(axis=1)
    outside = float(known.out_of_scope.mean())
    return _where_asked(scores, np.where(truth.out_of_scope == 1, outside, 1 - outside), truth)


def _where_asked(scores: Mapping[Task, np.ndarray], out_of_scope: np.ndarray, truth: Truth) -> Scores:
    return Scores({task: np.where(truth.asked[task], scores[task], np.nan) for task in Task}, out_of_scope)
