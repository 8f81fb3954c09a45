"""One focus, grown as nested, rough-edged parts. Lengths are mm.

A focus is a level set: the distance to its centre, bent by noise at several scales and by the tissue it meets. A part
takes the cheapest voxels until it has its drawn volume, so volumes follow what real masks show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from voxmoe.imaging.grid import Box, bounding_box
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.foci import Focus
from voxmoe.imaging.phantoms.geometry import Field, rotation
from voxmoe.imaging.phantoms.noise import Line, line_places, smooth_noise

_FORBIDDEN = np.float32(1e4)
_TOUCHING = np.ones((3, 3, 3), dtype=bool)

CAVITY_EDGE, TUMOUR_EDGE, HALO_EDGE = 0.5, 0.6, 1.6
"""How far edges fade in images, mm: the width of a logistic."""

Where = Bool[np.ndarray, "X Y Z"]


@dataclass(frozen=True, eq=False)
class Noise:
    """Smooth noise around a focus, read in a box; each call draws anew."""

    rng: Rng
    extent: int
    lines: Sequence[Line]

    def __call__(self, spacing: float) -> Field:
        return smooth_noise(self.rng, (self.extent,) * 3, spacing, self.lines)

    def cut(self, box: Box) -> "Noise":
        lines = [
            (first + start * step, step, stop - start)
            for (first, step, _), start, stop in zip(self.lines, box.start, box.stop, strict=True)
        ]
        return replace(self, lines=lines)


@dataclass(frozen=True, eq=False)
class Tissue:
    """The brain around lesions, as arrays over a box."""

    inside: Where
    csf: Field
    grey: Field
    deep: Field
    ventricle: Field
    spacing: float

    @property
    def swells(self) -> Where:
        """Where a halo can be."""
        return self.inside & (self.ventricle > 0.3) & (self.csf < 0.7)

    def cut(self, box: Box) -> "Tissue":
        at = box.slices
        return Tissue(self.inside[at], self.csf[at], self.grey[at], self.deep[at], self.ventricle[at], self.spacing)


def tissue_of(brain: Brain) -> Tissue:
    volume = brain.voxels.volume
    return Tissue(
        volume(brain.inside),
        volume(brain.csf, 1.0),
        volume(brain.grey),
        volume(brain.deep),
        volume(brain.ventricle, 60.0),
        brain.voxels.raster.spacing,
    )


def radius_of(percent: float, brain_mm3: float) -> float:
    """The radius in mm of a ball of that share of the brain."""
    return float((3 * percent / 100 * brain_mm3 / (4 * np.pi)) ** (1 / 3))


def edge_width(width: float, spacing: float) -> float:
    """The width of an edge as voxels of `spacing` mm see it, given that at 1 mm."""
    return float(np.hypot(width, 0.16 * np.sqrt(max(spacing**2 - 1, 0))))


def _cheapest(cost: Field, count: int) -> float:
    """The level below which `count` voxels lie (as far as there are allowed ones)."""
    allowed = cost[cost < _FORBIDDEN / 2]
    if count <= 0 or allowed.size == 0:
        return float("-inf")
    count = min(count, allowed.size)
    return float(np.partition(allowed, count - 1)[count - 1]) + 1e-6


def _fade(cost: Field, level: float, width: float) -> Field:
    """1 well below the level, 0 well above, one half at it."""
    if level == float("-inf"):
        return np.zeros_like(cost)
    over = np.clip((cost - np.float32(level)) / np.float32(width), -20, 20)
    return np.asarray(1 / (1 + np.exp(over)), dtype=np.float32)


def _ellipsoid(focus: Focus, lines: Sequence[Line]) -> Field:
    """Distance from the centre, shorter along the focus's long axes; `lines` are offsets from the centre."""
    turn = rotation(focus.rotation)
    metric = turn @ np.diag(1 / np.array(focus.axes) ** 2) @ turn.T
    # the first axis runs fastest in memory, as in all fields of the brain
    z, y, x = np.ix_(*map(line_places, lines[::-1]))
    m = metric.astype(np.float32)
    square = m[0, 0] * x * x + 2 * x * (m[0, 1] * y + m[0, 2] * z) + (m[1, 1] * y * y + 2 * m[1, 2] * y * z)
    square += m[2, 2] * z * z
    away: Field = np.sqrt(np.maximum(square, 0)).T
    return away


def _ball_cost(focus: Focus, away: Field, radius: float, noise: Noise) -> Field:
    """The cost of tumour by its distance from the centre."""
    coarse, fine = max(0.9 * radius, 3.0), max(0.4 * radius, 2.5)
    rough = np.float32(focus.roughness * max(radius, 2.0))
    return away + rough * (noise(coarse) + 0.5 * noise(fine)) + np.float32(focus.grain) * noise(2.3)


def _wall_cost(wall: Field, radius: float, noise: Noise) -> Field:
    """The cost of tumour by its distance from the cavity's wall in mm."""
    patches = np.float32(0.45 * radius + 1.2) * noise(max(0.9 * radius, 5.0)) + 0.9 * noise(3.0)
    return np.asarray(1.2 * np.maximum(wall, 0) + patches, dtype=np.float32)


