"""A real mask in a drawn brain: placed, warped as the brain is, and clipped to where its parts can be.

The mask is read a mm apart or finer and counted up to the raster's voxels, so what each part fills of a voxel is known
and not guessed from an edge. The brain's push is left out of the way back: a lesion pushes its surroundings, not
itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import cc3d
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from voxmoe.imaging.grid import Box, bounding_box
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.geometry import Field, Flat
from voxmoe.imaging.phantoms.growth import Tissue, tissue_of
from voxmoe.imaging.phantoms.lesions import Lesions
from voxmoe.imaging.phantoms.masks import RealMask
from voxmoe.imaging.phantoms.noise import Line
from voxmoe.imaging.phantoms.placement import Placement
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.phantoms.voxels import Voxels, world_of
from voxmoe.imaging.phantoms.warp import COARSE, Warp, sample

_FADE_MM = {Part.HALO: 1.6, Part.CORE: 0.9, Part.CYST: 0.9, Part.RIM: 0.9, Part.CAVITY: 0.8}
"""How far edges fade in images: the deviation of a Gaussian."""
_AROUND_MM = 8.0
"""How far around a mask it is drawn, so that its edges can fade, and so that no corner is missed between coarse
places."""

Filled = dict[Part, Field]
"""How much of each voxel of a box each part fills."""


@dataclass(frozen=True, eq=False)
class TracedLesions(Lesions):
    """Lesions of which it is known what each part fills of every voxel."""

    filled: Mapping[Part, Flat]

    def shares(self, spacing: float) -> dict[Part, Flat]:
        none = np.zeros(len(self.parts), dtype=np.float32)
        return {part: self.filled.get(part, none) for part in Part}


def _to_mask(mask: RealMask, placement: Placement) -> Float32[np.ndarray, "4 4"]:
    """From the template's voxels to the mask's."""
    corner = np.eye(4)
    corner[:3, 3] = load_template().origin_mni
    return np.asarray(placement.to_mask(mask) @ corner, dtype=np.float32)


def _in_mask(matrix: Float32[np.ndarray, "4 4"], template: Sequence[Float32[np.ndarray, "..."]]) -> list[np.ndarray]:
    x, y, z = template
    return [a * x + b * y + c * z + d for a, b, c, d in matrix[:3]]


def _reached(mask: RealMask, matrix: Float32[np.ndarray, "4 4"], warp: Warp, voxels: Voxels) -> Box | None:
    """The box, among the drawn voxels, that the mask comes to lie in; None if it lies outside of them."""
    around = _AROUND_MM / np.linalg.norm(mask.to_mni[:3, :3], axis=0)
    near = np.ones(warp.coarse[0].shape, dtype=bool)
    for axis, size, margin in zip(_in_mask(matrix, warp.coarse), mask.shape, around, strict=True):
        near &= (axis > -margin) & (axis < size - 1 + margin)
    if not near.any():
        return None
    box = bounding_box(near)
    low, high = voxels.raster.voxel(float(COARSE) * np.array([box.start, box.stop])) - voxels.box.start
    first = np.clip(np.floor(low).astype(int), 0, voxels.shape)
    last = np.clip(np.ceil(high).astype(int), 0, voxels.shape)
    if (first >= last).any():
        return None
    (x0, y0, z0), (x1, y1, z1) = first.tolist(), last.tolist()
    return Box((x0, y0, z0), (x1, y1, z1))


def _finer(line: Line, start: int, stop: int, times: int) -> Line:
    """From the voxels of a line those from `start` to `stop`, with so many places evenly over each."""
    first, step, _ = line
    return first + step * (start - (times - 1) / (2 * times)), step / times, times * (stop - start)


def _filled(
    parts: UInt8[np.ndarray, "A B C"], matrix: Float32[np.ndarray, "4 4"], warp: Warp, voxels: Voxels, box: Box
) -> Filled:
    """What each part fills of the voxels of a box, before anything is clipped."""
    times = int(np.ceil(voxels.raster.spacing))
    x, y, z = (_finer(*line, times) for line in zip(voxels.lines, box.start, box.stop, strict=True))
    template = warp.coordinates((x, y, z))
    shape = template[0].shape
    places = _in_mask(matrix, [axis.ravel(order="F") for axis in template])
    there = [part for part in Part if (parts == part).any()]
    maps = [np.asfortranarray(parts == part, dtype=np.float32) for part in there]
    filled = {}
    for part, values in zip(there, sample(maps, places), strict=True):
        fine = values.reshape(shape, order="F")
        blocks = [fine[a::times, b::times, c::times] for a, b, c in product(range(times), repeat=3)]
        filled[part] = np.asarray(sum(blocks[1:], blocks[0]) / np.float32(times**3))
    return filled


def _without_cavity(filled: Filled) -> Filled:
    """Where no cavity can be, what was one is fluid within the tumour."""
    kept: Filled = {part: share for part, share in filled.items() if part != Part.CAVITY}
    if Part.CAVITY in filled:
        kept[Part.CYST] = filled[Part.CAVITY] + filled.get(Part.CYST, np.float32(0))
    return kept


def _solid(filled: Filled) -> Field:
    """How much of each voxel is anything but halo."""
    shares = [share for part, share in filled.items() if part != Part.HALO]
    none = np.zeros_like(next(iter(filled.values())))
    return np.asarray(sum(shares, none))


def _afloat(solid: Field, here: Tissue) -> Bool[np.ndarray, "X Y Z"]:
    """The pieces of what is solid that would lie in a ventricle for the most part."""
    pieces = cc3d.connected_components(solid > 0, connectivity=26)
    whole = np.bincount(pieces.ravel(), solid.ravel())
    wet = np.bincount(pieces.ravel(), (solid * (here.ventricle < 0)).ravel())
    return np.asarray((wet > 0.5 * whole)[pieces] & (pieces > 0))


def _clipped(filled: Filled, here: Tissue, in_ventricles: bool) -> Filled:
    """What is left of the parts in this brain.

    Halo is water in tissue and ends at fluid. What is solid takes the place of the fluid that it reaches, as a tumour
    shuts the ventricle beside it, so that a core stays in its rim; a piece that would float in a ventricle is left out,
    unless the disease grows there (`in_ventricles`).
    """
    keep = here.inside if in_ventricles else here.inside & ~_afloat(_solid(filled), here)
    return {part: share * (here.swells if part == Part.HALO else keep) for part, share in filled.items()}


def _blurred(share: Field, sigma: float) -> Field:
    # turned round for SciPy, whose results have the last axis closest in memory
    blurred: Field = ndimage.gaussian_filter(share.T, sigma, truncate=3.0).T
    return blurred


def _soft(filled: Filled, here: Tissue) -> Filled:
    """How much of each part a voxel shows. The halo goes on unseen under what is solid, and up to the walls of fluid:
    its mean is taken over the tissue that can tell."""
    soft = {}
    for part, share in filled.items():
        sigma = _FADE_MM[part] / here.spacing
        soft[part] = _blurred(share, sigma)
        if part == Part.HALO:
            tells = _blurred(here.swells * (1 - _solid(filled)), sigma)
            soft[part] = np.clip(soft[part] / np.maximum(tells, np.float32(1e-3)), 0, 1) * here.swells
        else:
            soft[part] *= here.inside
    return soft


def _decide(filled: Filled) -> UInt8[np.ndarray, "X Y Z"]:
    """The part that fills most of each voxel that is lesion at least by half."""
    there = sorted(filled)
    shares = np.stack([filled[part] for part in there])
    most = np.array(there, dtype=np.uint8)[shares.argmax(axis=0)]
    return np.asarray(most * (shares.sum(axis=0) >= 0.5), dtype=np.uint8)


def trace_lesions(
    mask: RealMask, placement: Placement, brain: Brain, anatomy: Anatomy, cavities: bool, in_ventricles: bool
) -> TracedLesions:
    """The lesions of a mask in a brain. Without `cavities` none is hollow; `in_ventricles` lets pieces of tumour lie
    there alone."""
    voxels, warp = brain.voxels, Warp(anatomy, ())
    (place,) = warp.places(np.array([placement.centre(mask)]))
    centres = (world_of(place),)
    matrix = _to_mask(mask, placement)
    box = _reached(mask, matrix, warp, voxels)
    if box is None:
        return TracedLesions(np.zeros(len(voxels.index), dtype=np.uint8), {}, centres, {})
    here = tissue_of(brain).cut(box)
    filled = _filled(mask.parts, matrix, warp, voxels, box)
    filled = _clipped(filled if cavities else _without_cavity(filled), here, in_ventricles)

    def flat(values: np.ndarray) -> np.ndarray:
        whole = np.zeros(voxels.shape, dtype=values.dtype, order="F")
        whole[box.slices] = values
        return voxels.flat(whole)

    soft = {part: flat(share) for part, share in sorted(_soft(filled, here).items())}
    return TracedLesions(flat(_decide(filled)), soft, centres, {part: flat(share) for part, share in filled.items()})
