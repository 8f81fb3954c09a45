"""How sure a mean is: bootstrap resamples by question (as in the paper) and by patient (mpLLM, section 4.2).

Questions about one patient are alike, so the deviation by question is too small: resampling patients, with all of
their questions (a cluster bootstrap), does not take them for independent. All figures of an evaluation are made from
the same draws. Shapes: Q questions, P patients, R resamples, C columns of scores.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int

RESAMPLES = 500
_CHUNK = 50
LEVELS = (2.5, 97.5)
"""Percentiles of the resamples that bound the 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over questions in percent, with deviation and 95 % interval of its resamples.

    Those by patient are None where a single patient is asked about: nothing is known about others then.
    """

    value: float
    questions: int
    sd_by_question: float
    interval_by_question: tuple[float, float]
    sd_by_patient: float | None
    interval_by_patient: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Resampling:
    """Draws of questions and of patients, with replacement, as counts."""

    patients: Int[np.ndarray, " Q"]
    seed: int = 0
    resamples: int = RESAMPLES

    def _counts(self, things: int, stream: int) -> Float32[np.ndarray, "R N"]:
        generator = np.random.default_rng([self.seed, stream])
        sizes = [min(_CHUNK, self.resamples - start) for start in range(0, self.resamples, _CHUNK)]
        even = np.full(things, 1 / things)
        return np.concatenate([generator.multinomial(things, even, size=n).astype(np.float32) for n in sizes])

    @cached_property
    def _by_question(self) -> Float32[np.ndarray, "R Q"]:
        return self._counts(len(self.patients), 0)

    @cached_property
    def _by_patient(self) -> Float32[np.ndarray, "R P"]:
        return self._counts(int(self.patients.max()) + 1, 1)

    def estimates(self, scores: Float[np.ndarray, "Q C"]) -> list[Estimate | None]:
        """The mean of each column (NaN: does not count), and at the end the mean of these means.

        A column without any number has None, and so has the mean over it.
        """
        asked = ~np.isnan(scores)
        counted = np.nan_to_num(scores)
        of = int(self.patients.max()) + 1
        sums = np.stack([np.bincount(self.patients, column, of) for column in counted.T], axis=1)
        sizes = np.stack([np.bincount(self.patients, column, of) for column in asked.T], axis=1)
        by_question = _with_mean(_ratios(self._by_question @ counted, self._by_question @ asked))
        by_patient = _with_mean(_ratios(self._by_patient @ sums, self._by_patient @ sizes))
        values = _with_mean(_ratios(counted.sum(axis=0), asked.sum(axis=0))[None])[0]
        questions = [*asked.sum(axis=0), asked.any(axis=1).sum()]
        patients = [*(sizes > 0).sum(axis=0), (sizes > 0).any(axis=1).sum()]
        return [
            None if np.isnan(value) else _estimate(value, int(count), q, p if people > 1 else None)
            for value, count, people, q, p in zip(values, questions, patients, by_question.T, by_patient.T, strict=True)
        ]


def _ratios(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    means: np.ndarray = np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)
    return means


def _with_mean(columns: Float[np.ndarray, "R C"]) -> Float[np.ndarray, "R C1"]:
    return np.column_stack([columns, columns.mean(axis=1)])


def _spread(resamples: Float[np.ndarray, " R"]) -> tuple[float, tuple[float, float]]:
    """Deviation and interval in percent; resamples that happen to hold no question are left out."""
    drawn = 100 * resamples
    low, high = np.nanpercentile(drawn, LEVELS)
    return float(np.nanstd(drawn, ddof=1)), (float(low), float(high))


def _estimate(value: float, questions: int, by_question: np.ndarray, by_patient: np.ndarray | None) -> Estimate:
    patients = (None, None) if by_patient is None else _spread(by_patient)
    return Estimate(100 * float(value), questions, *_spread(by_question), *patients)
