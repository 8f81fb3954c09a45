"""Findings painted into organs. Each lies in its host alone and never on another finding; one that finds no room is
left out, and the truth knows only of those that are there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.phantoms.geometry import Field
from voxmoe.imaging.torso.abdomen import Viscera
from voxmoe.imaging.torso.attenuation import METASTASIS_BELOW_LIVER
from voxmoe.imaging.torso.body import WHOLE
from voxmoe.imaging.torso.canvas import Canvas, Mask
from voxmoe.imaging.torso.chest import Thorax
from voxmoe.imaging.torso.frame import Boxed
from voxmoe.imaging.torso.labels import SIDES, Side, value_of
from voxmoe.imaging.torso.plan import Nodule, Plan, Zone
from voxmoe.imaging.torso.truth import Drawn
from voxmoe.imaging.torso.tubes import Tube, stamp

_TRIES = 60
_GAP_MM = 6.0
"""Host that is left around a round lesion, or a voxel if that is longer."""
_ZONE_MARGIN = 0.08
"""How far from the border between upper and lower half nothing is centred, of the lung's height."""
_SPOT = 0.35
"""From which share of a voxel a calcification is labelled."""
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """A healthy torso that findings are painted into."""

    canvas: Canvas
    thorax: Thorax
    viscera: Viscera
    aorta: Tube
    room: Mask
    """Where abdominal organs can lie."""
    lung_slices: dict[Side, tuple[int, int]]


def _start(box: Boxed) -> Voxel:
    x, y, z = (span.start or 0 for span in box)
    return x, y, z


def _taken(box: Boxed, where: Mask, value: int, diameter: float | None = None, calcified: bool = False) -> Drawn:
    return Drawn(value, where.astype(np.uint8), _start(box), diameter, calcified)


def _candidates(host: Mask, rng: Rng) -> Iterator[Voxel]:
    flat = np.flatnonzero(host.ravel(order="F"))
    if len(flat):
        for at in rng.choice(flat, _TRIES):
            x, y, z = (int(axis) for axis in np.unravel_index(at, host.shape, order="F"))
            yield x, y, z


def _paint_ball(
    scene: Scene, at: Voxel, diameter: float, hu: float, value: int, host: int, calcified: bool = False, rest: int = -1
) -> Drawn:
    """A ball in its host (and in what has the label `rest`), with voxels at its surface mixed."""
    canvas, radius = scene.canvas, diameter / 2
    box, away = canvas.frame.ball(at, radius)
    edge = np.float32(canvas.frame.spacing[0])
    labels = canvas.labels[box]
    allowed = (labels == host) | (labels == rest)
    canvas.blend(box, np.clip((radius - away) / edge + np.float32(0.5), 0, 1) * allowed, hu)
    inside = allowed & (away <= np.float32(max(radius, 1.0)))
    np.copyto(canvas.labels[box], np.uint8(value), where=inside)
    return _taken(box, inside, value, diameter, calcified)


def _free(scene: Scene, at: Voxel, radius: float, host: int) -> bool:
    """Whether a ball lies in the host alone."""
    box, away = scene.canvas.frame.ball(at, radius)
    return bool((scene.canvas.labels[box][away <= radius] == host).all())


def _gap(scene: Scene) -> float:
    return max(_GAP_MM, 1.01 * max(scene.canvas.frame.spacing))


def _zoned(scene: Scene, side: Side, zone: Zone) -> Mask:
    """The slices of a half of a lung, but for those next to the other half."""
    low, high = scene.lung_slices[side]
    height = (np.arange(scene.canvas.frame.shape[2]) - low) / max(high - low, 1)
    return np.asarray(height > 0.5 + _ZONE_MARGIN if zone == "upper" else height < 0.5 - _ZONE_MARGIN)[None, None, :]


def _nodule(scene: Scene, nodule: Nodule, rng: Rng) -> Iterator[Drawn]:
    host, tissue = value_of("lung", nodule.side), scene.canvas.tissue
    lung = (scene.canvas.labels == host) & _zoned(scene, nodule.side, nodule.zone)
    hu = uniform(rng, 350.0, 800.0) if nodule.calcified else tissue["nodule"]
    for at in _candidates(lung, rng):
        if _free(scene, at, nodule.diameter_mm / 2 + _gap(scene), host):
            value = value_of("nodule", nodule.side)
            yield _paint_ball(scene, at, nodule.diameter_mm, hu, value, host, nodule.calcified)
            return


