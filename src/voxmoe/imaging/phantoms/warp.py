"""The way from a study's voxels back to the template: pushes, one affine, one smooth displacement."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from jaxtyping import Float, Float32

from voxmoe.imaging.grid import Box
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.geometry import Field, Flat, Point, as_point, rotation
from voxmoe.imaging.phantoms.noise import lattice_shape, separable, smooth_noise, spline_weights
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.spaces import SRI24

_CENTRE_MNI = np.array([0.0, -18.0, 5.0])
_ELASTIC_SPACING = 12.0
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Push:
    """Tissue pushed aside around a centre: how strongly (0 to 1) and how far in mm."""

    centre: Point
    strength: float
    reach: float


def _voxel_to_mni(anatomy: Anatomy) -> Float[np.ndarray, "4 4"]:
    """The affine part of the way from SRI24 voxels back to template mm."""
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = anatomy.shear
    linear = rotation(anatomy.rotation) @ np.diag(1 / np.array(anatomy.scale)) @ shear
    own = np.eye(4)
    own[:3, :3] = linear
    own[:3, 3] = _CENTRE_MNI + anatomy.shift - linear @ _CENTRE_MNI
    return np.asarray(own @ np.linalg.inv(SRI24.from_mni152) @ SRI24.affine)


def mni_to_world(anatomy: Anatomy, point: Point) -> Point:
    """Where a template point comes to lie, but for the elastic part."""
    voxel = np.linalg.inv(_voxel_to_mni(anatomy)) @ [*point, 1]
    return as_point((SRI24.affine @ voxel)[:3])


@dataclass(frozen=True)
class Warp:
    """A brain's own deformation of the template."""

    anatomy: Anatomy
    pushes: Sequence[Push]

    @cached_property
    def _lattices(self) -> list[Float32[np.ndarray, "A B C"]]:
        """B-spline coefficients of the displacement in template mm, all scales on the finest lattice."""
        rng = np.random.default_rng([self.anatomy.seed, 0])
        shape = lattice_shape(SRI24.shape, _ELASTIC_SPACING)
        coarse, middle, fine = self.anatomy.elastic
        lattices = []
        for _ in range(3):
            lattice = np.zeros(shape, dtype=np.float32)
            for amplitude, scale in ((coarse, 4.0), (middle, 2.0)):
                lattice += np.float32(amplitude) * smooth_noise(rng, shape, scale)
            lattices.append(lattice + np.float32(fine / 0.33) * rng.standard_normal(shape, dtype=np.float32))
        return lattices

    def _before_pushes(self, voxels: Sequence[Float32[np.ndarray, "..."]]) -> list[Float32[np.ndarray, "..."]]:
        """Where the tissue at each voxel stood before the lesions pushed it away, in SRI24 voxels."""
        out = list(voxels)
        for push in self.pushes:
            centre = np.linalg.inv(SRI24.affine) @ [*push.centre, 1]
            offsets = [axis - np.float32(at) for axis, at in zip(voxels, centre[:3], strict=True)]
            weight = sum((offset / np.float32(push.reach)) ** 2 for offset in offsets)
            weight = np.float32(push.strength) * np.exp(-weight / 2)
            out = [axis - weight * offset for axis, offset in zip(out, offsets, strict=True)]
        return out

    def coordinates(self, box: Box, step: int = 1) -> list[Field]:
        """Template voxel coordinates of every `step`-th voxel in a box of the SRI24 grid."""
        x, y, z = self._before_pushes(
            np.ix_(*(np.arange(a, b, step, dtype=np.float32) for a, b in zip(box.start, box.stop, strict=True)))
        )
        matrix = _voxel_to_mni(self.anatomy)
        matrix[:3, 3] -= load_template().origin_mni
        weights = [
            spline_weights(size, _ELASTIC_SPACING, step)[a // step : -(-b // step)]
            for size, a, b in zip(SRI24.shape, box.start, box.stop, strict=True)
        ]
        out = []
        for row, lattice in zip(matrix[:3].astype(np.float32), self._lattices, strict=True):
            moved = separable(lattice, weights)
            moved += row[0] * x + row[1] * y + row[2] * z + row[3]
            out.append(moved)
        return out


def sample(maps: Float32[np.ndarray, "X Y Z C"], coordinates: Sequence[Flat]) -> Float32[np.ndarray, "C N"]:
    """Linear interpolation of all channels at once; clamped at the borders."""
    *sizes, channels = maps.shape
    rows = maps.reshape(-1, channels)
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    count = len(coordinates[0])
    out = np.empty((channels, count), dtype=np.float32)
    for begin in range(0, count, _CHUNK):
        base = np.zeros(min(_CHUNK, count - begin), dtype=np.int64)
        pairs = []
        for axis, size, stride in zip(coordinates, sizes, strides, strict=True):
            at = np.clip(axis[begin : begin + _CHUNK], 0, np.float32(size - 1.001))
            floor = at.astype(np.int64)
            fraction = at - floor.astype(np.float32)
            pairs.append((1 - fraction, fraction))
            base += floor * stride
        total = np.zeros((len(base), channels), dtype=np.float32)
        for corner in product((0, 1), repeat=3):
            weight = pairs[0][corner[0]] * pairs[1][corner[1]] * pairs[2][corner[2]]
            total += rows.take(base + int(np.dot(corner, strides)), axis=0) * weight[:, None]
        out[:, begin : begin + _CHUNK] = total.T
    return out
