"""Lungs with their vessels, airways, heart, great vessels."""

from dataclasses import dataclass

import numpy as np

from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.phantoms.geometry import Field, Point
from voxmoe.imaging.torso.body import WHOLE
from voxmoe.imaging.torso.canvas import Canvas
from voxmoe.imaging.torso.frame import Frame, ellipsoid, inside
from voxmoe.imaging.torso.labels import SIDES, value_of
from voxmoe.imaging.torso.tubes import Tube, stamp, tube

_VESSELS_PER_LUNG = 34


@dataclass(frozen=True)
class Thorax:
    """Shapes in the chest; mm in body coordinates."""

    dome_right: float
    dome_left: float
    steepness: float
    mediastinum: float
    heart_centre: Point
    heart_radii: Point
    heart_lean: float
    aorta: float
    """Factor of its calibre."""


def draw_thorax(rng: Rng, large_heart: bool) -> Thorax:
    size = uniform(rng, 1.2, 1.32) if large_heart else uniform(rng, 0.86, 0.98)
    radii = (56 * size, 44 * size * uniform(rng, 0.93, 1.05), 50 * (0.5 + 0.5 * size) * uniform(rng, 0.95, 1.08))
    return Thorax(
        dome_right=uniform(rng, 4.0, 22.0),
        dome_left=uniform(rng, -8.0, 8.0),
        steepness=uniform(rng, 30.0, 46.0),
        mediastinum=uniform(rng, 0.85, 1.25),
        heart_centre=(uniform(rng, -28.0, -14.0), uniform(rng, 22.0, 32.0), 0.8 * radii[2] + uniform(rng, 2.0, 10.0)),
        heart_radii=radii,
        heart_lean=uniform(rng, 0.1, 0.4),
        aorta=uniform(rng, 0.9, 1.15),
    )


def diaphragm(frame: Frame, thorax: Thorax) -> Field:
    """How far above the diaphragm each voxel lies, mm, negative in the abdomen."""
    x, y, z = frame.at
    forward = ((y - 15) / 74) ** 2
    right = ((x - 68) / 74) ** 2
    left = ((x + 68) / 74) ** 2
    fall = np.minimum(right, left + np.float32((thorax.dome_right - thorax.dome_left) / thorax.steepness))
    fall += forward
    return z - np.float32(thorax.dome_right) + np.float32(thorax.steepness) * fall


def paint_lungs(canvas: Canvas, thorax: Thorax, cavity: Field, above: Field, rng: Rng) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    x, y, _ = frame.at
    heart = ellipsoid(frame.at, thorax.heart_centre, thorax.heart_radii, (-thorax.heart_lean, 0.0))
    half = np.float32(thorax.mediastinum) * (13 + 17 * np.exp(-(((y + 2) / 34) ** 2)))
    middle = (np.abs(x - 2) < half) | (heart < np.float32(1.12))
    air = (cavity > 1.5) & (above > 0) & ~middle
    texture = frame.noise(rng, 14.0) * np.float32(18) + np.float32(tissue["lung"]) - y * np.float32(0.35)
    for side, here in zip(SIDES, (x > 0, x <= 0), strict=True):
        canvas.paint(WHOLE, air & here, texture, value_of("lung", side))
    # what lies between: fat with strands of soft tissue
    strands = (np.abs(x - 2) < half) & (cavity > 0) & (above > 0) & (y > -40)
    canvas.paint(WHOLE, strands, np.minimum(texture - np.float32(tissue["lung"]) + tissue["fat"] + 35, 40))