def _effusion(scene: Scene, side: Side, share: float) -> Drawn:
    """Fluid that lies behind and below, as in a patient on the back."""
    canvas = scene.canvas
    lung = canvas.labels == value_of("lung", side)
    x, y, z = canvas.frame.axes
    height = y[:, None] + np.float32(0.3) * z - np.float32(0.15) * np.abs(x)[:, None, None]
    level = np.quantile(height[lung], share)
    fluid = lung & (height <= level)
    canvas.paint(WHOLE, fluid, canvas.tissue["fluid"], value_of("effusion", side))
    return _taken(WHOLE, fluid, value_of("effusion", side))


def _consolidation(scene: Scene, side: Side, zone: Zone, noise: Field, rng: Rng) -> Iterator[Drawn]:
    canvas = scene.canvas
    host = value_of("lung", side)
    lung = (canvas.labels == host) & _zoned(scene, side, zone)
    radius = uniform(rng, 30.0, 48.0)
    for at in _candidates(lung, rng):
        box, away = canvas.frame.ball(at, 1.4 * radius)
        field = away / np.float32(radius) + np.float32(0.22) * noise[box]
        share = np.clip((1 - field) * 4, 0, 1) * lung[box]
        dense = share > 0.5
        if dense.sum() * canvas.frame.voxel_mm3 < 25_000:
            continue
        bronchi = np.clip(noise[box] - 1.2, 0, 0.8)
        canvas.blend(box, share * (1 - bronchi), canvas.tissue["consolidation"])
        np.copyto(canvas.labels[box], np.uint8(value_of("consolidation", side)), where=dense)
        yield _taken(box, dense, value_of("consolidation", side))
        return


def _emphysema(scene: Scene, rng: Rng) -> Iterator[Drawn]:
    canvas = scene.canvas
    noise = canvas.frame.noise(rng, 10.0)
    limit = np.float32(uniform(rng, 0.9, 1.2)) - canvas.frame.axes[2] * np.float32(0.004)
    for side in SIDES:
        bullae = (canvas.labels == value_of("lung", side)) & (noise > limit) & (canvas.hu < -700)
        if bullae.any():
            canvas.paint(WHOLE, bullae, canvas.tissue["emphysema"], value_of("emphysema", side))
            yield _taken(WHOLE, bullae, value_of("emphysema", side))


def _spots(scene: Scene, spots: list[Tube], hosts: tuple[int, ...], value: int) -> Iterator[Drawn]:
    canvas = scene.canvas
    share = stamp(canvas.frame, spots)
    share *= np.isin(canvas.labels, hosts)
    canvas.blend(WHOLE, np.minimum(share * 1.5, 1), canvas.tissue["calcium"])
    labelled = share > _SPOT
    if labelled.any():
        np.copyto(canvas.labels, np.uint8(value), where=labelled)
        yield _taken(WHOLE, labelled, value)


def _streak(start: Float[np.ndarray, " 3"], way: Float[np.ndarray, " 3"], radius: float) -> Tube:
    points = start + np.linspace(0, 1, 8)[:, None] * way
    return Tube(points, np.full(8, radius))


def _coronary_spots(scene: Scene, rng: Rng) -> list[Tube]:
    """Streaks in the grooves of the heart's surface: in front, at the left and at the right."""
    thorax, out = scene.thorax, []
    grooves = ((-0.25, 0.85, 0.4), (-0.35, 0.85, 0.15), (-0.7, -0.1, 0.6), (0.75, 0.5, 0.3))
    for number in rng.permutation(len(grooves))[: rng.integers(2, 5)]:
        way = np.array(grooves[number]) + rng.normal(0, 0.06, 3)
        at = 1.0 * way / np.linalg.norm(way) * thorax.heart_radii
        at[0] -= thorax.heart_lean * at[2]
        end = rng.normal(0, 1.0, 3) * (3.0, 3.0, 6.0)
        out.append(_streak(at + thorax.heart_centre, end, uniform(rng, 2.4, 3.4)))
    return out


