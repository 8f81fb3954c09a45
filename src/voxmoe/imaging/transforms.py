"""Changes of a gridded study that keep every answer true: drawn, recorded, then applied to all modalities alike.

A flip from left to right exchanges no two of the nine regions (it does exchange left and right, which no question asks
for); small turns and shifts and changes of intensity move no lesion into another region of the same brain and change
neither its share of the brain, its shape nor its spread. Scaling would, so there is none.
"""

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from math import cos, radians, sin
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from scipy import ndimage

from voxmoe.imaging.grid import GriddedStudy
from voxmoe.settings import Settings
from voxmoe.vocabulary import Modality


class AugmentSettings(Settings):
    """How many changed variants of each study there are beside the study itself, and how much they change."""

    variants: NonNegativeInt = 0
    flip: bool = True
    """Whether half of the variants are flipped from left to right."""
    turn: NonNegativeFloat = 8.0
    """Largest turn in the axial plane, in degrees."""
    shift: float = Field(default=0.03, ge=0, lt=0.5)
    """Largest shift along each axis, as a share of the grid."""
    gamma: float = Field(default=0.2, ge=0, lt=1)
    """Intensities of each modality are raised to a power within 1 ± this."""


@dataclass(frozen=True)
class Transform:
    """One change: a flip, a turn in degrees, a shift in shares of depth, height and width, a power a modality."""

    flip: bool = False
    turn: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gamma: tuple[float, ...] = (1.0,) * len(Modality)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


UNCHANGED = Transform()


def draw_transform(settings: AugmentSettings, seed: int, study: str, variant: int) -> Transform:
    """The change of a variant; variant 0 is the study itself. Depends on its arguments alone."""
    if variant == 0:
        return UNCHANGED
    digest = sha256(f"{study}#{variant}".encode()).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    flip = bool(generator.random() < 0.5)
    depth, height, width = (round(float(s), 4) for s in generator.uniform(-settings.shift, settings.shift, 3))
    return Transform(
        settings.flip and flip,
        round(float(generator.uniform(-settings.turn, settings.turn)), 3),
        (depth, height, width),
        tuple(round(float(power), 4) for power in generator.uniform(1 - settings.gamma, 1 + settings.gamma, 4)),
    )


def apply_transform(study: GriddedStudy, transform: Transform) -> GriddedStudy:
    """The changed study, by one linear interpolation a modality; what comes from outside the grid is 0."""
    if transform == UNCHANGED:
        return study
    images = study.images[..., ::-1] if transform.flip else study.images
    if transform.turn or any(transform.shift):
        images = _moved(images, transform)
    powers = np.array(transform.gamma, dtype=np.float32)[:, None, None, None]
    return replace(study, images=np.ascontiguousarray(images**powers, dtype=np.float32))


def _moved(images: np.ndarray, transform: Transform) -> np.ndarray:
    grid = np.array(images.shape[1:], dtype=float)
    c, s = cos(radians(transform.turn)), sin(radians(transform.turn))
    # The plane's voxels are not square where height and width differ: turn in shares of the grid.
    turn = np.array([[1, 0, 0], [0, c, -s * grid[1] / grid[2]], [0, s * grid[2] / grid[1], c]])
    centre = (grid - 1) / 2
    offset = centre - turn @ centre - np.array(transform.shift) * grid
    moved = [ndimage.affine_transform(image, turn, offset, order=1, mode="constant") for image in images]
    return np.stack(moved)
