"""All foci of a study, placed in its brain and laid over one another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from voxmoe.imaging.grid import Box
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.foci import Focus
from voxmoe.imaging.phantoms.geometry import Field, Flat, Point, Shape
from voxmoe.imaging.phantoms.growth import Tissue, grow_focus, radius_of, tissue_of
from voxmoe.imaging.phantoms.parts import Part
from voxmoe.imaging.phantoms.voxels import Voxels
from voxmoe.imaging.phantoms.warp import mni_to_world


@dataclass(frozen=True, eq=False)
class Lesions:
    """The parts of all foci over the drawn voxels, and the centre of each focus in world mm."""

    parts: UInt8[np.ndarray, " N"]
    soft: Mapping[Part, Flat]
    """How much of each part a voxel shows, 0 to 1: edges fade in the images where the mask must decide."""
    centres: tuple[Point, ...]


def _box(centre: Float[np.ndarray, " 3"], reach: float, shape: Shape) -> Box:
    start = np.clip(np.floor(centre - reach), 0, np.array(shape) - 1).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
    (x0, y0, z0), (x1, y1, z1) = start.tolist(), stop.tolist()
    return Box((x0, y0, z0), (x1, y1, z1))


def _settled(focus: Focus, anatomy: Anatomy, voxels: Voxels, tissue: Tissue) -> Float[np.ndarray, " 3"]:
    """The voxel of suitable tissue nearest to where the focus's place in the template came to lie."""
    world = mni_to_world(anatomy, focus.centre_mni)
    at = np.clip(voxels.voxel(world), 0, np.array(voxels.shape) - 1)
    for reach in (6.0, 14.0, 40.0):
        box = _box(at, reach, voxels.shape)
        here = tissue.cut(box)
        fits = here.inside & (here.ventricle > 1)
        if not focus.extra_axial:
            fits &= here.csf < 0.25
        found = np.argwhere(fits) + box.start
        if len(found):
            return np.asarray(found[np.linalg.norm(found - at, axis=1).argmin()], dtype=float)
    return np.asarray(at, dtype=float)


def _reach(focus: Focus, brain_voxels: int) -> float:
    """How far from its centre a focus can grow, mm."""
    solid = radius_of(focus.solid, brain_voxels)
    total = radius_of(focus.solid + 1.5 * focus.halo, brain_voxels)
    margin = 8 + (14 if focus.halo > 0.3 else 0)
    return max(1.7 * solid * max(focus.axes), 1.6 * total) + margin + 25 * focus.hugging


def _decide(soft: Mapping[Part, Field]) -> UInt8[np.ndarray, "X Y Z"]:
    """The part that each voxel of one focus is counted to."""
    solid = np.stack([soft[part] for part in (Part.CORE, Part.CYST, Part.RIM)])
    parts = np.where(soft[Part.HALO] >= 0.5, np.uint8(Part.HALO), np.uint8(0))
    strongest = solid.argmax(axis=0).astype(np.uint8) + np.uint8(Part.CORE)
    parts = np.where(solid.sum(axis=0) >= 0.5, strongest, parts)
    return np.where(soft[Part.CAVITY] >= 0.5, np.uint8(Part.CAVITY), parts).astype(np.uint8)


def grow_lesions(foci: tuple[Focus, ...], brain: Brain, anatomy: Anatomy, cavities: bool) -> Lesions:
    """Grow all foci. Without `cavities` none is hollow; all other parts grow whether they have a label or not."""
    tissue = tissue_of(brain)
    brain_voxels = int(brain.inside.sum())
    shape = brain.voxels.shape
    parts = np.zeros(shape, dtype=np.uint8)
    soft = {part: np.zeros(shape, dtype=np.float32) for part in Part}
    centres = []
    for drawn in foci:
        focus = drawn if cavities else replace(drawn, cavity=0.0)
        centre = _settled(focus, anatomy, brain.voxels, tissue)
        centres.append(brain.voxels.world(centre.tolist()))
        box = _box(centre, _reach(focus, brain_voxels), shape)
        grown = grow_focus(focus, tissue.cut(box), centre - box.start, brain_voxels)
        np.maximum(parts[box.slices], _decide(grown), out=parts[box.slices])
        for part, share in grown.items():
            np.maximum(soft[part][box.slices], share, out=soft[part][box.slices])
    flat = {part: brain.voxels.flat(field) for part, field in soft.items()}
    return Lesions(brain.voxels.flat(parts), flat, tuple(centres))
