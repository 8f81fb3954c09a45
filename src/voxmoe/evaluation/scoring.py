"""Scores of one method -> its record in the results: per task, and again per label and per kind of question."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool

from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.calibration import calibration
from voxmoe.evaluation.metrics import Scores, Truth, auroc, balanced_accuracy, region_scores
from voxmoe.evaluation.predictions import NO_ANSWER, Predictions
from voxmoe.vocabulary import EXCLUSIVE_TASKS, Kind, Task

Record = dict[str, Any]


def _estimates(columns: dict[str, np.ndarray], resampling: Resampling) -> Record:
    """Name -> estimate, and "mean" over them; None where nothing is asked."""
    found = resampling.estimates(np.stack(list(columns.values()), axis=1))
    return {
        name: None if estimate is None else asdict(estimate)
        for name, estimate in zip((*columns, "mean"), found, strict=True)
    }


def task_record(scores: Scores, resampling: Resampling, where: Bool[np.ndarray, " Q"] | None = None) -> Record:
    """Accuracy of each task and their mean, over some of the questions."""
    columns = {
        str(task): values if where is None else np.where(where, values, np.nan) for task, values in scores.tasks.items()
    }
    return _estimates(columns, resampling)


def scope_record(scores: Scores, resampling: Resampling, where: Bool[np.ndarray, " Q"] | None = None) -> Record:
    """Accuracy of telling in scope from out of scope."""
    values = scores.out_of_scope if where is None else np.where(where, scores.out_of_scope, np.nan)
    accuracy: Record = _estimates({"accuracy": values}, resampling)["accuracy"]
    return accuracy


def _groups(values: np.ndarray, order: Iterable[str], make: Callable[[np.ndarray], Record]) -> Record:
    return {name: make(values == name) for name in order if (values == name).any()}


def score_record(scores: Scores, area: float | None, truth: Truth, resampling: Resampling) -> Record:
    """Everything that is a mean over questions, and balanced accuracy and area under the ROC curve of the scope."""

    def both(where: np.ndarray) -> Record:
        return {
            "tasks": task_record(scores, resampling, where),
            "out_of_scope": {"accuracy": scope_record(scores, resampling, where)},
        }

    return {
        "tasks": task_record(scores, resampling),
        "out_of_scope": {
            "accuracy": scope_record(scores, resampling),
            "balanced_accuracy": 100 * balanced_accuracy(scores.out_of_scope, truth.out_of_scope),
            "auroc": None if area is None else 100 * area,
        },
        "by_label": _groups(truth.labels, dict.fromkeys(truth.labels.tolist()), both),
        "by_kind": _groups(truth.kinds, map(str, Kind), both),
    }


def method_record(predictions: Predictions, scores: Scores, truth: Truth, resampling: Resampling) -> Record:
    """The record of predictions: scores, F1 and IoU of regions, and calibration where there are probabilities."""
    record = score_record(scores, auroc(predictions.out_of_scope, truth.out_of_scope), truth, resampling)
    record["region"] = region_scores(predictions, truth)
    if predictions.chances is not None:
        record["calibration"] = calibration(predictions.chances, truth)
    return record


def unparsed(predictions: Predictions, truth: Truth) -> Record:
    """Per task the percentage of asked questions whose text gives no answer (each of them counts as wrong)."""
    silent = {task: predictions.classes[task] == NO_ANSWER for task in EXCLUSIVE_TASKS}
    silent[Task.REGION] = (predictions.regions == NO_ANSWER).all(axis=1)
    return {
        str(task): 100 * float(silent[task][truth.asked[task]].mean()) if truth.asked[task].any() else None
        for task in Task
    }
