"""Other views of a study that leave every answer true: drawn, recorded in the cache's key, then applied on the grid.

One spatial transform serves all modalities of a study, so they stay registered to each other. What is allowed, and why
the answers, which come from the mask, stay true:

- A left-right flip: regions are named without their side, volumes, shapes and spreads are those of the mirror image.
  Where a question or an answer names a side, it is asked about the other one (`voxmoe.training.sides`).
- A small rotation, and a box that is drawn a little wider on each side: the lesion moves with the brain, and nothing
  leaves the grid, because the box is that of the turned brain and only ever grows.
- Intensities, of each modality by itself: answers are about geometry.
- Modalities left out: the answers are those of the whole study.

What would change an answer is left out: scaling the lesion or the brain, elastic warps (volume, shape), cropping
(volume, spread), and turning upside down or back to front (no brain looks so).
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from pydantic import Field, PositiveInt
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from voxmoe.imaging.grid import GriddedStudy
from voxmoe.settings import Settings
from voxmoe.vocabulary import Modality


class AffineSettings(Settings):
    """How far the geometry may change."""

    rotation: float = Field(default=5.0, ge=0, le=15)
    """Degrees about each axis, at most."""
    margin: float = Field(default=5.0, ge=0, le=20)
    """Millimetres by which the box may grow on each side."""


class AugmentSettings(Settings):
    """The views of each scan that are computed once and kept; the first is the scan as it is."""

    variants: PositiveInt = 4
    flip: bool = True
    """Whether a view may be mirrored left to right."""
    affine: AffineSettings | None = AffineSettings()
    intensity: float = Field(default=0.1, ge=0, le=0.5)
    """Logarithm, at most, of the factor and the exponent that each modality's intensities are changed by."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each modality to be left out of a view; where none would stay, all do."""


@dataclass(frozen=True)
class View:
    """What was drawn for one view."""

    flip: bool
    angles: tuple[float, float, float]
    """Degrees about depth, height and width axis, in this order."""
    margins: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Millimetres at the lower and the upper end of depth, height and width."""
    factors: tuple[float, ...]
    exponents: tuple[float, ...]
    left_out: tuple[bool, ...]
    """Of each modality, in the vocabulary's order."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def draw_views(settings: AugmentSettings | None, seed: int, study: str) -> list[View | None]:
    """The views of a study, which depend on the seed and its id alone; None is the scan as it is."""
    if settings is None:
        return [None]
    name = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "little")
    return [None, *(_draw(settings, np.random.default_rng([seed, name, n])) for n in range(1, settings.variants))]


def _draw(settings: AugmentSettings, generator: np.random.Generator) -> View:
    affine = settings.affine or AffineSettings(rotation=0, margin=0)
    depth, height, width = generator.uniform(-affine.rotation, affine.rotation, 3).tolist()
    lower, upper = generator.uniform(0, affine.margin, (2, 3)).tolist()
    factors, exponents = np.exp(generator.uniform(-settings.intensity, settings.intensity, (2, len(Modality)))).tolist()
    return View(
        settings.flip and bool(generator.random() < 0.5),
        (depth, height, width),
        (tuple(lower), tuple(upper)),
        tuple(factors),
        tuple(exponents),
        tuple((generator.random(len(Modality)) < settings.modality_dropout).tolist()),
    )


def _sampling(
    images: Float[np.ndarray, "M D H W"], cell_mm: tuple[float, float, float], view: View
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Matrix and offset from indices of the new grid to indices of the given one.

    In millimetres from the middle of the grid, what is seen is turned; the new grid spans the box of the turned
    foreground and the margins.
    """
    shape, cell = np.array(images.shape[1:]), np.array(cell_mm)
    turn = Rotation.from_euler("xyz", view.angles, degrees=True).as_matrix()
    seen = np.argwhere(images.any(axis=0))
    turned = ((seen + 0.5 - shape / 2) * cell) @ turn.T
    reach = np.abs(turn) @ (cell / 2)  # of a cell's corners from its middle
    lower, upper = np.array(view.margins)
    start, stop = turned.min(axis=0) - reach - lower, turned.max(axis=0) + reach + upper
    step = (stop - start) / shape
    matrix = (turn.T * step) / cell[:, None]
    offset = (turn.T @ (start + step / 2)) / cell + shape / 2 - 0.5
    return matrix, offset


def apply_view(gridded: GriddedStudy, cell_mm: tuple[float, float, float], view: View | None) -> GriddedStudy:
    """The study seen in another way; `cell_mm` are the edges of the grid's cells along depth, height and width."""
    if view is None:
        return gridded
    matrix, offset = _sampling(gridded.images, cell_mm, view)
    images, parts = np.zeros_like(gridded.images), gridded.parts
    kept = gridded.present & ~np.array(view.left_out)
    present = kept if kept.any() else gridded.present
    for index in np.flatnonzero(present):
        moved = affine_transform(gridded.images[index], matrix, offset, order=1, mode="grid-constant")
        images[index] = _recoloured(moved, view.factors[index], view.exponents[index])
    if parts is not None:
        turned = [affine_transform(part, matrix, offset, order=1, mode="grid-constant") for part in parts]
        parts = np.stack(turned)
    if view.flip:
        images = images[..., ::-1].copy()
        parts = None if parts is None else parts[..., ::-1].copy()
    return GriddedStudy(images, present, gridded.box, parts)


def _recoloured(image: Float32[np.ndarray, "D H W"], factor: float, exponent: float) -> Float32[np.ndarray, "D H W"]:
    changed: np.ndarray = np.clip(np.float32(factor) * image ** np.float32(exponent), 0, 1)
    return changed