def _split(focus: Focus, depth: Field, tumour: Where, noise: Noise) -> tuple[Field, Field]:
    """How much of the tumour enhances, and how much of the rest is fluid, at every voxel of a box around it."""
    if focus.enhancing >= 1:
        return np.ones_like(depth), np.zeros_like(depth)
    patch = np.float32(focus.patchiness)
    cost = np.where(
        tumour,
        depth + patch * (0.9 * noise(7.0) + 0.4 * noise(3.5)) + np.float32(0.3 * focus.grain) * noise(2.2),
        _FORBIDDEN,
    )
    count = int(tumour.sum())
    rim = _fade(cost, _cheapest(cost, round(focus.enhancing * count)), 0.5)
    if not focus.cyst:
        return rim, np.zeros_like(depth)
    rest = np.where(tumour & (rim < 0.5), -depth + 2 * noise(6.0), _FORBIDDEN).astype(np.float32)
    return rim, _fade(rest, _cheapest(rest, round(focus.cyst * (1 - focus.enhancing) * count)), 0.5)


def _halo_cost(focus: Focus, edge: Field, here: Tissue, noise: Noise) -> Field:
    """White matter is cheap, cortex dear, fluid forbidden; noise draws the front out into fingers."""
    grey = ndimage.uniform_filter(here.grey, round(3 / here.spacing))
    fingers = np.float32(focus.fingers)
    base = np.clip(edge, -3, 200)
    if focus.hugging:
        share = np.float32(focus.hugging)
        base = (1 - share) * base + 2.5 * share * np.abs(here.ventricle)
    cost = base + fingers * (0.8 * noise(9.0) + 0.25 * noise(5.0)) + np.float32(1.5 * focus.grain) * noise(2.2)
    cost += np.float32(focus.sparing) * grey + 22 * here.csf + 4 * here.deep
    return np.where(here.swells, cost, _FORBIDDEN).astype(np.float32)


def _drop_islands(soft: Field, smallest: int) -> None:
    """Fade out what lies apart from the rest and is smaller than `smallest` voxels."""
    labels, _ = ndimage.label(soft >= 0.5, structure=_TOUCHING)
    sizes = np.bincount(labels.ravel())
    small = sizes < smallest
    small[sizes[1:].argmax() + 1 if len(sizes) > 1 else 0] = small[0] = False
    soft[small[labels]] = 0.3


def _halo(focus: Focus, cost: Field, count: int, taken: Where, here: Tissue) -> Field:
    """The halo by its cost; it goes on unseen under what is `taken`."""
    cost[taken] = _FORBIDDEN
    level = _cheapest(cost, count)
    if level == float("-inf"):
        return np.zeros_like(cost)
    cost[cost >= _FORBIDDEN] = np.float32(level) - 2
    halo = _fade(cost, level, edge_width(HALO_EDGE, here.spacing))
    halo *= here.swells
    smallest = round(focus.smallest / here.spacing**3)
    if smallest > 1:
        _drop_islands(halo, smallest)
    return halo


def _inner_parts(focus: Focus, tumour: Field, depth: Field, noise: Noise) -> dict[Part, Field]:
    """The tumour divided into what enhances, what does not, and fluid."""
    box = bounding_box(tumour > 0.01)
    share = tumour[box.slices]
    rim, cyst = _split(focus, depth[box.slices], share >= 0.5, noise.cut(box))
    parts = {Part.CORE: share * (1 - rim) * (1 - cyst), Part.CYST: share * (1 - rim) * cyst, Part.RIM: share * rim}
    whole = {}
    for part, inner in parts.items():
        if inner.any():
            whole[part] = np.zeros_like(tumour)
            whole[part][box.slices] = inner
    return whole


def grow_focus(focus: Focus, here: Tissue, lines: Sequence[Line], reach: float, brain_mm3: float) -> dict[Part, Field]:
    """The parts of one focus that there are over its box, each 0 to 1 with its border at one half.

    `lines` are the offsets of the box's voxels from the focus's centre, at most `reach`.
    """
    extent = 2 * int(np.ceil(reach)) + 4
    from_corner = [(first + extent / 2, step, n) for first, step, n in lines]
    noise = Noise(np.random.default_rng(focus.seed), extent, from_corner)

    def voxels(percent: float) -> int:
        return round(percent / 100 * brain_mm3 / here.spacing**3)

    outside = _FORBIDDEN * (~here.inside)
    away = _ellipsoid(focus, lines)
    hollow = radius_of(focus.cavity, brain_mm3)
    wall = away + np.float32(0.3 * hollow) * noise(max(0.8 * hollow, 4.0)) + 0.4 * noise(3.5) + outside
    wall -= np.float32(max(_cheapest(wall, voxels(focus.cavity)), -1e3))
    cavity = _fade(wall, 0.0, edge_width(CAVITY_EDGE, here.spacing)) if focus.cavity else np.zeros_like(wall)
    if focus.cavity:
        solid = _wall_cost(wall, hollow, noise)
    else:
        solid = _ball_cost(focus, away, radius_of(focus.tumour, brain_mm3), noise)
    fluid = 0 if focus.extra_axial else 12 * np.clip(here.csf - 0.3, 0, 1)
    cost = solid + fluid + outside + 30 * np.clip(1 - here.ventricle, 0, 1) + _FORBIDDEN * (cavity >= 0.5)
    level = _cheapest(cost, voxels(focus.tumour))
    tumour = _fade(cost, level, edge_width(TUMOUR_EDGE, here.spacing))
    depth = np.float32(max(level, -1e3)) - cost
    parts = _inner_parts(focus, tumour, depth, noise) if focus.tumour else {}
    edge = wall if focus.cavity else solid
    if focus.tumour:
        edge = np.minimum(edge, -depth) if focus.cavity else -depth
    taken = (tumour >= 0.5) | (cavity >= 0.5)
    if focus.halo:
        parts[Part.HALO] = _halo(focus, _halo_cost(focus, edge, here, noise), voxels(focus.halo), taken, here)
    return parts | ({Part.CAVITY: cavity} if focus.cavity else {})
