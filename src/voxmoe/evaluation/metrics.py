"""What is right: predictions against targets, question by question (mpLLM, section 4.2, Evaluation).

Every accuracy is a mean of scores that are kept a question, so that bootstrap resamples, by question or by patient,
are sums of the same numbers. F1 and IoU of regions and the area under the ROC curve are no such means: they are given
without a deviation. Shapes: Q questions, R the nine regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from voxmoe.evaluation.predictions import Predictions
from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task


@dataclass(frozen=True, eq=False)
class Truth:
    """The targets of Q questions, which tasks each asks, about which label and whose patient, and of which kind."""

    classes: Mapping[Task, Int[np.ndarray, " Q"]]
    regions: Int[np.ndarray, "Q 9"]
    out_of_scope: Int[np.ndarray, " Q"]
    asked: Mapping[Task, Bool[np.ndarray, " Q"]]
    patients: Int[np.ndarray, " Q"]
    labels: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.patients)


def truth_of(rows: Sequence[Mapping[str, Any]]) -> Truth:
    """The targets of dataset rows."""
    _, patients = np.unique([row["patient"] for row in rows], return_inverse=True)
    return Truth(
        classes={task: np.array([row["targets"][task] for row in rows]) for task in EXCLUSIVE_TASKS},
        regions=np.array([row["targets"]["region"][: len(REGIONS)] for row in rows]),
        out_of_scope=np.array([row["targets"]["out_of_scope"] for row in rows]),
        asked={task: np.array([str(task) in row["tasks"] for row in rows]) for task in Task},
        patients=patients.reshape(-1),
        labels=np.array([row["label"] for row in rows]),
        kinds=np.array([row["kind"] for row in rows]),
    )


@dataclass(frozen=True, eq=False)
class Scores:
    """How right each question is, 0 to 1, or how right it is expected to be: NaN where a task is not asked."""

    tasks: Mapping[Task, Float[np.ndarray, " Q"]]
    out_of_scope: Float[np.ndarray, " Q"]


def question_scores(predictions: Predictions, truth: Truth) -> Scores:
    """1 right, 0 wrong; for region the share of the nine that is right."""
    scores = {}
    for task in Task:
        if task is Task.REGION:
            right = (predictions.regions == truth.regions).mean(axis=1)
        else:
            right = (predictions.classes[task] == truth.classes[task]).astype(float)
        scores[task] = np.where(truth.asked[task], right, np.nan)
    decided = predictions.out_of_scope >= 0.5
    return Scores(scores, (decided == (truth.out_of_scope == 1)).astype(float))


def _ratio(counts: Int[np.ndarray, " R"], of: Int[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    shares: np.ndarray = np.divide(counts, of, out=np.full(len(counts), np.nan), where=of > 0)
    return shares


def region_scores(predictions: Predictions, truth: Truth) -> dict[str, Any] | None:
    """Accuracy, F1 and IoU of every region over the questions that ask for regions, in percent; None if none does.

    Macro is the mean over the regions that are named at all, in truth or prediction; micro takes all decisions
    together. `exact` is the share of questions whose whole set is right.
    """
    asked = truth.asked[Task.REGION]
    if not asked.any():
        return None
    said, true = predictions.regions[asked], truth.regions[asked] == 1
    named = said == 1
    both, either = (named & true).sum(axis=0), (named | true).sum(axis=0)
    f1, iou = _ratio(2 * both, both + either), _ratio(both, either)
    accuracy = (said == true).mean(axis=0)
    return {
        "questions": int(asked.sum()),
        "f1_macro": _percent(np.nanmean(f1)) if either.any() else None,
        "f1_micro": _percent(2 * both.sum() / (both + either).sum()) if either.any() else None,
        "iou_macro": _percent(np.nanmean(iou)) if either.any() else None,
        "iou_micro": _percent(both.sum() / either.sum()) if either.any() else None,
        "exact": _percent((said == true).all(axis=1).mean()),
        "by_region": {
            name: {
                "accuracy": _percent(accuracy[place]),
                "f1": _percent(f1[place]),
                "iou": _percent(iou[place]),
                "frequency": _percent(true[:, place].mean()),
            }
            for place, name in enumerate(REGIONS)
        },
    }


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def auroc(chance: Float[np.ndarray, " Q"], truth: Int[np.ndarray, " Q"]) -> float | None:
    """Area under the ROC curve by ranks (ties count half); None if only one class occurs."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(chance)[truth == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def balanced_accuracy(right: Float[np.ndarray, " Q"], truth: Int[np.ndarray, " Q"]) -> float:
    """The mean over in scope and out of scope (of those that occur) of the share that is right."""
    return float(np.mean([right[truth == value].mean() for value in (0, 1) if (truth == value).any()]))
