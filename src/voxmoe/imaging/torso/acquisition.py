"""From painted HU to stored ones: the table, blur, noise, the round field of view."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16
from scipy import ndimage

from voxmoe.imaging.phantoms.draws import Rng, chance, uniform
from voxmoe.imaging.phantoms.geometry import Field
from voxmoe.imaging.torso.canvas import Canvas

PADDING = (-1024, -2000, -3024)
"""What scanners write outside of the round field of view."""


@dataclass(frozen=True)
class Acquisition:
    blur: tuple[float, float]
    """Share of the neighbours on either side, within slices and across."""
    noise: float
    """HU."""
    table: float | None
    """Depth of the table's middle below the back, mm; None: it is not seen."""
    padding: int | None
    """HU outside of the round field of view; None: it is square."""
    seed: int


def draw_acquisition(rng: Rng) -> Acquisition:
    return Acquisition(
        blur=(uniform(rng, 0.06, 0.2), uniform(rng, 0.02, 0.12)),
        noise=uniform(rng, 4.0, 14.0),
        table=uniform(rng, 4.0, 12.0) if chance(rng, 0.7) else None,
        padding=PADDING[int(rng.choice(3, p=(0.6, 0.25, 0.15)))] if chance(rng, 0.4) else None,
        seed=int(rng.integers(2**32)),
    )


def _paint_table(canvas: Canvas, depth: float) -> None:
    """A curved shell with foam in it, below the lowest point of the body."""
    frame = canvas.frame
    body = np.flatnonzero((canvas.hu > -300).any(axis=(0, 2)))
    x = (np.arange(frame.shape[0]) - frame.shape[0] / 2) * frame.spacing[0]
    top = body[0] * frame.spacing[1] - depth + 0.0006 * x**2
    below = top[:, None] - np.arange(frame.shape[1]) * frame.spacing[1]
    wide = (np.abs(x) < 185)[:, None]
    shell = ((np.abs(below) < 2.5) | (np.abs(below - 24) < 2.5)) & wide
    foam = (below > 0) & (below < 24) & wide
    outside = canvas.hu < -900
    for part, hu in ((foam, -930.0), (shell, -150.0)):
        np.copyto(canvas.hu, np.float32(hu), where=outside & part[:, :, None] & (canvas.labels == 0))


def _blurred(volume: Field, acquisition: Acquisition) -> Field:
    within, across = acquisition.blur
    for axis, side in ((0, within), (1, within), (2, across)):
        weights = np.array([side, 1 - 2 * side, side], dtype=np.float32)
        volume = ndimage.correlate1d(volume.T, weights, axis=2 - axis, mode="nearest").T
    return volume


def acquire(canvas: Canvas, acquisition: Acquisition) -> Int16[np.ndarray, "X Y Z"]:
    """HU from -1024, or the padding, to 3071."""
    rng = np.random.default_rng(acquisition.seed)
    if acquisition.table is not None:
        _paint_table(canvas, acquisition.table)
    shape = canvas.frame.shape
    noise = rng.standard_normal(shape[::-1], dtype=np.float32).T
    noise *= np.float32(1.6 * acquisition.noise)
    noise += canvas.hu
    hu = _blurred(noise, acquisition)
    np.clip(hu, -1024, 3071, out=hu)
    stored: np.ndarray = np.rint(hu, out=hu).astype(np.int16)
    if acquisition.padding is not None:
        x, y = np.ix_(*(np.linspace(-1, 1, size) for size in shape[:2]))
        stored[x * x + y * y > 1.0] = acquisition.padding
    return stored
