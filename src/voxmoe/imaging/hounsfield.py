"""Hounsfield units (HU) of CT: slope and intercept applied exactly once, as the values themselves show.

Water is 0 HU and air -1000 HU on every scanner. So a CT in HU has voxels of air, lung or fat below -50 and voxels of
soft tissue around 0; stored values that wait for their intercept (mostly -1024) have none of the former, and values
that went through it twice have next to none of the latter, but air near -2000.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from jaxtyping import Num

from voxmoe.errors import ImageError
from voxmoe.imaging.volume import Volume

AIR = -1024.0
"""HU of what lies outside of the field of view: the lowest value of a 12-bit CT, a little below air itself."""
_LOWEST = -1100.0
"""Below every HU but for the noise of air: padding, or a second intercept."""


@dataclass(frozen=True)
class Rescale:
    """HU = slope * stored value + intercept, as a header or a table of metadata says."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.intercept)).all() or self.slope == 0:
            raise ImageError(f"{self}: no rescale; both have to be finite, and the slope is not 0 (mostly 1)")

    def __str__(self) -> str:
        return f"slope {self.slope:g} and intercept {self.intercept:g}"

    @classmethod
    def of_row(cls, row: Mapping[str, str]) -> "Rescale":
        """From a row of CT-RATE's metadata; raises `ImageError` for a row without these two numbers."""
        try:
            return cls(float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
        except (KeyError, ValueError):
            name = row.get("VolumeName", "a row of metadata")
            raise ImageError(f"{name}: needs a number in each of RescaleSlope and RescaleIntercept") from None


class Scale(Enum):
    """What the values of an image are, as far as they show it."""

    HU = "Hounsfield units"
    TWICE = "rescaled twice"
    OTHER = "no Hounsfield units"


@dataclass(frozen=True)
class Shares:
    """Which part of all voxels, 0 to 1, lies in which range of values, and how far the values go."""

    low: float
    high: float
    deep: float
    """Below -1100."""
    light: float
    """From -1100 to -50: air, lung and fat."""
    tissue: float
    """From -200 to 300: fat to contrast-filled vessels."""
    shifted: float
    """The same 1024 lower: where a second intercept takes tissue, but also air."""

    @property
    def scale(self) -> Scale:
        # Where tissue has been taken away downwards, bone is what remains in its place: a tenth of it at the very most,
        # in heads. A scan in HU has more tissue than that beside its air, padded or not.
        if self.deep >= 1e-3 and self.tissue < max(0.1 * self.shifted, 5e-3):
            return Scale.TWICE
        return Scale.HU if self.light >= 0.01 and self.tissue >= 5e-3 else Scale.OTHER


def shares(data: Num[np.ndarray, "X Y Z"]) -> Shares:
    def between(low: float, high: float) -> float:
        return float(np.count_nonzero((data >= low) & (data < high))) / data.size

    return Shares(
        low=float(data.min()),
        high=float(data.max()),
        deep=float(np.count_nonzero(data < _LOWEST)) / data.size,
        light=between(_LOWEST, -50.0),
        tissue=between(-200.0, 300.0),
        shifted=between(-1224.0, -724.0),
    )


def looks_like_ct(volume: Volume) -> bool:
    """Whether the values are a CT's in HU: some air, lung or fat, and some soft tissue.

    An MRI has no negative values of this size, raw or standardised; grey values from 0 to 1 have none either, whatever
    they were made from.
    """
    return shares(volume.data).scale is Scale.HU


def _check(found: Shares, source: str, rescale: Rescale | None) -> None:
    if found.scale is Scale.TWICE:
        mend = f"leave out the {rescale} that were given" if rescale else "write it anew from the stored values"
        raise ImageError(
            f"{source}: slope and intercept seem to have been applied twice: {found.deep:.1%} of the voxels lie below "
            f"{_LOWEST:g} HU, down to {found.low:g}, and only {found.tissue:.1%} from -200 to 300 HU (tissue); {mend}"
        )
    if found.scale is Scale.OTHER:
        mend = (
            f"are the {rescale} that were given those of this file?"
            if rescale
            else "if it is a CT, give the slope and intercept of its metadata"
        )
        raise ImageError(
            f"{source}: is no CT in HU: its values go from {found.low:g} to {found.high:g}, {found.light:.1%} of them "
            f"from -1100 to -50 HU (air, lung, fat) and {found.tissue:.1%} from -200 to 300 HU (tissue); {mend}"
        )


def to_hounsfield(volume: Volume, rescale: Rescale | None = None) -> Volume:
    """The volume in HU as float32; what lies below -1024, padding outside of the field of view, is -1024.

    `rescale` is what its metadata says and nobody has applied yet; None where the values are in HU already. Raises
    `ImageError` if they are not in HU then, or were so before.
    """
    data = volume.data.astype(np.float32, copy=False)
    if rescale and rescale != Rescale(1.0, 0.0):
        found = shares(data)
        if found.scale is Scale.HU:
            raise ImageError(
                f"{volume.source}: is in HU already ({found.low:g} to {found.high:g}, {found.light:.1%} air, lung or "
                f"fat, {found.tissue:.1%} tissue; a slope in the header of a NIfTI file is applied at reading); the "
                f"{rescale} that were given would be applied a second time: leave them out"
            )
        data = data * np.float32(rescale.slope) + np.float32(rescale.intercept)
    _check(shares(data), volume.source, rescale)
    return replace(volume, data=np.maximum(data, np.float32(AIR)))
