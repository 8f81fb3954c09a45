"""Scores of predictions against targets, and how sure they are (mpLLM, section 4.2, Evaluation).

Every score is kept a question, so that means and bootstrap resamples, by question or by patient, are sums of the same
numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task

RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for Q questions: a class of each exclusive task, 0/1 of the nine regions, chance of out of
    scope."""

    classes: Mapping[Task, Int[np.ndarray, " Q"]]
    regions: Int[np.ndarray, "Q 9"]
    out_of_scope: Float[np.ndarray, " Q"]


@dataclass(frozen=True, eq=False)
class Truth:
    """The targets of Q questions, which tasks each asks, and whose patient it is about."""

    classes: Mapping[Task, Int[np.ndarray, " Q"]]
    regions: Int[np.ndarray, "Q 9"]
    out_of_scope: Int[np.ndarray, " Q"]
    asked: Mapping[Task, np.ndarray]
    patients: Int[np.ndarray, " Q"]


def truth_of(rows: Sequence[Mapping]) -> Truth:
    """The targets of dataset rows."""
    names = sorted({row["patient"] for row in rows})
    return Truth(
        classes={task: np.array([row["targets"][task] for row in rows]) for task in EXCLUSIVE_TASKS},
        regions=np.array([row["targets"]["region"][: len(REGIONS)] for row in rows]),
        out_of_scope=np.array([row["targets"]["out_of_scope"] for row in rows]),
        asked={task: np.array([str(task) in row["tasks"] for row in rows]) for task in Task},
        patients=np.array([names.index(row["patient"]) for row in rows]),
    )


def question_scores(predictions: Predictions, truth: Truth) -> dict[Task, Float[np.ndarray, " Q"]]:
    """Per question and task: 1 right, 0 wrong, for region the share of the nine that is right, NaN where not asked."""
    scores = {}
    for task in Task:
        if task is Task.REGION:
            right = (predictions.regions == truth.regions).mean(axis=1)
        else:
            right = (predictions.classes[task] == truth.classes[task]).astype(float)
        scores[task] = np.where(truth.asked[task], right, np.nan)
    return scores


@dataclass(frozen=True)
class Estimate:
    """A mean with its bootstrap standard deviations, in percent."""

    value: float
    sd_by_question: float
    sd_by_patient: float


def _resampled(
    scores: Float[np.ndarray, "Q C"], clusters: Int[np.ndarray, " Q"], generator: np.random.Generator
) -> Float[np.ndarray, "R C"]:
    """The columns' means under resampling of whole clusters with replacement."""
    count = int(clusters.max()) + 1
    asked = ~np.isnan(scores)
    sums = np.stack([np.bincount(clusters, np.nan_to_num(column), count) for column in scores.T], axis=1)
    sizes = np.stack([np.bincount(clusters, column, count) for column in asked.T], axis=1)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = (draws @ sums) / (draws @ sizes)
    return means


def estimates(
    scores: Mapping[str, Float[np.ndarray, " Q"]], patients: Int[np.ndarray, " Q"], seed: int = 0
) -> dict[str, Estimate]:
    """The mean of each column of scores (NaN: not asked) and of their means ("mean"), in percent."""
    table = np.stack(list(scores.values()), axis=1)
    generator = np.random.default_rng(seed)
    by_question = _resampled(table, np.arange(len(table)), generator)
    by_patient = _resampled(table, patients, generator)
    values = np.nanmean(table, axis=0)
    columns = [*zip(scores, values, by_question.T, by_patient.T, strict=True)]
    columns.append(("mean", values.mean(), by_question.mean(axis=1), by_patient.mean(axis=1)))
    return {
        str(name): Estimate(100 * float(value), 100 * float(np.nanstd(q)), 100 * float(np.nanstd(p)))
        for name, value, q, p in columns
    }


def auroc(chance: Float[np.ndarray, " Q"], truth: Int[np.ndarray, " Q"]) -> float | None:
    """Area under the ROC curve by ranks (ties count half); None if only one class occurs."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(chance)[truth == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def out_of_scope_scores(chance: Float[np.ndarray, " Q"], truth: Int[np.ndarray, " Q"]) -> dict[str, float | None]:
    """Accuracy, balanced accuracy and AUROC over in-scope and out-of-scope questions together, in percent."""
    right = (chance >= 0.5) == (truth == 1)
    recalls = [right[truth == value].mean() for value in (0, 1) if (truth == value).any()]
    area = auroc(chance, truth)
    return {
        "accuracy": 100 * float(right.mean()),
        "balanced_accuracy": 100 * float(np.mean(recalls)),
        "auroc": None if area is None else 100 * area,
    }
