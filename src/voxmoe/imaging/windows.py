"""A CT as the pictures that a 2D model takes: HU windows, slices as radiologists look at them, one size for all.

Axes: D slice, inferior to superior; C window; H from anterior to posterior; W from the patient's right to left.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, PositiveInt

from voxmoe.errors import ImageError
from voxmoe.imaging.ct import GreyVolume
from voxmoe.imaging.grid import resample
from voxmoe.imaging.hounsfield import AIR
from voxmoe.imaging.volume import Volume
from voxmoe.settings import Settings

Drawable = Volume
"""What slices are drawn of: a CT in HU, or a `GreyVolume`."""


class Window(Settings):
    """The HU that are told apart: from `centre` - `width` / 2, black, to `centre` + `width` / 2, white."""

    centre: FiniteFloat
    width: Annotated[FiniteFloat, Field(gt=0)]

    def __call__(self, hu: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
        """0 to 1."""
        low = np.float32(self.centre - self.width / 2)
        seen: np.ndarray = np.clip((hu - low) / np.float32(self.width), 0, 1)
        return seen


WINDOWS = {
    "lung": Window(centre=-600, width=1500),
    "mediastinum": Window(centre=50, width=350),
    "soft-tissue": Window(centre=50, width=400),
    "bone": Window(centre=400, width=1800),
    "brain": Window(centre=40, width=80),
    "liver": Window(centre=30, width=150),
}
"""The usual windows by name, HU."""


def _named(value: object) -> object:
    """A window given by its name; anything else is left to be a window itself."""
    if not isinstance(value, str):
        return value
    if value not in WINDOWS:
        raise ValueError(f"no window is called {value!r}; there are {', '.join(WINDOWS)}, or give centre and width")
    return WINDOWS[value]


def _grey_or_colour(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    if len(windows) not in (0, 1, 3):
        raise ValueError(f"{len(windows)} windows; one makes grey slices, three make red, green and blue ones")
    return windows


class PictureSettings(Settings):
    """How slices are drawn."""

    windows: Annotated[tuple[Annotated[Window, BeforeValidator(_named)], ...], AfterValidator(_grey_or_colour)] = (
        WINDOWS["soft-tissue"],
    )
    """By name, or by centre and width; one for grey, three for RGB, none for a volume that has only grey values."""
    size: PositiveInt = 256
    """Height and width in pixels."""
    depth: PositiveInt | None = 32
    """How many slices, at even distances through the whole volume; None for as many as it has."""
    slab: Literal["nearest", "mean"] = "nearest"
    """What stands for the equal part of the volume that is a slice's: the slice in its middle, or the mean of all."""
    square: Literal["pad", "crop"] = "pad"
    """Whether air is added along the shorter side, or the ends of the longer one are cut off."""


def _slab(data: Shaped[np.ndarray, "X Y Z"], index: int, count: int, slab: str) -> Float32[np.ndarray, "X Y 1"]:
    """What stands for the `index`-th of `count` equal parts along Z; slices cut in two count by their share."""
    thick = data.shape[2] / count
    if slab == "nearest":
        middle = int((index + 0.5) * thick)
        return data[:, :, middle : middle + 1].astype(np.float32, copy=False)
    edges = np.arange(data.shape[2] + 1)
    covered = np.diff(np.clip(edges, index * thick, (index + 1) * thick))
    inside = np.flatnonzero(covered)
    weights = (covered[inside] / covered.sum()).astype(np.float32)
    mean: np.ndarray = data[:, :, inside[0] : inside[-1] + 1] @ weights
    return mean[:, :, None].astype(np.float32, copy=False)


def _squared(
    plane: Float32[np.ndarray, "X Y 1"], spacing: tuple[float, float], square: str, air: float
) -> Float32[np.ndarray, "P Q 1"]:
    """The plane cropped or padded about its middle to one length in mm along both axes."""
    lengths = [count * step for count, step in zip(plane.shape[:2], spacing, strict=True)]
    side = max(lengths) if square == "pad" else min(lengths)
    for axis, step in enumerate(spacing):
        surplus = plane.shape[axis] - max(round(side / step), 1)
        if surplus > 0:
            plane = plane.take(range(surplus // 2, plane.shape[axis] - (surplus + 1) // 2), axis)
        widths = [(0, 0)] * 3
        widths[axis] = (max(-surplus, 0) // 2, (max(-surplus, 0) + 1) // 2)
        plane = np.pad(plane, widths, constant_values=np.float32(air))
    return plane


def windowed(volume: Drawable, settings: PictureSettings) -> Float32[np.ndarray, "D C H W"]:
    """The slices of a CT in HU through each window, 0 to 1, of a true aspect and one size.

    HU are resampled (by area where pixels get larger), then windowed. With no window, the grey values of a
    `GreyVolume`. Raises `ImageError` where one is given for the other.
    """
    grey = isinstance(volume, GreyVolume)
    if grey and settings.windows:
        raise ImageError(f"{volume.source}: has grey values from 0 to 1 without HU, which no window fits; ask for none")
    if not grey and not settings.windows:
        raise ImageError(f"{volume.source}: is in HU; say through which window it is to be seen: {', '.join(WINDOWS)}")
    depth = settings.depth or volume.shape[2]
    size = settings.size
    pictures = np.empty((depth, len(settings.windows) or 1, size, size), dtype=np.float32)
    for index in range(depth):
        plane = _slab(volume.data, index, depth, settings.slab)
        plane = _squared(plane, volume.spacing[:2], settings.square, 0.0 if grey else AIR)
        picture = resample(plane, (1, size, size))[0, ::-1, ::-1]
        pictures[index] = picture if grey else [window(picture) for window in settings.windows]
    return pictures


def to_pictures(volume: Drawable, settings: PictureSettings) -> UInt8[np.ndarray, "D C H W"]:
    """What `windowed` draws, in 256 steps, as 2D models are used to; raises what it raises."""
    steps: np.ndarray = np.rint(windowed(volume, settings) * 255).astype(np.uint8)
    return steps


def _parts(count: int, parts: int) -> Float32[np.ndarray, "P N"]:
    """How much each of `count` pixels in a row has of each of as many equal parts, 0 to 1; a part's add up to 1."""
    edges, bounds = np.arange(count + 1), np.arange(parts + 1) * count / parts
    inside = np.clip(edges, bounds[:-1, None], bounds[1:, None])
    return (np.diff(inside) * parts / count).astype(np.float32)


def label_shares(
    mask: Volume, values: Sequence[int], settings: PictureSettings, cells: int
) -> Float32[np.ndarray, "D L P P"]:
    """How much of the area of each of `cells` x `cells` equal parts of every picture each label value covers, 0 to 1.

    Pictures lie as `windowed` draws them of the volume with this mask, each by the slice in its middle; what a square
    is padded with has no label. Nothing outside of a part counts.
    """
    depth = settings.depth or mask.shape[2]
    shares = np.zeros((depth, len(values), cells, cells), dtype=np.float32)
    for index in range(depth):
        plane = _slab(mask.data, index, depth, "nearest")
        there = set(np.unique(plane).tolist())
        for place in [place for place, value in enumerate(values) if value in there]:
            covered = _squared((plane == values[place]).astype(np.float32), mask.spacing[:2], settings.square, 0.0)
            rows, columns = (_parts(count, cells) for count in covered.shape[:2])
            shares[index, place] = (rows @ covered[:, :, 0] @ columns.T).T[::-1, ::-1]
    return shares
