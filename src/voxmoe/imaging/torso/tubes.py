"""Vessels and airways: curves through knots in body coordinates, with a radius in mm, as fractions of voxels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Field, Point
from voxmoe.imaging.torso.frame import Frame

_STEP_MM = 2.0


@dataclass(frozen=True, eq=False)
class Tube:
    """Points [P, 3] in body coordinates, close to each other, and the radius at each in mm."""

    points: Float[np.ndarray, "P 3"]
    radii: Float[np.ndarray, " P"]


def tube(rng: Rng, knots: Sequence[Point], radii: Sequence[float], sway: float = 2.0) -> Tube:
    """A smooth curve through knots, each of which is moved by about `sway` mm."""
    at = np.array(knots) + rng.normal(0, sway, (len(knots), 3))
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(at, axis=0), axis=1) + 1e-3)])
    along = np.linspace(0, lengths[-1], max(int(lengths[-1] / _STEP_MM), 2))
    return Tube(PchipInterpolator(lengths, at)(along), np.interp(along, lengths, radii))


def stamp(frame: Frame, tubes: Sequence[Tube]) -> Field:
    """How much of each voxel the tubes fill, 0 to 1; what is thinner than a voxel never fills one."""
    field = np.zeros(frame.shape[::-1], dtype=np.float32).T
    points = frame.voxels(np.concatenate([each.points for each in tubes]))
    radii = np.concatenate([each.radii for each in tubes]).astype(np.float32)
    for low, high in ((0.0, 2.5), (2.5, 6.0), (6.0, 100.0)):
        group = (radii >= low) & (radii < high)
        if group.any():
            _stamp_balls(field, frame, points[group], radii[group])
    return field


def _stamp_balls(field: Field, frame: Frame, points: Float[np.ndarray, "P 3"], radii: Float[np.ndarray, " P"]) -> None:
    half = np.float32(0.5 * frame.spacing[0])
    reach = [np.arange(-r, r + 1) for r in np.ceil((radii.max() + half) / np.array(frame.spacing)).astype(int)]
    offsets = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3)
    centres = np.rint(points).astype(int)
    away = np.zeros((len(points), len(offsets)), dtype=np.float32)
    valid = np.ones(away.shape, dtype=bool)
    for axis, (size, step) in enumerate(zip(frame.shape, frame.spacing, strict=True)):
        voxel = centres[:, axis, None] + offsets[:, axis]
        valid &= (voxel >= 0) & (voxel < size)
        away += (((voxel - points[:, axis, None]) * step) ** 2).astype(np.float32)
    share = np.clip((radii[:, None] - np.sqrt(away)) / (2 * half) + 0.5, 0, 1)
    share *= np.minimum(1, (np.pi * radii**2 / frame.spacing[0] ** 2))[:, None]
    keep = valid & (share > 0.02)
    which, offset = np.nonzero(keep)
    x, y, z = (centres[which] + offsets[offset]).T
    np.maximum.at(field, (x, y, z), share[keep])
