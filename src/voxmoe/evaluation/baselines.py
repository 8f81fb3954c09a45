"""The baseline that looks at nothing: the commonest answer of the training questions."""

from collections.abc import Mapping, Sequence

import numpy as np

from voxmoe.evaluation.metrics import Predictions, truth_of
from voxmoe.vocabulary import EXCLUSIVE_TASKS, Task


def majority_class(training: Sequence[Mapping], count: int) -> Predictions:
    """For each task its commonest class among the training questions that ask it, for `count` questions."""
    truth = truth_of(training)
    classes = {}
    for task in EXCLUSIVE_TASKS:
        answers = truth.classes[task][truth.asked[task]]
        classes[task] = np.full(count, np.bincount(answers).argmax() if answers.size else 0)
    asked = truth.asked[Task.REGION]
    regions = (truth.regions[asked].mean(axis=0) > 0.5).astype(int) if asked.any() else np.zeros(9, int)
    return Predictions(classes, np.tile(regions, (count, 1)), np.full(count, float(truth.out_of_scope.mean())))
