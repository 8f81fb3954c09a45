"""The nine brain regions on a scan's grid (mpLLM, section 3.2.1, Region)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from voxmoe.imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class RegionMap:
    """Which region and side each voxel of a grid belongs to, from which atlas, in which space."""

    grid: Volume
    """Volume of codes: 0 no labelled region, else 1 + 2 x region index + (0 left, 1 right)."""
    atlas: str
    space: str

    @property
    def codes(self) -> UInt8[np.ndarray, "X Y Z"]:
        return self.grid.data
