"""The trunk: skin, fat, muscle, the cavity of chest and abdomen, spine, ribs, breastbone, shoulder blades."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from voxmoe.imaging.phantoms.draws import Rng, chance, uniform
from voxmoe.imaging.phantoms.geometry import Field
from voxmoe.imaging.torso.canvas import Canvas
from voxmoe.imaging.torso.frame import Boxed, Frame, ellipsoid, inside
from voxmoe.imaging.torso.labels import value_of

WHOLE: Boxed = (slice(None), slice(None), slice(None))
_BONE = value_of("bone")
_RIB_PERIOD_MM = 27.0


@dataclass(frozen=True)
class Build:
    """How a patient is built; mm."""

    fat: float
    waist: float
    chest: float
    squareness: float
    breasts: float
    vertebra: float
    rib_slope: float
    rib_phase: float


def draw_build(rng: Rng) -> Build:
    return Build(
        fat=uniform(rng, 6.0, 26.0),
        waist=uniform(rng, -8.0, 8.0),
        chest=uniform(rng, -5.0, 5.0),
        squareness=uniform(rng, 0.0, 0.5),
        breasts=uniform(rng, 0.6, 1.2) if chance(rng, 0.4) else 0.0,
        vertebra=uniform(rng, 0.9, 1.1),
        rib_slope=uniform(rng, 0.35, 0.55),
        rib_phase=uniform(rng, 0.0, _RIB_PERIOD_MM),
    )


def _within(
    x: Field, y: Field, half_width: Float32[np.ndarray, " Z"], half_depth: Float32[np.ndarray, " Z"], square: float
) -> Field:
    """About the distance in mm from a rounded cross-section's outline, positive within."""
    u, v = x / half_width, y / half_depth
    u *= u
    v *= v
    total = u + v
    thick = (half_width * u + half_depth * v) / (total + np.float32(1e-6))
    total -= np.float32(square) * np.minimum(u, 1) * np.minimum(v, 1)  # beyond the corners it must not fall again
    depth: Field = (1 - np.sqrt(total, out=total)) * thick
    return depth


def depth_in_cavity(frame: Frame, build: Build) -> Field:
    """The distance in mm from the inner wall of chest and abdomen, positive within."""
    x, y, _ = frame.at
    z = frame.axes[2]
    top = np.clip((z - 25) / 145, 0, 1.05)
    belly = np.clip(-z / 60, 0, 1)
    half_width = 127 + build.chest - 66 * top**2.3 - (8 - build.waist) * belly
    half_depth = 83 + build.chest * 0.5 - 36 * top**2 - 4 * belly
    return _within(x, y - (10 - 8 * top), half_width, half_depth, build.squareness)


def paint_walls(canvas: Canvas, build: Build, cavity: Field, rng: Rng) -> None:
    """Skin, fat and muscle around the cavity, fat within it."""
    frame, tissue = canvas.frame, canvas.tissue
    x, y, z = frame.at
    heights = frame.axes[2]
    top = np.clip((heights - 60) / 110, 0, 1)
    belly = np.clip(-heights / 60, 0, 1)
    half_width = 146 + build.chest + 4 * top - (10 - build.waist) * belly
    half_depth = 103 + 0.5 * build.chest - 8 * top
    muscle = _within(x, y + 5, half_width, half_depth, build.squareness)
    fat_below = build.fat * (0.7 + 0.5 * belly)
    skin = muscle + fat_below.astype(np.float32)
    if build.breasts:
        box = frame.box((-125.0, 70.0, 10.0), (125.0, 150.0, 120.0))
        at = (abs(x[box]), y[box], z[box])
        breast = ellipsoid(at, (68.0, 88.0, 62.0), (52.0, 42.0 * build.breasts, 45.0))
        np.maximum(skin[box], (1 - breast) * 40, out=skin[box])
    marbling = frame.noise(rng, 9.0)
    grain = marbling * np.float32(6)
    canvas.paint(WHOLE, skin > 0, grain + np.float32(tissue["fat"]))
    canvas.paint(WHOLE, (skin > 0) & (skin < 2.5), 10.0)
    flesh = (muscle > 0) & (cavity < 0)
    canvas.paint(WHOLE, flesh & (marbling < 1.7), grain + np.float32(tissue["muscle"]))
    canvas.paint(WHOLE, (cavity < 0) & (cavity > -2.5), tissue["muscle"])


