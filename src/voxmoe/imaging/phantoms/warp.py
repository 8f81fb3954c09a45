"""The way from a study's voxels back to the template: pushes, one affine, one smooth displacement."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.geometry import CHUNK, Field, Flat, Point, rotation
from voxmoe.imaging.phantoms.noise import lattice_shape, line_places, smooth_noise, upsample
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.phantoms.voxels import Lines, Raster, place_of, world_of
from voxmoe.imaging.spaces import SRI24

_CENTRE_MNI = np.array([0.0, -18.0, 5.0])
_ELASTIC_SPACING = 12.0
COARSE = 3
"""Places between those of the coarse coordinates, in mm."""


@dataclass(frozen=True)
class Push:
    """Tissue pushed aside around a centre in world mm: how strongly (0 to 1) and how far in mm."""

    centre: Point
    strength: float
    reach: float


def _place_to_mni(anatomy: Anatomy) -> Float[np.ndarray, "4 4"]:
    """The affine part of the way from places in the SRI24 grid back to template mm."""
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = anatomy.shear
    linear = rotation(anatomy.rotation) @ np.diag(1 / np.array(anatomy.scale)) @ shear
    own = np.eye(4)
    own[:3, :3] = linear
    own[:3, 3] = _CENTRE_MNI + anatomy.shift - linear @ _CENTRE_MNI
    return np.asarray(own @ np.linalg.inv(SRI24.from_mni152) @ SRI24.affine)


def mni_to_world(anatomy: Anatomy, point: Point) -> Point:
    """Where a template point comes to lie, but for the elastic part."""
    return world_of((np.linalg.inv(_place_to_mni(anatomy)) @ [*point, 1])[:3])


@dataclass(frozen=True)
class Warp:
    """A brain's own deformation of the template."""

    anatomy: Anatomy
    pushes: Sequence[Push]

    @cached_property
    def _matrix(self) -> Float[np.ndarray, "4 4"]:
        """The affine part, from places to template voxels."""
        matrix = _place_to_mni(self.anatomy)
        matrix[:3, 3] -= load_template().origin_mni
        return matrix

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

    def _before_pushes(self, places: Sequence[Float[np.ndarray, "..."]]) -> list[Float[np.ndarray, "..."]]:
        """Where the tissue at each place stood before the lesions pushed it away."""
        out = list(places)
        for push in self.pushes:
            offsets = [axis - np.float32(at) for axis, at in zip(places, place_of(push.centre), strict=True)]
            weight = sum((offset / np.float32(push.reach)) ** 2 for offset in offsets)
            weight = np.float32(push.strength) * np.exp(-weight / 2)
            out = [axis - weight * offset for axis, offset in zip(out, offsets, strict=True)]
        return out

    def coordinates(self, lines: Lines) -> list[Field]:
        """The template voxel that stands at each place of a grid."""
        # turned round, so that the first axis lies closest in memory here too
        z, y, x = np.ix_(*map(line_places, lines[::-1]))
        before = self._before_pushes((x, y, z))
        out = []
        for row, lattice in zip(self._matrix[:3].astype(np.float32), self._lattices, strict=True):
            moved = upsample(lattice, SRI24.shape, _ELASTIC_SPACING, lines)
            turned = moved.T
            for weight, axis in zip(row, before, strict=False):
                turned += weight * axis
            turned += row[3]
            out.append(moved)
        return out

    @cached_property
    def coarse(self) -> list[Field]:
        """The template voxel at every `COARSE`-th place of the whole grid."""
        return self.coordinates(Raster().lines(Raster().whole, COARSE))

    def places(self, points_mni: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """Where template points come to lie: the inverse of the coordinates, by iteration, to a fraction of a mm."""
        target = (points_mni - load_template().origin_mni).T
        back = np.linalg.inv(self._matrix[:3, :3])
        places = back @ (target - self._matrix[:3, 3:])
        for _ in range(4):
            found = [ndimage.map_coordinates(axis, places / COARSE, order=1, mode="nearest") for axis in self.coarse]
            places = places - back @ (np.stack(found) - target)
        return np.asarray(places.T)


def sample(maps: Sequence[Field], coordinates: Sequence[Flat], step: int = 1) -> list[Flat]:
    """Linear interpolation of maps of one shape, in Fortran order; clamped at the borders.

    The maps' voxels are averages of `step` x `step` x `step` of those that the coordinates count.
    """
    offset = np.float32(0.5 - 0.5 * step)
    sizes = maps[0].shape
    along_y, along_z = sizes[0], sizes[0] * sizes[1]
    count = len(coordinates[0])
    out = [np.empty(count, dtype=np.float32) for _ in maps]
    for begin in range(0, count, CHUNK):
        part = slice(begin, begin + CHUNK)
        clamped = [
            np.clip((axis[part] + offset) / np.float32(step), 0, np.float32(size - 1.001))
            for axis, size in zip(coordinates, sizes, strict=True)
        ]
        floors = [axis.astype(np.int64) for axis in clamped]
        x, y, z = (axis - floor.astype(np.float32) for axis, floor in zip(clamped, floors, strict=True))
        base = floors[0] + floors[1] * along_y + floors[2] * along_z
        corners = [base + offset for offset in (0, along_y, along_z, along_z + along_y)]
        nexts = [corner + 1 for corner in corners]
        for values, result in zip((field.ravel(order="F") for field in maps), out, strict=True):
            edges = []
            for corner, after in zip(corners, nexts, strict=True):
                near = values.take(corner)
                edges.append(near + x * (values.take(after) - near))
            low = edges[0] + y * (edges[1] - edges[0])
            result[part] = low + z * (edges[2] + y * (edges[3] - edges[2]) - low)
    return out
