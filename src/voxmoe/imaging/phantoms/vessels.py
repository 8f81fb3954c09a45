"""Vessels as tubes in the template's space, with the choroid plexus and other small bright structures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.phantoms.geometry import Flat, Point, Shape
from voxmoe.imaging.phantoms.voxels import Voxels
from voxmoe.imaging.phantoms.warp import Warp

_THIN = 1.6
"""Radius in voxels up to which tubes are stamped with a small ball."""

_ARTERIES: tuple[tuple[Point, ...], ...] = (
    ((4.0, 2.0, -16.0), (20.0, 2.0, -18.0), (34.0, 2.0, -14.0), (44.0, -12.0, -2.0), (50.0, -38.0, 15.0)),
    ((4.0, 2.0, -16.0), (2.0, 18.0, -14.0), (2.0, 40.0, -2.0), (3.0, 38.0, 20.0), (3.0, 4.0, 40.0)),
    ((2.0, -18.0, -14.0), (14.0, -22.0, -12.0), (24.0, -34.0, -6.0), (20.0, -54.0, 0.0), (12.0, -74.0, 4.0)),
    ((0.0, -20.0, -16.0), (0.0, -26.0, -28.0), (0.0, -26.0, -40.0), (3.0, -32.0, -54.0)),
)
_TRANSVERSE_SINUS: tuple[Point, ...] = (
    (0.0, -92.0, -8.0),
    (22.0, -86.0, -18.0),
    (42.0, -68.0, -25.0),
    (50.0, -48.0, -31.0),
)
_MIDLINE_VEINS: tuple[tuple[Point, ...], ...] = (
    ((0.0, -32.0, 6.0), (0.0, -42.0, 6.0), (0.0, -54.0, 2.0), (0.0, -70.0, 2.0), (0.0, -88.0, -4.0)),
    ((3.0, -4.0, 14.0), (3.0, -18.0, 12.0), (1.0, -30.0, 8.0), (0.0, -38.0, 6.0)),
)
_SAGITTAL_SINUS: tuple[tuple[Point, ...], ...] = tuple(
    tuple((0.0, float(-18 + y * np.cos(angle)), float(6 + z * np.sin(angle))) for angle in np.linspace(0.5, 3.4, 14))
    for y, z in ((84, 68.5), (80, 65))
)
"""Two lines, the inner one thinner: the sinus is a triangle in cross-section."""
_PLEXUS: tuple[Point, ...] = (
    (4.0, 2.0, 14.0),
    (10.0, -10.0, 18.0),
    (18.0, -28.0, 16.0),
    (24.0, -40.0, 10.0),
    (26.0, -40.0, 0.0),
    (30.0, -30.0, -10.0),
)


def _curve(rng: Rng, knots: Sequence[Point], jitter: float) -> Float[np.ndarray, "P 3"]:
    """A sinuous line through jittered knots, two points for each mm."""
    points = np.array(knots) + rng.normal(0, jitter, (len(knots), 3))
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    at = np.linspace(0, len(knots) - 1, max(int(2 * length), 2))
    order = min(3, len(knots) - 1)
    index = np.arange(len(knots), dtype=float)
    line = np.stack([np.interp(at, index, points[:, axis]) for axis in range(3)], axis=1)
    line = ndimage.gaussian_filter1d(line, 2.0 * order, axis=0, mode="nearest")
    waves = ndimage.gaussian_filter1d(rng.normal(0, 1, line.shape), 6, axis=0, mode="nearest")
    return line + jitter * 1.5 * waves


def _mirrored(knots: Sequence[Point], side: int) -> list[Point]:
    return [(side * x, y, z) for x, y, z in knots]


def _surface_vein(rng: Rng) -> list[Point]:
    """From the side of the hemisphere up to the sagittal sinus, over the template's convexity."""
    side = rng.choice((-1, 1))
    slope = rng.uniform(-50, 40)
    angles = np.linspace(rng.uniform(0.1, 0.9), np.pi / 2, 7)
    return [
        (
            float(side * 66 * np.cos(a)),
            float(slope + 12 * np.sin(3 * a)),
            float(6 + 70 * np.sin(a) * np.sqrt(max(0.1, 1 - ((slope + 18) / 95) ** 2))),
        )
        for a in angles
    ]


@dataclass(frozen=True, eq=False)
class _Tube:
    """A line in template mm with its radius in mm at each point."""

    line: Float[np.ndarray, "P 3"]
    radii: Float[np.ndarray, " P"]