def paint_bones(canvas: Canvas, build: Build, cavity: Field) -> None:
    _paint_spine(canvas, build)
    _paint_ribs(canvas, build, cavity)
    _paint_shoulder_blades(canvas, cavity)


def _paint_spine(canvas: Canvas, build: Build) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    box = frame.box((-45.0, -125.0, -200.0), (45.0, -35.0, 220.0))
    x, y, z = frame.within(box)
    size = np.float32(build.vertebra)
    x = x / size
    y = (y + 60) / size
    level = np.abs((z + np.float32(build.rib_phase)) % np.float32(_RIB_PERIOD_MM) - np.float32(_RIB_PERIOD_MM / 2))
    body = np.sqrt((x / 21) ** 2 + (y / 16) ** 2)
    disc = level > 11
    canvas.paint(box, body < 1, tissue["cortical bone"], _BONE)
    canvas.paint(box, (body < 0.84) & (level < 9.5), tissue["marrow"])
    canvas.paint(box, (body < 1.0) & disc, tissue["disc"], _BONE)
    canal = np.sqrt((x / 11) ** 2 + ((y + 25) / 9) ** 2)
    arch = (canal < 1.5) & (level < 9)
    wing = (np.abs(y + 26) < 4.5) & (np.abs(x) < 33) & (level < 5)
    spine = (np.abs(x) < 3.5) & (y < -30) & (y > -52) & (level < 8)
    canvas.paint(box, (arch | wing | spine) & (canal > 1), 0.6 * tissue["cortical bone"], _BONE)
    canvas.paint(box, canal < 1, tissue["fluid"] + 10)
    cord = np.sqrt((x / 6) ** 2 + ((y + 25) / 5) ** 2)
    canvas.paint(box, cord < 1, 38.0)


def _paint_ribs(canvas: Canvas, build: Build, cavity: Field) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    box = frame.box((-170.0, -120.0, -90.0), (170.0, 120.0, 220.0))
    x, y, z = frame.within(box)
    wall = cavity[box]
    height = z + np.float32(build.rib_slope) * y
    level = np.abs((height + np.float32(build.rib_phase)) % np.float32(_RIB_PERIOD_MM) - np.float32(13.5))
    ring = (wall < -1.5) & (wall > -9) & (level < 6) & (height > -75)
    behind = y < 60
    shell = (wall > -3.5) | (wall < -7) | (level > 4)
    canvas.paint(box, ring & behind, 0.75 * tissue["cortical bone"], _BONE)
    canvas.paint(box, ring & behind & ~shell, tissue["marrow"])
    canvas.paint(box, ring & ~behind & (np.abs(x) > 20), tissue["cartilage"])
    breastbone = (wall < -1.5) & (wall > -12) & (np.abs(x) < 17) & (y > 20) & (z > 20)
    canvas.paint(box, breastbone, tissue["marrow"] + 60, _BONE)


def _paint_shoulder_blades(canvas: Canvas, cavity: Field) -> None:
    frame, tissue = canvas.frame, canvas.tissue
    box = frame.box((-150.0, -110.0, 60.0), (150.0, -20.0, 220.0))
    x, y, z = frame.within(box)
    across = (np.abs(x) - 98) * np.float32(0.55) - (y + 82) * np.float32(0.83)
    disc = ellipsoid((np.abs(x), y, z), (100.0, -80.0, 125.0), (34.0, 30.0, 52.0))
    blade = inside(disc) & (np.abs(across) < 4) & (cavity[box] < -10)
    canvas.paint(box, blade, 0.7 * tissue["cortical bone"], _BONE)