def _aortic_spots(scene: Scene, rng: Rng) -> list[Tube]:
    aorta, out = scene.aorta, []
    for _ in range(rng.integers(3, 9)):
        at = int(rng.integers(len(aorta.points) // 5, len(aorta.points) - 8))
        along = aorta.points[at + 4] - aorta.points[at]
        across = np.cross(along, rng.normal(0, 1.0, 3))
        across *= 0.9 * aorta.radii[at] / np.linalg.norm(across)
        out.append(_streak(aorta.points[at] + across, along * uniform(rng, 0.4, 1.6), uniform(rng, 2.2, 3.2)))
    return out


def _liver_lesion(scene: Scene, name: str, diameter: float, hu: float, rng: Rng) -> Iterator[Drawn]:
    host = value_of("liver")
    for at in _candidates(scene.canvas.labels == host, rng):
        if _free(scene, at, diameter / 2 + _gap(scene), host):
            yield _paint_ball(scene, at, diameter, hu, value_of(name), host)
            return


def _liver_lesions(scene: Scene, plan: Plan, rng: Rng) -> Iterator[Drawn]:
    tissue = scene.canvas.tissue
    below = uniform(rng, *METASTASIS_BELOW_LIVER)
    own = tissue["fatty liver" if plan.fatty_liver else "liver"]
    # no metastasis is as dark as a cyst: in a fatty liver it is the brighter of the two
    metastasis = own - below if own - below > 25 else own + below
    for name, diameters, hu in (
        ("liver metastasis", plan.liver_metastases, metastasis),
        ("liver cyst", plan.liver_cysts, tissue["cyst"]),
    ):
        for diameter in sorted(diameters, reverse=True):
            yield from _liver_lesion(scene, name, diameter, hu, rng)


def _kidney_cyst(scene: Scene, side: Side, diameter: float, rng: Rng) -> Iterator[Drawn]:
    """On the surface of a kidney, partly outside of it, touching no other organ."""
    canvas, host = scene.canvas, value_of("kidney", side)
    for at in _candidates(canvas.labels == host, rng):
        box, away = canvas.frame.ball(at, diameter / 2 + 3)
        ball = away <= diameter / 2 + 3
        labels, room = canvas.labels[box][ball], scene.room[box][ball]
        own = (labels == host).mean()
        if 0.3 < own < 0.85 and np.isin(labels, (host, 0)).all() and (room | (labels == host)).mean() > 0.97:
            hu = canvas.tissue["cyst"]
            yield _paint_ball(scene, at, diameter, hu, value_of("kidney cyst", side), host, rest=0)
            return


def _kidney_stone(scene: Scene, side: Side, diameter: float, rng: Rng) -> Iterator[Drawn]:
    canvas, host = scene.canvas, value_of("kidney", side)
    kidney = next(each for each in scene.viscera.kidneys if each.side == side)
    (cx, cy, cz), (a, b, c) = kidney.centre, kidney.radii
    for _ in range(_TRIES):
        sinus = (cx + kidney.medial * 0.35 * a, cy + 0.15 * b, cz + uniform(rng, -0.4, 0.4) * c)
        x, y, z = (int(at) for at in np.rint(canvas.frame.voxels(np.array([sinus]) + rng.normal(0, 2.0, 3))[0]))
        inside = all(0 <= at < size for at, size in zip((x, y, z), canvas.frame.shape, strict=True))
        if inside and canvas.labels[x, y, z] == host and _free(scene, (x, y, z), diameter / 2, host):
            yield _paint_ball(scene, (x, y, z), diameter, canvas.tissue["stone"], value_of("kidney stone", side), host)
            return


def paint_findings(scene: Scene, plan: Plan, rng: Rng) -> list[Drawn]:
    """Paint what the plan says into a healthy torso; what came of it, but for large organs and a fatty liver."""
    drawn = [_effusion(scene, side, share) for side, share in plan.effusions]
    if plan.consolidation:
        drawn += _consolidation(scene, *plan.consolidation, scene.canvas.frame.noise(rng, 13.0), rng)
    for nodule in sorted(plan.nodules, key=lambda each: -each.diameter_mm):
        drawn += _nodule(scene, nodule, rng)
    if plan.emphysema:
        drawn += _emphysema(scene, rng)
    if plan.coronary_calcification:
        hosts, value = (value_of("heart"), 0), value_of("coronary calcification")
        drawn += _spots(scene, _coronary_spots(scene, rng), hosts, value)
    if plan.aortic_calcification:
        hosts, value = (value_of("aorta"), 0), value_of("aortic calcification")
        drawn += _spots(scene, _aortic_spots(scene, rng), hosts, value)
    drawn += _liver_lesions(scene, plan, rng)
    for side, diameter in plan.kidney_stones:
        drawn += _kidney_stone(scene, side, diameter, rng)
    for side, diameter in plan.kidney_cysts:
        drawn += _kidney_cyst(scene, side, diameter, rng)
    return drawn
