"""Smooth random fields: cubic B-splines over a lattice of random coefficients, whatever grid they are read on."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from scipy import sparse

from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Field, Shape

Line = tuple[float, float, int]
"""Evenly spaced places along an axis: the first, the step and how many."""


def line_places(line: Line) -> Float32[np.ndarray, " S"]:
    first, step, count = line
    return np.float32(first) + np.float32(step) * np.arange(count, dtype=np.float32)


def _knots(size: int, spacing: float) -> int:
    return int(np.ceil(size / spacing)) + 3


@lru_cache(maxsize=512)
def spline_weights(line: Line, size: int, spacing: float) -> sparse.csr_array:
    """Cubic B-spline weights [S, K] at the places of `line`, all within 0 to `size`.

    Knots stand `spacing` apart, the first of them at -`spacing`.
    """
    first, step, count = line
    at = (first + step * np.arange(count)) / spacing
    before = np.clip(np.floor(at), 0, _knots(size, spacing) - 4)
    t = at - before
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3], axis=1) / 6
    knots = before.astype(np.int32)[:, None] + np.arange(4, dtype=np.int32)
    ends = np.arange(0, 4 * count + 1, 4, dtype=np.int32)
    return sparse.csr_array((weights.astype(np.float32).ravel(), knots.ravel(), ends), (count, _knots(size, spacing)))


@lru_cache(maxsize=64)
def linear_weights(size: int, step: int) -> sparse.csr_array:
    """Linear interpolation [S, K] between every `step`-th of `size` places; held beyond the last."""
    at = np.minimum(np.arange(size) / step, (size - 1) // step)
    away = np.abs(at[:, None] - np.arange(-(-size // step)))
    return sparse.csr_array(np.clip(1 - away, 0, None).astype(np.float32))


def lattice_shape(shape: Shape, spacing: float) -> Shape:
    x, y, z = (_knots(size, spacing) for size in shape)
    return x, y, z


def separable(lattice: Float32[np.ndarray, "A B C"], weights: Sequence[sparse.csr_array]) -> Field:
    """Weigh an array along its three axes, the first of the result lying closest in memory as in a NIfTI file.

    Sparse, without BLAS: the same bits with any number of threads.
    """
    x, y, z = weights
    a, b, c = lattice.shape
    out = (x @ lattice.reshape(a, b * c)).reshape(-1, b, c)  # X B C
    out = y @ np.ascontiguousarray(out.transpose(1, 2, 0)).reshape(b, -1)  # Y (C X)
    out = np.ascontiguousarray(out.reshape(y.shape[0], c, x.shape[0]).transpose(1, 0, 2))  # C Y X
    return np.asarray((z @ out.reshape(c, -1)).reshape(z.shape[0], y.shape[0], x.shape[0]).T)


def upsample(
    lattice: Float32[np.ndarray, "A B C"], shape: Shape, spacing: float, lines: Sequence[Line] | None = None
) -> Field:
    """The smooth field over `shape` mm whose B-spline coefficients stand on a lattice of `spacing` mm.

    It is read at the places of the three `lines`, or at every mm.
    """
    lines = lines or [(0.0, 1.0, size) for size in shape]
    return separable(lattice, [spline_weights(line, size, spacing) for line, size in zip(lines, shape, strict=True)])


def smooth_noise(rng: Rng, shape: Shape, spacing: float, lines: Sequence[Line] | None = None) -> Field:
    """Gaussian noise of mean 0 and deviation 1 that varies over about `spacing` mm, read as by `upsample`."""
    lattice = rng.standard_normal(lattice_shape(shape, spacing), dtype=np.float32)
    lattice *= np.float32(0.479**-1.5)  # a cubic B-spline's mean sum of squared weights is 0.479 along each axis
    return upsample(lattice, shape, spacing, lines)
