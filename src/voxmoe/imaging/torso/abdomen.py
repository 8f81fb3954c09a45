"""Liver, gallbladder, spleen, kidneys, stomach, pancreas, bowel, veins."""

from dataclasses import dataclass

import numpy as np

from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.phantoms.geometry import Field, Point
from voxmoe.imaging.torso.body import WHOLE
from voxmoe.imaging.torso.canvas import Canvas, Mask
from voxmoe.imaging.torso.frame import Boxed, ellipsoid, inside
from voxmoe.imaging.torso.labels import SIDES, Side, value_of
from voxmoe.imaging.torso.tubes import stamp, tube


@dataclass(frozen=True)
class Kidney:
    """Body coordinates in mm; `medial` is the way to the midline along x."""

    side: Side
    centre: Point
    radii: Point
    medial: int


@dataclass(frozen=True)
class Viscera:
    """Shapes in the abdomen; mm in body coordinates."""

    liver: float
    liver_floor: float
    left_lobe: float
    spleen: float
    """Factors of size."""
    kidneys: tuple[Kidney, Kidney]
    stomach: Point
    stomach_radii: Point
    stomach_gas: float
    """Height of the level between gas and content, of the stomach's radius."""


def draw_viscera(rng: Rng, large_spleen: bool) -> Viscera:
    kidneys = []
    for side, way in zip(SIDES, (1, -1), strict=True):
        size = uniform(rng, 0.9, 1.1)
        centre = (
            way * uniform(rng, 50.0, 58.0),
            uniform(rng, -44.0, -36.0),
            (-92 if way > 0 else -84) + uniform(rng, -8.0, 8.0),
        )
        radii = (27 * size, 25 * size, 50 * size * uniform(rng, 0.92, 1.05))
        kidneys.append(Kidney(side, centre, radii, -way))
    return Viscera(
        liver=uniform(rng, 0.92, 1.08),
        liver_floor=uniform(rng, -134.0, -104.0),
        left_lobe=uniform(rng, 0.75, 1.2),
        spleen=uniform(rng, 1.32, 1.52) if large_spleen else uniform(rng, 0.88, 1.02),
        kidneys=(kidneys[0], kidneys[1]),
        stomach=(uniform(rng, -62.0, -46.0), uniform(rng, 28.0, 42.0), uniform(rng, -52.0, -38.0)),
        stomach_radii=(uniform(rng, 26.0, 44.0), uniform(rng, 26.0, 38.0), uniform(rng, 28.0, 42.0)),
        stomach_gas=uniform(rng, -0.2, 1.0),
    )


def _box_around(canvas: Canvas, centre: Point, radii: Point, by: float = 1.0) -> Boxed:
    low = tuple(middle - by * radius for middle, radius in zip(centre, radii, strict=True))
    high = tuple(middle + by * radius for middle, radius in zip(centre, radii, strict=True))
    return canvas.frame.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def paint_stomach(canvas: Canvas, viscera: Viscera, room: Mask) -> None:
    box = _box_around(canvas, viscera.stomach, viscera.stomach_radii, 1.3)
    at = canvas.frame.within(box)
    whole = ellipsoid(at, viscera.stomach, viscera.stomach_radii, (-0.45, -0.2))
    stomach = inside(whole) & room[box]
    canvas.paint(box, stomach, canvas.tissue["muscle"], value_of("stomach"))
    lumen = inside(whole, 0.86) & stomach
    canvas.paint(box, lumen, canvas.tissue["gastric content"])
    level = viscera.stomach[1] + viscera.stomach_gas * viscera.stomach_radii[1]
    # a level lies flat in the room, so it is the grid's height, not the warped body's
    high = canvas.frame.axes[1][box[1]][:, None] > np.float32(level)
    canvas.paint(box, lumen & high, canvas.tissue["air"])


