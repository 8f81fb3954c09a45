"""Points, the shapes of arrays, and turns."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jaxtyping import Float, Float32

Point = tuple[float, float, float]
Shape = tuple[int, int, int]
Flat = Float32[np.ndarray, " N"]
"""One value for each drawn voxel."""
Field = Float32[np.ndarray, "X Y Z"]
CHUNK = 1 << 15
"""Few enough voxels that all that is computed of them stays in the cache."""


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


def in_chunks(work: Callable[[dict[str, Flat]], Mapping[str, Flat]], fields: Mapping[str, Flat]) -> dict[str, Flat]:
    """What `work`, which looks at each voxel by itself, makes of fields, a chunk of voxels at a time."""
    count = len(next(iter(fields.values())))
    out: dict[str, Flat] = {}
    for begin in range(0, count, CHUNK):
        part = slice(begin, begin + CHUNK)
        for name, values in work({name: field[part] for name, field in fields.items()}).items():
            if name not in out:
                out[name] = np.empty(count, dtype=np.float32)
            out[name][part] = values
    return out
