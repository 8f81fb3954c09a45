"""A small picture of an image by which it is known again: volume -> 16x16x16 cells, compared by correlation.

The box of the foreground is stretched to a cube, so that neither the grid, nor cropping and padding, nor the spacing
counts. Intensities become ranks within the foreground, so that no increasing change of them counts. What all brains
share, and slow changes of brightness, are taken out by a high-pass. And of two pictures the best of the 48 ways to lay
one cube on the other counts, so that a wrong header hides nothing. `benchmarks/fingerprints.py` measures how well this
tells studies apart; docs/audit.md has the figures.
"""

import base64
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8, Int64, Shaped
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from voxmoe.imaging.grid import Box, bounding_box, resample
from voxmoe.imaging.volume import Volume

CELLS = 16
"""Cells along each edge of the cube."""
VERSION = 1
"""Fingerprints of different versions cannot be compared."""
_LEVELS = 256
_LOOSE_SHARE = 0.005
"""Of the foreground, what the box leaves out at either end of each axis: stray voxels do not move it."""
_FAINT = 0.01
"""Share of the image's range that still counts as background."""
_NOISE = 10.0
"""Background reaches this many median deviations from its median: about four standard deviations of noise."""
_SMOOTH = 1.5
"""Standard deviation, in cells, of the neighbourhood whose mean is taken out."""
_SCALE = 250
"""From ranks, which then seldom differ by more than half the range, to 8 bits."""
_STEP = 5
"""Quantiles are taken of every so many voxels."""
_STEP_OF_BODY = 2
"""The threshold of the body is taken of every so many voxels along each axis."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of an image."""

    voxels: str
    """sha256 of the voxels in RAS order as float32, without the rim of zeros: equal only for equal voxels."""
    cells: Int8[np.ndarray, "16 16 16"]
    """Mean rank of the foreground in each cell, less that of the cells around; 0 outside."""

    def to_json(self) -> dict[str, str]:
        return {"voxels": self.voxels, "cells": base64.b64encode(zlib.compress(self.cells.tobytes())).decode()}

    @classmethod
    def from_json(cls, content: dict[str, str]) -> "Fingerprint":
        cells = np.frombuffer(zlib.decompress(base64.b64decode(content["cells"])), np.int8)
        return cls(content["voxels"], cells.reshape(CELLS, CELLS, CELLS))


def _voxels_hash(data: Float32[np.ndarray, "X Y Z"]) -> str:
    trimmed = data[bounding_box(data != 0).slices]
    return hashlib.sha256(repr(trimmed.shape).encode() + trimmed.tobytes(order="F")).hexdigest()


def _faces(data: Shaped[np.ndarray, "X Y Z"]) -> Shaped[np.ndarray, " N"]:
    """The voxels on the six faces of the grid."""
    return np.concatenate([np.take(data, (0, -1), axis).ravel() for axis in range(3)])