def _hila(rng: Rng, way: int) -> list[Tube]:
    """Arteries and veins of a lung: from the hilum outwards in all directions, some branching once."""
    root = np.array([way * 30.0, -6.0, 72.0])
    out = []
    for _ in range(_VESSELS_PER_LUNG):
        end = np.array([way * uniform(rng, 45.0, 118.0), uniform(rng, -60.0, 78.0), uniform(rng, -40.0, 150.0)])
        middle = root + (end - root) * uniform(rng, 0.35, 0.6) + rng.normal(0, 7.0, 3)
        start = root + rng.normal(0, 6.0, 3)
        out.append(tube(rng, [tuple(start), tuple(middle), tuple(end)], [uniform(rng, 2.0, 4.2), 2.0, 0.7], 1.0))
        branch = end + rng.normal(0, 22.0, 3)
        out.append(tube(rng, [tuple(middle), tuple((middle + branch) / 2), tuple(branch)], [1.8, 1.3, 0.6], 2.0))
    return out


def paint_lung_vessels(canvas: Canvas, rng: Rng) -> None:
    """Bright tubes that grow thinner outwards; they stay lung in the labels."""
    share = stamp(canvas.frame, [*_hila(rng, 1), *_hila(rng, -1)])
    lungs = (canvas.labels == value_of("lung", "right")) | (canvas.labels == value_of("lung", "left"))
    share *= lungs
    canvas.blend(WHOLE, share, canvas.tissue["vein"] if canvas.tissue.phase != "arterial" else 200.0)


def paint_heart(canvas: Canvas, thorax: Thorax) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    cx, cy, cz = thorax.heart_centre
    a, b, c = thorax.heart_radii
    box = frame.box((cx - 1.5 * a, cy - 1.2 * b, cz - 1.2 * c), (cx + 1.5 * a, cy + 1.2 * b, cz + 1.2 * c))
    x, y, _ = at = frame.within(box)
    lean = (-thorax.heart_lean, 0.0)
    whole = ellipsoid(at, thorax.heart_centre, thorax.heart_radii, lean)
    room = canvas.labels[box] != value_of("bone")
    canvas.paint(box, inside(whole, 1.1) & room, tissue["fat"], 0)
    canvas.paint(box, inside(whole) & room, tissue["myocardium"], value_of("heart"))
    across = (x - cx) * np.float32(0.75) + (y - cy) * np.float32(0.66)
    blood = inside(whole, 0.86) & room
    left = ellipsoid(at, (cx - 0.3 * a, cy - 0.12 * b, cz - 0.1 * c), (0.52 * a, 0.5 * b, 0.62 * c), lean)
    artery, vein = tissue["artery"], tissue["artery"] if tissue.phase != "arterial" else 0.75 * tissue["artery"]
    right = blood & (across > 0.16 * a) & (left > np.float32(1.35))
    canvas.paint(box, right, 0.92 * vein)
    canvas.paint(box, inside(left) & blood, artery)
    atrium = ellipsoid(at, (cx + 0.2 * a, cy - 0.62 * b, cz + 0.35 * c), (0.62 * a, 0.33 * b, 0.42 * c))
    canvas.paint(box, inside(atrium) & inside(whole, 0.97), 0.97 * artery)


def aorta_tube(rng: Rng, thorax: Thorax) -> Tube:
    knots: list[Point] = [
        (2.0, 18.0, 66.0), (13.0, 22.0, 92.0), (8.0, 10.0, 116.0), (-6.0, -12.0, 124.0),
        (-19.0, -36.0, 112.0), (-22.0, -42.0, 90.0), (-20.0, -40.0, 40.0), (-14.0, -36.0, 0.0),
        (-6.0, -34.0, -60.0), (-3.0, -34.0, -110.0), (-3.0, -35.0, -165.0),
    ]  # fmt: skip
    radii = np.array([14.0, 15.0, 14.0, 12.5, 12.0, 11.5, 11.0, 10.5, 9.5, 8.5, 8.0]) * thorax.aorta
    return tube(rng, knots, list(radii), 1.5)


