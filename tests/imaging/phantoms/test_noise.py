"""Smooth fields: standard, smooth, exact where the truth is known."""

import numpy as np
import pytest

from voxmoe.imaging.phantoms.noise import lattice_shape, smooth_noise, upsample


def test_smooth_noise_is_standard_and_smooth() -> None:
    field = smooth_noise(np.random.default_rng(0), (60, 50, 70), 4.0)
    assert field.shape == (60, 50, 70)
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.35


def test_upsampled_constant_stays_constant() -> None:
    lattice = np.full(lattice_shape((17, 23, 9), 5.0), 2.5, dtype=np.float32)
    np.testing.assert_allclose(upsample(lattice, (17, 23, 9), 5.0), 2.5, rtol=1e-5)


def test_noise_is_the_same_field_on_every_grid() -> None:
    fine = smooth_noise(np.random.default_rng(3), (40, 30, 20), 5.0)
    lines = [(0.0, 2.0, 20), (1.0, 3.0, 10), (4.0, 1.0, 6)]
    coarse = smooth_noise(np.random.default_rng(3), (40, 30, 20), 5.0, lines)
    np.testing.assert_allclose(coarse, fine[::2, 1::3, 4:10], rtol=1e-5, atol=1e-6)