def paint_bowel(canvas: Canvas, room: Mask, rng: Rng) -> None:
    """Loops of bowel with gas and content in front, below the stomach; not labelled."""
    frame = canvas.frame
    knots = [
        (x, uniform(rng, 35.0, 72.0), uniform(rng, -145.0, -105.0)) for x in (95.0, 60.0, 20.0, -20.0, -60.0, -95.0)
    ]
    colon = tube(rng, knots, [uniform(rng, 14.0, 20.0) for _ in knots], 6.0)
    small = []
    for _ in range(5):
        at = [(uniform(rng, -90.0, 90.0), uniform(rng, -10.0, 60.0), uniform(rng, -160.0, -110.0)) for _ in range(3)]
        small.append(tube(rng, at, [11.0, 11.0, 11.0], 4.0))
    box = frame.box((-130.0, -40.0, -200.0), (130.0, 110.0, -80.0))
    content = frame.noise(rng, 16.0)[box]
    for tubes, gas in ((small, 2.2), ([colon], 0.25)):
        share = stamp(frame, tubes)[box] * (room[box] & (canvas.labels[box] == 0))
        canvas.blend(box, share, 38.0)
        canvas.paint(box, (share > 0.95) & (content > gas), canvas.tissue["air"])
        canvas.paint(box, (share > 0.95) & (content < -0.9), -30.0)


def paint_spleen(canvas: Canvas, viscera: Viscera, room: Mask) -> None:
    size = viscera.spleen
    centre = (-84.0 + 16 * (size - 1), -24.0 + 14 * (size - 1), -58.0 - 30 * (size - 1))
    radii = (34 * size, 44 * size, 50 * size)
    box = _box_around(canvas, centre, radii, 1.2)
    at = canvas.frame.within(box)
    whole = ellipsoid(at, centre, radii, (0.12, 0.25))
    hollow = ellipsoid(
        at, (centre[0] + 1.05 * radii[0], centre[1] + 0.35 * radii[1], centre[2]), (0.55 * radii[0],) * 2 + (radii[2],)
    )
    spleen = inside(whole) & (hollow > 1) & room[box]
    canvas.paint(box, spleen, canvas.tissue["spleen"], value_of("spleen"))


def paint_liver(canvas: Canvas, viscera: Viscera, room: Mask, fatty: bool, rng: Rng) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    box = frame.box((-70.0, -80.0, -130.0), (135.0, 110.0, 40.0))
    x, _, z = at = frame.within(box)
    size = viscera.liver
    right = ellipsoid(at, (64.0, 4.0, -38.0), (78 * size, 80 * size, 90 * size), (0.1, 0.0))
    lobe = viscera.left_lobe
    left = ellipsoid(at, (6.0, 42.0, -28.0), (68 * lobe, 40 * size, 34 * lobe), (0.3, 0.0))
    liver = (inside(right) | inside(left)) & room[box] & (z > np.float32(viscera.liver_floor) + 0.25 * (60 - x))
    hilum = ellipsoid(at, (18.0, -14.0, -62.0), (30.0, 26.0, 34.0))
    liver &= hilum > 1
    own = tissue["fatty liver" if fatty else "liver"]
    canvas.paint(box, liver, frame.noise(rng, 20.0)[box] * np.float32(2.5) + np.float32(own), value_of("liver"))
    _paint_liver_vessels(canvas, rng)
    gallbladder = ellipsoid(at, (44.0, 34.0, viscera.liver_floor + 22), (15.0, 20.0, 24.0), (0.0, -0.4))
    canvas.paint(box, inside(gallbladder) & room[box], tissue["fluid"], 0)


