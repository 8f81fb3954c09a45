"""Smooth random fields: cubic B-splines over a lattice of random coefficients."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from scipy import sparse

from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Field, Shape


@lru_cache(maxsize=256)
def spline_weights(size: int, spacing: float, step: int = 1) -> sparse.csr_array:
    """Cubic B-spline weights [S, K] of knots `spacing` voxels apart, at every `step`-th of `size` voxels."""
    at = np.arange(0, size, step) / spacing
    knots = np.arange(-1, int(np.ceil(size / spacing)) + 2)
    away = np.abs(at[:, None] - knots[None, :])
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return sparse.csr_array(np.where(away < 1, near, far).astype(np.float32))


def lattice_shape(shape: Shape, spacing: float) -> Shape:
    x, y, z = (spline_weights(size, spacing).shape[1] for size in shape)
    return x, y, z


def separable(lattice: Float32[np.ndarray, "A B C"], weights: Sequence[sparse.csr_array]) -> Field:
    """Weigh an array along its three axes; sparse, without BLAS: the same bits with any number of threads."""
    x, y, z = weights
    a, b, c = lattice.shape
    out = (z @ lattice.reshape(a * b, c).T).reshape(z.shape[0], a, b)  # Z A B
    out = y @ np.ascontiguousarray(out.transpose(2, 1, 0)).reshape(b, -1)  # Y (A Z)
    out = np.ascontiguousarray(out.reshape(y.shape[0], a, z.shape[0]).transpose(1, 0, 2))  # A Y Z
    return np.asarray((x @ out.reshape(a, -1)).reshape(x.shape[0], y.shape[0], z.shape[0]))


def upsample(lattice: Float32[np.ndarray, "A B C"], shape: Shape, spacing: float) -> Field:
    """The smooth field whose B-spline coefficients stand on a lattice of `spacing` voxels."""
    return separable(lattice, [spline_weights(size, spacing) for size in shape])


def smooth_noise(rng: Rng, shape: Shape, spacing: float) -> Field:
    """Gaussian noise of mean 0 and deviation 1 that varies over about `spacing` voxels."""
    lattice = rng.standard_normal(lattice_shape(shape, spacing), dtype=np.float32)
    lattice *= np.float32(0.479**-1.5)  # a cubic B-spline's mean sum of squared weights is 0.479 along each axis
    return upsample(lattice, shape, spacing)
