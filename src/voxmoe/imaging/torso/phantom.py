"""A CT phantom of chest and upper abdomen: drawn parameters, painted organs and findings, an acquisition, its truth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8

from voxmoe.imaging.phantoms.geometry import Shape
from voxmoe.imaging.torso import abdomen, body, chest
from voxmoe.imaging.torso.acquisition import acquire, draw_acquisition
from voxmoe.imaging.torso.attenuation import draw_attenuation
from voxmoe.imaging.torso.canvas import Canvas, blank
from voxmoe.imaging.torso.frame import SHAPE, draw_frame
from voxmoe.imaging.torso.labels import SIDES, Side, value_of
from voxmoe.imaging.torso.lesions import Scene, paint_findings
from voxmoe.imaging.torso.plan import Plan, draw_plan
from voxmoe.imaging.torso.truth import TorsoTruth, measured
from voxmoe.imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class Torso:
    """A CT on RAS axes with the label of each voxel (`labels.LABELS`) and what is true of it."""

    hu: Int16[np.ndarray, "X Y Z"]
    labels: UInt8[np.ndarray, "X Y Z"]
    affine: Float[np.ndarray, "4 4"]
    truth: TorsoTruth

    @property
    def volume(self) -> Volume:
        return Volume(self.hu, self.affine, self.truth.id)

    @property
    def mask(self) -> Volume:
        return Volume(self.labels, self.affine, f"{self.truth.id} mask")


def _lung_slices(canvas: Canvas) -> dict[Side, tuple[int, int]]:
    out = {}
    for side in SIDES:
        heights = np.flatnonzero((canvas.labels == value_of("lung", side)).any(axis=(0, 1)))
        out[side] = (int(heights[0]), int(heights[-1]))
    return out


def _healthy(canvas: Canvas, plan: Plan, rng: np.random.Generator) -> Scene:
    """The organs, one after the other, those in front of others last."""
    build = body.draw_build(rng)
    thorax = chest.draw_thorax(rng, plan.cardiomegaly)
    viscera = abdomen.draw_viscera(rng, plan.splenomegaly)
    cavity = body.depth_in_cavity(canvas.frame, build)
    above = chest.diaphragm(canvas.frame, thorax)
    aorta = chest.aorta_tube(rng, thorax)
    body.paint_walls(canvas, build, cavity, rng)
    chest.paint_lungs(canvas, thorax, cavity, above, rng)
    body.paint_bones(canvas, build, cavity)
    chest.paint_lung_vessels(canvas, rng)
    chest.paint_heart(canvas, thorax)
    chest.paint_great_vessels(canvas, aorta, rng)
    chest.paint_airways(canvas, rng)
    room = abdomen.free_room(canvas, cavity, above)
    abdomen.paint_stomach(canvas, viscera, room)
    abdomen.paint_spleen(canvas, viscera, room)
    abdomen.paint_liver(canvas, viscera, room, plan.fatty_liver, rng)
    abdomen.paint_kidneys(canvas, viscera, room, rng)
    abdomen.paint_abdominal_veins(canvas, room, rng)
    abdomen.paint_bowel(canvas, room, rng)
    return Scene(canvas, thorax, viscera, aorta, room, _lung_slices(canvas))


def torso_id(index: int) -> str:
    return f"torso-{index:05d}"


def draw_torso(seed: int, index: int = 0, shape: Shape = SHAPE) -> Torso:
    """Torso `index` of the cohort that `seed` names; another `shape` divides the same extent into other voxels.

    The same arguments give the same bytes. Raises `ImageError` for a grid too coarse to hold lesions.
    """
    # one stream for each part, so that a change of one leaves the others as they were
    plans, sizes, tissues, organs, findings, scanner = (np.random.default_rng([seed, index, part]) for part in range(6))
    plan = draw_plan(plans)
    frame = draw_frame(sizes, shape)
    canvas = blank(frame, draw_attenuation(tissues, plan.phase))
    scene = _healthy(canvas, plan, organs)
    drawn = paint_findings(scene, plan, findings)
    truth = measured(torso_id(index), seed, index, plan.phase, frame, canvas.labels, drawn, plan.fatty_liver)
    return Torso(acquire(canvas, draw_acquisition(scanner)), canvas.labels, frame.affine, truth)
