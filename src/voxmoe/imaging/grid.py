"""From a study's own grid to the model's: one crop box and one resampling for all modalities of a study.

The model's axes are [D, H, W] = [inferior to superior, posterior to anterior, left to right]; D is the depth axis of
the encoder's patches. Cropping or moving each modality by itself would break their co-registration, so nothing here
can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Num, Shaped, UInt8

from voxmoe.imaging.parts import Part, label_parts
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import where_label
from voxmoe.vocabulary import Modality, Profile

GridShape = tuple[int, int, int]
"""Depth, height, width in voxels."""


@dataclass(frozen=True)
class Box:
    """A box of voxels, half-open, in RAS indices."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        x, y, z = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return x, y, z


def _bounds(occupied: Bool[np.ndarray, " N"]) -> tuple[int, int]:
    hits = np.flatnonzero(occupied)
    return (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, occupied.size)


def bounding_box(mask: Shaped[np.ndarray, "X Y Z"]) -> Box:
    """The smallest box that holds every voxel that is not zero (bool or whole numbers); the whole grid if there is
    none."""
    plane = np.bitwise_or.reduce(mask, axis=2)
    x0, x1 = _bounds(plane.any(axis=1))
    y0, y1 = _bounds(plane.any(axis=0))
    z0, z1 = _bounds(np.any(mask[x0:x1, y0:y1], axis=(0, 1)))
    return Box((x0, y0, z0), (x1, y1, z1))


@lru_cache(maxsize=64)
def _axis_weights(source: int, target: int) -> Float32[np.ndarray, "T S"]:
    """Linear interpolation along one axis, widened to an area-preserving triangle where the grid gets coarser."""
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    positions = np.clip(centres, 0, source - 1)
    distances = np.abs(np.arange(source)[None, :] - positions[:, None])
    weights = np.clip(1 - distances / support, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def resample(data: Shaped[np.ndarray, "X Y Z"], grid: GridShape) -> Float32[np.ndarray, "D H W"]:
    """Separable linear resampling of RAS voxels to the model's axes; a constant stays that constant."""
    depth, height, width = grid
    x, y, z = data.shape
    out = np.tensordot(_axis_weights(z, depth), data.astype(np.float32, copy=False), axes=(1, 2))  # D X Y
    out = np.tensordot(_axis_weights(y, height), out, axes=(1, 2))  # H D X
    out = np.tensordot(out, _axis_weights(x, width), axes=(2, 1))  # H D W
    return np.ascontiguousarray(out.transpose(1, 0, 2))


def normalise(data: Num[np.ndarray, "X Y Z"], foreground: Bool[np.ndarray, "X Y Z"]) -> Float32[np.ndarray, "X Y Z"]:
    """Intensities between the 0.5th and 99.5th percentile of the foreground, as 0 to 1; background 0."""
    values = data[foreground]
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
    out: np.ndarray = np.clip((data - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    out[~foreground] = 0
    return out


@dataclass(frozen=True, eq=False)
class GriddedStudy:
    """A study on the model's grid: images [M, D, H, W] in 0 to 1, which modalities are there, and the box it shows."""

    images: Float[np.ndarray, "M D H W"]
    present: Bool[np.ndarray, " M"]
    box: Box
    parts: Float[np.ndarray, "P D H W"] | None = None
    """How much of each voxel each part of the lesions fills, where that was read from a mask."""


def to_grid(study: Study, grid: GridShape) -> GriddedStudy:
    """Crop all modalities to the box of the study's foreground and resample them to `grid`.

    A missing modality is all zero and marked in `present`.
    """
    box = bounding_box(study.foreground)
    images = np.zeros((len(Modality), *grid), dtype=np.float32)
    present = np.zeros(len(Modality), dtype=bool)
    for index, modality in enumerate(Modality):
        if modality in study.images:
            data = study.images[modality].data[box.slices]
            images[index] = resample(normalise(data, data != 0), grid)
            present[index] = True
    return GriddedStudy(images, present, box)


def label_fractions(
    mask: UInt8[np.ndarray, "X Y Z"], values: Mapping[str, Sequence[int]], box: Box, grid: GridShape
) -> Float32[np.ndarray, "L D H W"]:
    """How much of each cell of the model's grid each label covers, 0 to 1."""
    cropped = mask[box.slices]
    return np.stack([resample(where_label(cropped, own), grid) for own in values.values()])


def part_fractions(mask: UInt8[np.ndarray, "X Y Z"], profile: Profile, box: Box, grid: GridShape) -> np.ndarray:
    """How much of each cell of the model's grid each `Part` covers, [P, D, H, W] in 0 to 1."""
    shown = label_parts(profile)[mask[box.slices]]
    return np.stack([resample(shown == part, grid) for part in Part])


def from_grid(
    values: Float32[np.ndarray, "D H W"], box: Box, shape: tuple[int, int, int]
) -> Float32[np.ndarray, "X Y Z"]:
    """What stands on the model's grid, on a study's own grid of `shape` by linear interpolation; 0 outside the box."""
    out = np.zeros(shape, dtype=np.float32)
    x, y, z = (stop - start for start, stop in zip(box.start, box.stop, strict=True))
    out[box.slices] = resample(values.T, (z, y, x)).T
    return out