def _paint_liver_vessels(canvas: Canvas, rng: Rng) -> None:
    hepatic: list[Point] = [(96.0, 20.0, -10.0), (88.0, -30.0, -20.0), (50.0, 50.0, -10.0), (80.0, 0.0, 5.0)]
    portal: list[Point] = [(100.0, 10.0, -55.0), (85.0, -35.0, -70.0), (70.0, 40.0, -60.0), (-10.0, 50.0, -30.0)]
    trees = [tube(rng, [(20.0, -24.0, -8.0), (45.0, 0.0, -12.0), end], [5.0, 3.5, 1.5], 4.0) for end in hepatic]
    trees += [tube(rng, [(18.0, -14.0, -62.0), (40.0, 0.0, -55.0), end], [6.0, 4.0, 1.5], 4.0) for end in portal]
    share = stamp(canvas.frame, trees)
    share *= canvas.labels == value_of("liver")
    canvas.blend(WHOLE, share, canvas.tissue["vein"])


def paint_kidneys(canvas: Canvas, viscera: Viscera, room: Mask, rng: Rng) -> None:
    tissue = canvas.tissue
    for kidney in viscera.kidneys:
        (cx, cy, cz), (a, b, c) = kidney.centre, kidney.radii
        box = _box_around(canvas, kidney.centre, kidney.radii, 1.4)
        at = canvas.frame.within(box)
        lean = (kidney.medial * 0.18, 0.12)
        whole = ellipsoid(at, kidney.centre, kidney.radii, lean)
        sinus = ellipsoid(at, (cx + kidney.medial * 0.72 * a, cy + 0.25 * b, cz), (0.62 * a, 0.4 * b, 0.46 * c), lean)
        free = room[box]
        canvas.paint(box, inside(whole, 1.28) & free, tissue["fat"], 0)
        organ = inside(whole) & (sinus > 1) & free
        canvas.paint(box, organ, tissue["renal cortex"], value_of("kidney", kidney.side))
        canvas.paint(box, organ & inside(whole, 0.72), tissue["renal medulla"])
        canvas.paint(box, inside(sinus) & inside(whole) & free, tissue["fat"] + 40, value_of("kidney", kidney.side))
        canvas.paint(box, inside(sinus, 0.45) & inside(whole) & free, tissue["fluid"])


def paint_abdominal_veins(canvas: Canvas, room: Mask, rng: Rng) -> None:
    """Lower caval vein, portal vein, renal veins; pancreas and duodenum as soft tissue between."""
    frame, tissue = canvas.frame, canvas.tissue
    cava = tube(
        rng,
        [(20.0, -26.0, 18.0), (20.0, -26.0, -20.0), (20.0, -30.0, -80.0), (18.0, -34.0, -165.0)],
        [11.0, 10.5, 10.0, 10.0],
    )
    portal = tube(
        rng,
        [(-75.0, -15.0, -62.0), (-20.0, -2.0, -70.0), (4.0, -4.0, -74.0), (20.0, -10.0, -62.0), (34.0, -2.0, -56.0)],
        [4.0, 5.0, 6.5, 7.0, 6.0],
    )
    renal = [
        tube(rng, [(way * 44.0, -36.0, -88.0), (way * 8.0, -24.0, -86.0), (18.0, -28.0, -86.0)], [5.0, 5.0, 5.0])
        for way in (1, -1)
    ]
    pancreas = tube(
        rng,
        [(-62.0, -8.0, -66.0), (-20.0, 4.0, -74.0), (20.0, 6.0, -84.0), (32.0, 2.0, -104.0)],
        [10.0, 9.0, 12.0, 11.0],
        3.0,
    )
    for tubes, hu in (([pancreas], tissue["muscle"] * 0.85), ([cava, portal, *renal], tissue["vein"])):
        share = stamp(frame, tubes)
        share *= canvas.labels == 0
        canvas.blend(WHOLE, share, hu)


def free_room(canvas: Canvas, cavity: Field, above: Field) -> Mask:
    """Where abdominal organs can lie: within the cavity, a little below the diaphragm, not in bone."""
    return np.asarray((cavity > 2) & (above < -2.0) & (canvas.labels != value_of("bone")))
