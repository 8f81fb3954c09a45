"""The voxels that are drawn: flat indices into a box of the SRI24 grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from voxmoe.imaging.grid import Box
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Flat, Point, Shape, as_point
from voxmoe.imaging.phantoms.noise import smooth_noise
from voxmoe.imaging.spaces import SRI24


@dataclass(frozen=True, eq=False)
class Voxels:
    """N voxels of a box."""

    box: Box
    index: Int[np.ndarray, " N"]

    @property
    def shape(self) -> Shape:
        x, y, z = (stop - start for start, stop in zip(self.box.start, self.box.stop, strict=True))
        return x, y, z

    def volume(self, values: Shaped[np.ndarray, " N"], fill: float = 0.0) -> Shaped[np.ndarray, "X Y Z"]:
        """Flat values as an array over the box."""
        out = np.full(self.shape, fill, dtype=values.dtype)
        out.reshape(-1)[self.index] = values
        return out

    def flat(self, volume: Shaped[np.ndarray, "X Y Z"]) -> Shaped[np.ndarray, " N"]:
        """The drawn voxels of an array over the box."""
        flat: np.ndarray = volume.reshape(-1)[self.index]
        return flat

    def on_grid(self, values: Shaped[np.ndarray, " N"]) -> Shaped[np.ndarray, "X Y Z"]:
        """Flat values on the whole SRI24 grid, 0 elsewhere."""
        out = np.zeros(SRI24.shape, dtype=values.dtype, order="F")
        out[self.box.slices] = self.volume(values)
        return out

    def noise(self, rng: Rng, spacing: float) -> Flat:
        return self.flat(smooth_noise(rng, self.shape, spacing))

    def world(self, voxel: Sequence[float]) -> Point:
        """World mm of a voxel of the box."""
        return as_point(SRI24.affine[:3, :3] @ np.add(voxel, self.box.start) + SRI24.affine[:3, 3])

    def voxel(self, world: Point) -> Float[np.ndarray, " 3"]:
        """The (fractional) voxel of the box at world mm."""
        return np.linalg.solve(SRI24.affine[:3, :3], np.subtract(world, SRI24.affine[:3, 3])) - self.box.start
