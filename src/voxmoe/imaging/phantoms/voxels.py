"""What is drawn on: cubic voxels over the extent of the SRI24 grid, and those of them that can be brain.

Lengths are mm and so SRI24 voxels; a place is given in (fractional) SRI24 voxels whatever the raster, so that the same
parameters give the same brain on every raster.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from voxmoe.imaging.grid import Box
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Flat, Point, Shape, as_point
from voxmoe.imaging.phantoms.noise import Line, smooth_noise
from voxmoe.imaging.spaces import SRI24

Lines = tuple[Line, Line, Line]


@dataclass(frozen=True)
class Raster:
    """Voxels of `spacing` mm; at 1 mm the SRI24 grid itself."""

    spacing: float = 1.0

    @property
    def shape(self) -> Shape:
        x, y, z = (int(np.ceil(size / self.spacing)) for size in SRI24.shape)
        return x, y, z

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        own = np.diag([self.spacing] * 3 + [1.0])
        own[:3, 3] = (self.spacing - 1) / 2
        return np.asarray(SRI24.affine @ own)

    @property
    def whole(self) -> Box:
        return Box((0, 0, 0), self.shape)

    def lines(self, box: Box, step: int = 1) -> Lines:
        """Where every `step`-th voxel of a box stands along each axis."""
        x, y, z = (
            (start * self.spacing + (self.spacing - 1) / 2, step * self.spacing, -(-(stop - start) // step))
            for start, stop in zip(box.start, box.stop, strict=True)
        )
        return x, y, z

    def voxel(self, place: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The (fractional) voxel of the raster at a place."""
        return (place + 0.5) / self.spacing - 0.5

    def place(self, voxel: Num[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return np.asarray((voxel + 0.5) * self.spacing - 0.5)


def place_of(world: Point) -> Float[np.ndarray, " 3"]:
    """The place, in SRI24 voxels, of world mm."""
    return np.linalg.solve(SRI24.affine[:3, :3], np.subtract(world, SRI24.affine[:3, 3]))


def world_of(place: Float[np.ndarray, " 3"]) -> Point:
    return as_point(SRI24.affine[:3, :3] @ place + SRI24.affine[:3, 3])


@dataclass(frozen=True, eq=False)
class Voxels:
    """N voxels of a box of a raster: flat indices, the first axis running fastest as in a NIfTI file."""

    raster: Raster
    box: Box
    index: Int[np.ndarray, " N"]

    @property
    def shape(self) -> Shape:
        x, y, z = (stop - start for start, stop in zip(self.box.start, self.box.stop, strict=True))
        return x, y, z

    @property
    def lines(self) -> Lines:
        return self.raster.lines(self.box)

    def volume(self, values: Shaped[np.ndarray, " N"], fill: float = 0.0) -> Shaped[np.ndarray, "X Y Z"]:
        """Flat values as an array over the box."""
        out = np.full(int(np.prod(self.shape)), fill, dtype=values.dtype)
        out[self.index] = values
        return out.reshape(self.shape, order="F")

    def flat(self, volume: Shaped[np.ndarray, "X Y Z"]) -> Shaped[np.ndarray, " N"]:
        """The drawn voxels of an array over the box."""
        flat: np.ndarray = volume.ravel(order="F").take(self.index)
        return flat

    def on_grid(self, values: Shaped[np.ndarray, " N"]) -> Shaped[np.ndarray, "X Y Z"]:
        """Flat values on the whole raster, 0 elsewhere."""
        out = np.zeros(self.raster.shape, dtype=values.dtype, order="F")
        out[self.box.slices] = self.volume(values)
        return out

    def noise(self, rng: Rng, spacing: float) -> Flat:
        return self.flat(smooth_noise(rng, SRI24.shape, spacing, self.lines))

    def places(self, which: Bool[np.ndarray, " N"]) -> Float[np.ndarray, "3 P"]:
        """Where the chosen ones of the drawn voxels stand."""
        at = np.stack(np.unravel_index(self.index[which], self.shape, order="F"))
        return self.raster.place(at + np.array(self.box.start)[:, None])
