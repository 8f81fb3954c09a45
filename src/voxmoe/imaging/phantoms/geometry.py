"""Points, the shapes of arrays, and turns."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32

Point = tuple[float, float, float]
Shape = tuple[int, int, int]
Flat = Float32[np.ndarray, " N"]
"""One value for each drawn voxel."""
Field = Float32[np.ndarray, "X Y Z"]


def as_point(values: Iterable[float]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def rotation(degrees: Point) -> Float[np.ndarray, "3 3"]:
    """Turns about the three axes, one after the other."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out
