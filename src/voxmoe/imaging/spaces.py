"""The two standard spaces of the BraTS releases, and the affine between them.

SRI24 is the space of BraTS 2018-2023 (240x240x155), MNI152 that of BraTS 2024 GLI (182x218x182). World coordinates
are mm in RAS, as the releases' own files give them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from voxmoe.imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class Space:
    """A standard space: the grid its releases use, and the affine that brings MNI152 world mm into it."""

    name: str
    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]
    """From RAS voxel indices to world mm."""
    axes: str
    """The axis order in which the releases store their files."""
    from_mni152: Float[np.ndarray, "4 4"]

    @property
    def grid(self) -> Volume:
        """An empty volume on this space's grid."""
        return Volume(np.zeros(self.shape, np.uint8, order="F"), self.affine, self.name, self.axes)


def _at(x: float, y: float, z: float) -> Float[np.ndarray, "4 4"]:
    affine = np.eye(4)
    affine[:3, 3] = x, y, z
    return affine


_MNI152_TO_SRI24 = np.array(
    [
        [0.9195, -0.0077, -0.0024, -119.0512],
        [-0.0114, 0.9313, -0.1829, 125.3172],
        [-0.0058, 0.1898, 0.8320, 71.7760],
        [0, 0, 0, 1],
    ]
)
"""Estimated once by `benchmarks/estimate_sri24_affine.py`: mutual information of the ICBM152 and SRI24 T1 averages;
the two
brain masks then overlap with a Dice of 0.967."""

SRI24 = Space("SRI24", (240, 240, 155), _at(-239.0, 0.0, 0.0), "LPS", _MNI152_TO_SRI24)
MNI152 = Space("MNI152", (182, 218, 182), _at(-91.0, -126.0, -72.0), "LAS", np.eye(4))
SPACES = (SRI24, MNI152)


def space_of(volume: Volume) -> Space | None:
    """The standard space whose grid `volume` lies on (to 2 mm at the corners), or None."""
    return next((space for space in SPACES if space.grid.same_grid(volume, tolerance_mm=2.0)), None)