def _foreground(data: Float32[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The voxels that differ from the background, which is what the faces of the grid show."""
    faces = _faces(data)
    background = np.median(faces)
    distance = np.abs(data - background)
    seen = distance[distance > 0][::_STEP]
    if not seen.size:
        return np.ones(data.shape, dtype=bool)
    noise = np.median(np.abs(faces - background))
    foreground: np.ndarray = distance > max(_FAINT * np.percentile(seen, 99), _NOISE * noise)
    return foreground if foreground.any() else distance > 0


def _core_box(foreground: Bool[np.ndarray, "X Y Z"]) -> Box:
    """The box of the foreground but for a few voxels at each end of each axis."""
    start, stop = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        below = np.cumsum(foreground.sum(axis=others, dtype=np.int64))
        low, high = np.searchsorted(below, (_LOOSE_SHARE * below[-1], (1 - _LOOSE_SHARE) * below[-1]))
        start.append(int(low))
        stop.append(int(high) + 1)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _ranks(data: Float32[np.ndarray, "X Y Z"], foreground: Bool[np.ndarray, "X Y Z"]) -> Float32[np.ndarray, "X Y Z"]:
    """Each foreground voxel's rank among the others, 0 to 1; background 0."""
    values = data[foreground]
    edges = np.quantile(values[::_STEP], np.linspace(0, 1, _LEVELS + 1)[1:-1])
    ranks = np.zeros(data.shape, np.float32)
    ranks[foreground] = np.searchsorted(edges, values) / np.float32(_LEVELS - 1)
    return ranks


def _high_pass(cells: Float32[np.ndarray, "D H W"], inside: Bool[np.ndarray, "D H W"]) -> Float32[np.ndarray, "D H W"]:
    """Each cell less the weighted mean of the inside cells around it; 0 outside."""
    weight = gaussian_filter(inside.astype(np.float32), _SMOOTH, mode="constant")
    around = gaussian_filter(np.where(inside, cells, 0), _SMOOTH, mode="constant")
    return np.where(inside, cells - around / np.maximum(weight, 1e-6), 0).astype(np.float32)


def _body(data: Float32[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The voxels above Otsu's threshold between air and tissue; of CT, whose faces cut through the body."""
    few = data[::_STEP_OF_BODY, ::_STEP_OF_BODY, ::_STEP_OF_BODY]
    body: np.ndarray = data > threshold_otsu(np.minimum(few, np.percentile(few, 99)))
    return body if body.any() else np.ones(data.shape, dtype=bool)


def fingerprint(volume: Volume, ct: bool = False) -> Fingerprint:
    """The fingerprint of an intensity image; the foreground of a CT is the body, not what differs from the faces."""
    data = volume.data.astype(np.float32, copy=False)
    everywhere = _body(data) if ct else _foreground(data)
    box = _core_box(everywhere)
    foreground = everywhere[box.slices]
    cube = (CELLS, CELLS, CELLS)
    cover = resample(foreground, cube)
    means = resample(_ranks(data[box.slices], foreground), cube) / np.maximum(cover, 0.5)
    detail = _high_pass(means, cover > 0.5)
    cells = np.rint(np.clip(_SCALE * detail, -127, 127)).astype(np.int8)
    return Fingerprint(_voxels_hash(data), cells)


@lru_cache(maxsize=1)
def _orientations() -> Int64[np.ndarray, "48 N"]:
    """For each of the 48 ways to turn and mirror the cube, where each of its cells comes from."""
    index = np.arange(CELLS**3, dtype=np.int64).reshape(CELLS, CELLS, CELLS)
    return np.stack(
        [
            index.transpose(order)[tuple(slice(None, None, step) for step in steps)].ravel()
            for order in permutations(range(3))
            for steps in product((1, -1), repeat=3)
        ]
    )


def stack(prints: list[Fingerprint]) -> Float32[np.ndarray, "K N"]:
    """Fingerprints as rows of length 1; one without any pattern is all zero and like nothing."""
    rows: np.ndarray = np.array([one.cells.ravel() for one in prints], dtype=np.float32).reshape(-1, CELLS**3)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows


def similarities(first: Float32[np.ndarray, "A N"], second: Float32[np.ndarray, "B N"]) -> Float[np.ndarray, "A B"]:
    """The highest correlation over all orientations of each of `first` with each of `second` (both from `stack`)."""
    best: np.ndarray = np.full((len(first), len(second)), -1, np.float32)
    for orientation in _orientations():
        np.maximum(best, first @ second[:, orientation].T, out=best)
    return best


def alike(rows: Float32[np.ndarray, "K N"], threshold: float, block: int = 1024) -> Iterator[tuple[int, int, float]]:
    """All pairs i < j of rows at least `threshold` alike, with their similarity; memory is that of a block of rows."""
    for start in range(0, len(rows), block):
        found = similarities(rows[start : start + block], rows[start:])
        for i, j in np.argwhere(found >= threshold):
            if i < j:
                yield start + int(i), start + int(j), float(found[i, j])