def paint_great_vessels(canvas: Canvas, aorta: Tube, rng: Rng) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    pulmonary = [
        tube(
            rng,
            [(-14.0, 34.0, 66.0), (-14.0, 22.0, 84.0), (-24.0, 4.0, 86.0), (-36.0, -8.0, 82.0)],
            [12.0, 12.0, 10.0, 7.0],
            1.5,
        ),
        tube(rng, [(-12.0, 22.0, 82.0), (8.0, 4.0, 84.0), (34.0, -4.0, 78.0)], [11.0, 9.0, 7.0], 1.5),
    ]
    veins = [
        tube(
            rng,
            [(24.0, 12.0, 60.0), (22.0, 10.0, 100.0), (18.0, 12.0, 140.0), (22.0, 10.0, 175.0)],
            [9.0, 8.5, 7.0, 6.0],
        ),
        tube(rng, [(-18.0, 14.0, 138.0), (-2.0, 24.0, 130.0), (20.0, 12.0, 122.0)], [5.5, 6.0, 6.0]),
    ]
    filled = tissue["artery"] * (0.9 if tissue.phase != "non-contrast" else 1.0)
    for tubes, hu in ((pulmonary, filled), (veins, tissue["artery"])):
        share = stamp(frame, tubes)
        share[canvas.labels == value_of("heart")] = 0
        _paint_tube(canvas, share, hu, 0)
    _paint_tube(canvas, stamp(frame, [aorta]), tissue["artery"], value_of("aorta"))
    branches = [
        tube(rng, [(-8.0, -6.0, 122.0), (10.0, 2.0, 145.0), (20.0, 0.0, 180.0)], [6.0, 5.0, 4.5]),
        tube(rng, [(-13.0, -20.0, 124.0), (-22.0, -14.0, 150.0), (-26.0, -10.0, 180.0)], [5.0, 4.0, 4.0]),
    ]
    share = stamp(frame, branches)
    share[canvas.labels > 0] = 0
    canvas.blend(WHOLE, share, tissue["artery"])


def _paint_tube(canvas: Canvas, share: Field, hu: float, label: int) -> None:
    share[canvas.labels == value_of("bone")] = 0
    canvas.blend(WHOLE, share, hu)
    np.copyto(canvas.labels, np.uint8(label), where=share > 0.5)


def paint_airways(canvas: Canvas, rng: Rng) -> None:
    trunk = tube(rng, [(2.0, -8.0, 190.0), (2.0, -10.0, 140.0), (2.0, -12.0, 98.0)], [9.0, 8.5, 8.5], 1.0)
    right = tube(
        rng,
        [(2.0, -12.0, 100.0), (20.0, -12.0, 84.0), (38.0, -12.0, 74.0), (55.0, -16.0, 60.0)],
        [7.5, 7.0, 5.0, 3.0],
        1.0,
    )
    left = tube(
        rng,
        [(2.0, -12.0, 100.0), (-22.0, -14.0, 82.0), (-40.0, -16.0, 74.0), (-56.0, -20.0, 62.0)],
        [7.0, 6.5, 5.0, 3.0],
        1.0,
    )
    tubes = [trunk, right, left]
    walls = [Tube(each.points, each.radii + 2.2) for each in tubes]
    keep = (canvas.labels == value_of("bone")) | (canvas.labels == value_of("aorta"))
    for kind, hu in ((walls, 30.0), (tubes, canvas.tissue["air"])):
        share = stamp(canvas.frame, kind)
        share[keep] = 0
        canvas.blend(WHOLE, share, hu)
    np.copyto(canvas.labels, np.uint8(value_of("airway")), where=share > 0.5)
    gullet = tube(
        rng,
        [(-2.0, -28.0, 185.0), (-3.0, -30.0, 100.0), (-6.0, -26.0, 40.0), (-18.0, -8.0, -10.0), (-40.0, 0.0, -20.0)],
        [8.0, 8.0, 8.0, 8.0, 8.0],
    )
    share = stamp(canvas.frame, [gullet])
    share[canvas.labels > 0] = 0
    canvas.blend(WHOLE, share, 42.0)
