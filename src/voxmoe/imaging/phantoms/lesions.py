"""All foci of a study, placed in its brain and laid over one another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from voxmoe.imaging.grid import Box
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.foci import Focus
from voxmoe.imaging.phantoms.geometry import Field, Flat, Point, Shape
from voxmoe.imaging.phantoms.growth import (
    CAVITY_EDGE,
    HALO_EDGE,
    TUMOUR_EDGE,
    Tissue,
    edge_width,
    grow_focus,
    radius_of,
    tissue_of,
)
from voxmoe.imaging.phantoms.voxels import Voxels, place_of, world_of
from voxmoe.imaging.phantoms.warp import mni_to_world


@dataclass(frozen=True, eq=False)
class Lesions:
    """The parts of all foci over the drawn voxels, and the centre of each focus in world mm."""

    parts: UInt8[np.ndarray, " N"]
    soft: Mapping[Part, Flat]
    """How much of each part, where there is any, a voxel shows: edges fade in images where the mask must decide."""
    centres: tuple[Point, ...]

    def shares(self, spacing: float) -> dict[Part, Flat]:
        """How much of a voxel of `spacing` mm each part fills: edges that fade only as far as the voxel is wide."""

        def sharp(share: Flat, width: float) -> Flat:
            return np.clip(0.5 + np.float32(4 * edge_width(width, spacing) / spacing) * (share - 0.5), 0, 1)

        none = np.zeros(len(self.parts), dtype=np.float32)
        soft = {part: self.soft.get(part, none) for part in Part}
        cavity = sharp(soft[Part.CAVITY], CAVITY_EDGE)
        inner = (Part.CORE, Part.CYST, Part.RIM)
        solid = soft[Part.CORE] + soft[Part.CYST] + soft[Part.RIM]
        tumour = np.minimum(sharp(solid, TUMOUR_EDGE), 1 - cavity)
        scale = tumour / np.maximum(solid, np.float32(1e-6))
        halo = np.minimum(sharp(soft[Part.HALO], HALO_EDGE), 1 - cavity - tumour)
        return {Part.HALO: halo, Part.CAVITY: cavity, **{part: scale * soft[part] for part in inner}}


def _box(centre: Float[np.ndarray, " 3"], reach: float, shape: Shape) -> Box:
    start = np.clip(np.floor(centre - reach), 0, np.array(shape) - 1).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
    (x0, y0, z0), (x1, y1, z1) = start.tolist(), stop.tolist()
    return Box((x0, y0, z0), (x1, y1, z1))


def _settled(focus: Focus, anatomy: Anatomy, voxels: Voxels, tissue: Tissue) -> Float[np.ndarray, " 3"]:
    """The voxel of suitable tissue nearest to where the focus's place in the template came to lie."""
    place = place_of(mni_to_world(anatomy, focus.centre_mni))
    at = np.clip(voxels.raster.voxel(place) - voxels.box.start, 0, np.array(voxels.shape) - 1)
    for reach in (6.0, 14.0, 40.0):
        box = _box(at, reach / tissue.spacing, voxels.shape)
        here = tissue.cut(box)
        fits = here.inside & (here.ventricle > 1)
        if not focus.extra_axial:
            fits &= here.csf < 0.25
        found = np.argwhere(fits) + box.start
        if len(found):
            return np.asarray(found[np.linalg.norm(found - at, axis=1).argmin()], dtype=float)
    return np.asarray(at, dtype=float)


def _reach(focus: Focus, brain_mm3: float) -> float:
    """How far from its centre a focus can grow, mm."""
    solid = radius_of(focus.solid, brain_mm3)
    total = radius_of(focus.solid + 1.5 * focus.halo, brain_mm3)
    margin = 8 + (9 if focus.halo > 0.3 else 0)
    return max(1.7 * solid * max(focus.axes), 1.45 * total) + margin + 25 * focus.hugging


def _decide(soft: Mapping[Part, Field]) -> UInt8[np.ndarray, "X Y Z"]:
    """The part that each voxel of one focus is counted to."""
    shape = next(iter(soft.values())).shape
    parts = np.zeros(shape, dtype=np.uint8, order="F")
    strongest, solid = np.zeros_like(parts, dtype=np.float32), np.zeros_like(parts, dtype=np.float32)
    inner = np.zeros_like(parts)
    for part in (Part.CORE, Part.CYST, Part.RIM):
        if part in soft:
            solid += soft[part]
            inner[soft[part] > strongest] = part
            strongest = np.maximum(strongest, soft[part])
    if Part.HALO in soft:
        parts[soft[Part.HALO] >= 0.5] = Part.HALO
    parts = np.where(solid >= 0.5, inner, parts)
    if Part.CAVITY in soft:
        parts[soft[Part.CAVITY] >= 0.5] = Part.CAVITY
    return parts


def grow_lesions(foci: tuple[Focus, ...], brain: Brain, anatomy: Anatomy, cavities: bool) -> Lesions:
    """Grow all foci. Without `cavities` none is hollow; all other parts grow whether they have a label or not."""
    tissue, voxels = tissue_of(brain), brain.voxels
    brain_mm3 = float(brain.inside.sum() * tissue.spacing**3)
    parts = np.zeros(voxels.shape, dtype=np.uint8, order="F")
    soft: dict[Part, Field] = {}
    centres = []
    for drawn in foci:
        focus = drawn if cavities else replace(drawn, cavity=0.0)
        centre = _settled(focus, anatomy, voxels, tissue)
        centres.append(world_of(voxels.raster.place(centre + voxels.box.start)))
        reach = _reach(focus, brain_mm3)
        box = _box(centre, reach / tissue.spacing, voxels.shape)
        offsets = [
            ((start - middle) * tissue.spacing, tissue.spacing, stop - start)
            for start, stop, middle in zip(box.start, box.stop, centre.tolist(), strict=True)
        ]
        grown = grow_focus(focus, tissue.cut(box), offsets, reach, brain_mm3)
        if grown:
            np.maximum(parts[box.slices], _decide(grown), out=parts[box.slices])
        for part, share in grown.items():
            if part not in soft:
                soft[part] = np.zeros(voxels.shape, dtype=np.float32, order="F")
            np.maximum(soft[part][box.slices], share, out=soft[part][box.slices])
    flat = {part: voxels.flat(soft[part]) for part in Part if part in soft}
    return Lesions(voxels.flat(parts), flat, tuple(centres))