def _stamp(tubes: Sequence[_Tube], warp: Warp, voxels: Voxels) -> Flat:
    """How much of each drawn voxel the tubes fill: drawn where the warp brings them."""
    field = np.zeros(int(np.prod(voxels.shape)), dtype=np.float32)
    if tubes:
        places = warp.places(np.concatenate([tube.line for tube in tubes]))
        points = voxels.raster.voxel(places) - voxels.box.start
        radii = np.concatenate([tube.radii for tube in tubes]) / voxels.raster.spacing
        thick = radii > _THIN
        for group in (thick, ~thick):
            if group.any():
                _stamp_balls(field, voxels.shape, points[group], radii[group])
    return field.take(voxels.index)


def _stamp_balls(
    field: Float32[np.ndarray, " V"],
    shape: Shape,
    points: Float[np.ndarray, "P 3"],
    radii: Float[np.ndarray, " P"],
) -> None:
    """Balls in voxels: 1 inside, falling to 0 over a voxel; what is thinner than a voxel never fills one."""
    reach = int(np.ceil(radii.max() + 0.5))
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) < radii.max() + 0.5 + 0.9]
    centres = np.rint(points).astype(np.int32)
    voxels = centres[:, None, :] + offsets.astype(np.int32)
    away = np.zeros(voxels.shape[:2], dtype=np.float32)
    inside = np.ones(voxels.shape[:2], dtype=bool)
    flat = np.zeros(voxels.shape[:2], dtype=np.int64)
    stride = 1
    for axis, size in enumerate(shape):
        at = voxels[..., axis]
        away += np.square((points[:, axis] - centres[:, axis])[:, None] - offsets[:, axis], dtype=np.float32)
        inside &= (at >= 0) & (at < size)
        flat += at * stride
        stride *= size
    radii = radii.astype(np.float32)[:, None]
    value = np.clip(radii + np.float32(0.5) - np.sqrt(away), 0, np.minimum(1, np.pi * radii**2))
    keep = inside & (value > 0)
    np.maximum.at(field, flat[keep], value[keep])


def _lines(rng: Rng, anatomy: Anatomy) -> Iterator[tuple[Float[np.ndarray, "P 3"], float]]:
    """Vessels as lines with a radius in mm."""
    radius = anatomy.vessel_radius
    for side in (-1, 1):
        for knots in _ARTERIES[:3]:
            yield _curve(rng, _mirrored(knots, side), 2.0), radius * 1.1
    yield _curve(rng, _ARTERIES[3], 1.0), radius * 1.5
    for knots in _MIDLINE_VEINS:
        yield _curve(rng, knots, 0.8), radius * 1.5
    width = uniform(rng, 1.2, 3.4)
    for knots, share in zip(_SAGITTAL_SINUS, (1.0, 0.6), strict=True):
        yield _curve(rng, knots, 0.5), width * share
    for side in (-1, 1):
        yield _curve(rng, _mirrored(_TRANSVERSE_SINUS, side), 1.5), width * uniform(rng, 0.3, 1.0)
    for _ in range(anatomy.vessels):
        yield _curve(rng, _surface_vein(rng), 3.0), radius * uniform(rng, 0.6, 1.3)


def vessel_map(anatomy: Anatomy, warp: Warp, voxels: Voxels) -> Flat:
    """Arteries, veins and sinuses."""
    rng = np.random.default_rng([anatomy.seed, 1])
    tubes = []
    for line, radius in _lines(rng, anatomy):
        swell = 1 + 0.25 * ndimage.gaussian_filter1d(rng.normal(0, 1, len(line)), 5, mode="nearest") * 3
        tubes.append(_Tube(line, np.clip(radius * swell, 0.3, 4.0)))
    return _stamp(tubes, warp, voxels)


def plexus_map(anatomy: Anatomy, warp: Warp, voxels: Voxels, ventricle: Flat) -> Flat:
    """Choroid plexus within the lateral ventricles, the pineal gland and the pituitary stalk."""
    rng = np.random.default_rng([anatomy.seed, 2])
    plexus = []
    for side in (-1, 1):
        line = _curve(rng, _mirrored(_PLEXUS, side), 0.8)
        bulge = 0.6 + 0.7 * np.exp(-(((line[:, 1] + 40) / 9) ** 2))  # thickest at the atrium
        plexus.append(_Tube(line, anatomy.plexus_radius * bulge))
    glands = [
        _Tube(np.array([centre]) + rng.normal(0, 0.8, (1, 3)), np.array([radius]))
        for centre, radius in (((0, -31, 2), anatomy.pineal_radius), ((0, 0, -20), 1.5))
    ]
    within = np.clip(0.5 - ventricle, 0, 1)
    out: Flat = np.maximum(_stamp(plexus, warp, voxels) * within, _stamp(glands, warp, voxels))
    return out
