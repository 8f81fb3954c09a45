"""Means, deviations and intervals against SciPy's bootstrap, and what has to hold whatever the scores are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxmoe.evaluation.bootstrap import Estimate, Resampling

PATIENTS = np.repeat(np.arange(40), 6)


def estimates(scores: list[np.ndarray], patients: np.ndarray, resamples: int = 500) -> list[Estimate | None]:
    return Resampling(patients, resamples=resamples).estimates(np.stack(scores, axis=1))


@pytest.fixture
def clustered() -> np.ndarray:
    """Right or wrong, where patients differ."""
    generator = np.random.default_rng(0)
    return (generator.random(240) < generator.random(40)[PATIENTS]).astype(float)


def test_deviation_and_interval_are_those_of_scipy(clustered: np.ndarray) -> None:
    found, mean = estimates([clustered], PATIENTS, resamples=4000)
    assert found is not None
    assert found == mean
    assert found.value == pytest.approx(100 * clustered.mean())
    by_patient = clustered.reshape(40, 6).mean(axis=1)
    for values, sd, interval in (
        (clustered, found.sd_by_question, found.interval_by_question),
        (by_patient, found.sd_by_patient, found.interval_by_patient),
    ):
        theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1)
        assert sd == pytest.approx(100 * theirs.standard_error, rel=0.06)
        assert interval == pytest.approx(
            [100 * bound for bound in theirs.confidence_interval], abs=0.15 * 100 * theirs.standard_error
        )
    assert found.sd_by_patient is not None
    assert found.sd_by_patient > 1.3 * found.sd_by_question


def test_clusters_of_unlike_size_are_drawn_whole() -> None:
    """Two patients, one of 1 question that is right, one of 9 that are wrong: a resample is one of three things."""
    scores = np.array([1.0] + [0.0] * 9)
    resampling = Resampling(np.array([0] + [1] * 9))
    found = resampling.estimates(scores[:, None])[0]
    assert found is not None
    assert found.interval_by_patient == (0.0, 100.0)
    draws = resampling._by_patient
    assert set(map(tuple, draws.astype(int).tolist())) == {(2, 0), (1, 1), (0, 2)}
    means = np.where(draws[:, 0] == 2, 1, np.where(draws[:, 0] == 1, 0.1, 0))
    assert found.sd_by_patient == pytest.approx(100 * means.std(ddof=1), rel=1e-5)


def test_questions_that_do_not_ask_do_not_count(clustered: np.ndarray) -> None:
    unasked = np.where(np.arange(240) % 3 == 0, np.nan, clustered)
    found = estimates([unasked], PATIENTS)[0]
    assert found is not None
    assert found.questions == 160
    assert found.value == pytest.approx(100 * np.nanmean(unasked))


def test_the_mean_is_that_of_the_columns_and_shares_their_draws(clustered: np.ndarray) -> None:
    first, opposite, mean = estimates([clustered, 1 - clustered], PATIENTS)
    assert first is not None
    assert opposite is not None
    assert mean is not None
    assert mean.value == pytest.approx(50)
    assert mean.sd_by_question == pytest.approx(0, abs=1e-4)  # what one draw gains the other loses
    assert mean.questions == 240


def test_a_column_without_questions_has_no_estimate(clustered: np.ndarray) -> None:
    found = estimates([clustered, np.full(240, np.nan)], PATIENTS)
    assert found[0] is not None
    assert found[1:] == [None, None]


def test_one_patient_tells_nothing_about_others() -> None:
    found = estimates([np.array([1.0, 0.0, 1.0])], np.zeros(3, int))[0]
    assert found is not None
    assert found.sd_by_patient is None
    assert found.interval_by_patient is None
    assert found.sd_by_question > 0


def test_a_seed_gives_the_same_draws() -> None:
    scores = np.arange(30.0)[:, None] / 30
    patients = np.arange(30) // 3
    first, again, other = (Resampling(patients, seed).estimates(scores) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 1.0, float("nan")])), min_size=2, max_size=40))
def test_bounds(asked: list[tuple[int, float]]) -> None:
    _, patients = np.unique([patient for patient, _ in asked], return_inverse=True)
    for found in Resampling(patients, resamples=60).estimates(np.array([[score] for _, score in asked])):
        if found is not None:
            for low, high in filter(None, (found.interval_by_question, found.interval_by_patient)):
                assert -1e-3 <= low <= high <= 100 + 1e-3
