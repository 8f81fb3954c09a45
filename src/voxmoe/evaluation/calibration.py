"""Whether the heads' probabilities are what they say: expected calibration errors, Brier scores, reliability.

A decision is a class of an exclusive task, a region that is named or not, in scope or out of scope. Its confidence is
the probability of what is decided. Shapes: N decisions, A classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from voxmoe.evaluation.metrics import Truth
from voxmoe.evaluation.predictions import Chances
from voxmoe.model.heads import OUT_OF_SCOPE
from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The decisions whose confidence is above `low` and up to `high`."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean confidence, 0 to 1."""
    accuracy: float
    """The share of them that is right, 0 to 1."""


def reliability(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], edges: Float[np.ndarray, " E"]
) -> list[Bin]:
    """The bins between `edges` (the first one closed on both sides) that hold any decision."""
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)
    bins = []
    for number in np.unique(place):
        inside = place == number
        bins.append(
            Bin(
                float(edges[number]),
                float(edges[number + 1]),
                int(inside.sum()),
                float(confidence[inside].mean()),
                float(right[inside].mean()),
            )
        )
    return bins


def even_edges() -> Float[np.ndarray, " 16"]:
    return np.linspace(0, 1, BINS + 1)


def filled_edges(confidence: Float[np.ndarray, " N"]) -> Float[np.ndarray, " E"]:
    """Edges between which about equally many decisions lie; equal confidences stay in one bin."""
    inner = np.quantile(confidence, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.unique([0.0, *inner, 1.0])


def calibration_error(bins: Sequence[Bin]) -> float:
    """sum over bins of count / N x |accuracy - confidence|: ECE for even bins, adaptive ECE for filled ones."""
    total = sum(entry.count for entry in bins)
    return sum(entry.count * abs(entry.accuracy - entry.confidence) for entry in bins) / total


def brier(chances: Float[np.ndarray, "N A"], truth: Int[np.ndarray, " N"]) -> float:
    """Mean over decisions of the squared distance from the true class, summed over classes: 0 to 2."""
    return float(np.mean(np.sum((chances - np.eye(chances.shape[1])[truth]) ** 2, axis=1)))


def _head(chances: Float[np.ndarray, "N A"], truth: Int[np.ndarray, " N"]) -> dict[str, Any]:
    confidence = chances.max(axis=1)
    right = chances.argmax(axis=1) == truth
    even = reliability(confidence, right, even_edges())
    return {
        "decisions": len(truth),
        "ece": 100 * calibration_error(even),
        "adaptive_ece": 100 * calibration_error(reliability(confidence, right, filled_edges(confidence))),
        "brier": brier(chances, truth),
        "reliability": [asdict(entry) for entry in even],
    }


def calibration(chances: Chances, truth: Truth) -> dict[str, Any]:
    """Of each head, over the questions that ask its task (out of scope: all): errors in percent, Brier score, bins.

    A head whose task no question asks is left out.
    """
    found = {}
    for task in Task:
        asked = truth.asked[task]
        if not asked.any():
            continue
        said = chances[task][asked].astype(float)
        if task in EXCLUSIVE_TASKS:
            found[str(task)] = _head(said, truth.classes[task][asked])
        else:
            named = said[:, : len(REGIONS)].reshape(-1)
            found[str(task)] = _head(np.stack([1 - named, named], axis=1), truth.regions[asked].reshape(-1))
    found[OUT_OF_SCOPE] = _head(chances[OUT_OF_SCOPE].astype(float), truth.out_of_scope)
    return found
