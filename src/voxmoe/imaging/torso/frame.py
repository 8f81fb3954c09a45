"""The grid that a torso is painted on, and each voxel's place in a standard body.

Body coordinates are mm in a body of average size: x to the right, y forwards, z upwards, the origin on the midline at
the height of the diaphragm. A patient's own size and a smooth random warp lie between them and the grid.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32

from voxmoe.errors import ImageError
from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.phantoms.geometry import Field, Point, Shape
from voxmoe.imaging.phantoms.noise import Line, smooth_noise

SHAPE: Shape = (128, 128, 64)
_EXTENT_MM = (384.0, 384.0, 320.0)
_FLOOR = -146.0
"""The body's z of the lowest slice, about: below the kidneys."""
_MARGIN = 14.0
"""How far the warp can carry anything, mm."""
Boxed = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels of a shape, `spacing` mm apart along each axis."""

    shape: Shape
    spacing: Point

    @property
    def lines(self) -> tuple[Line, Line, Line]:
        x, y, z = ((0.0, step, size) for step, size in zip(self.spacing, self.shape, strict=True))
        return x, y, z

    @property
    def size_mm(self) -> Shape:
        x, y, z = (int(np.ceil(step * size)) for step, size in zip(self.spacing, self.shape, strict=True))
        return x, y, z

    @property
    def voxel_mm3(self) -> float:
        return float(np.prod(self.spacing))

    def noise(self, rng: Rng, spacing: float) -> Field:
        """Smooth noise of deviation 1 that varies over about `spacing` mm."""
        return smooth_noise(rng, self.size_mm, spacing, self.lines)

    def ball(self, voxel: tuple[int, int, int], radius: float) -> tuple[Boxed, Float32[np.ndarray, "A B C"]]:
        """The box of a ball of `radius` mm around a voxel's middle, and the distance of its voxels from there, mm."""
        box, away = [], []
        for at, step, size in zip(voxel, self.spacing, self.shape, strict=True):
            reach = int(np.ceil(radius / step)) + 1
            span = slice(max(at - reach, 0), min(at + reach + 1, size))
            box.append(span)
            away.append((np.arange(span.start, span.stop, dtype=np.float32) - np.float32(at)) * np.float32(step))
        x, y, z = np.ix_(*away)
        return (box[0], box[1], box[2]), np.sqrt(x * x + y * y + z * z)


@dataclass(frozen=True, eq=False)
class Frame(Grid):
    """A grid that holds a body `scale` times as large as the standard one along each axis."""

    scale: Point
    centre: Point
    """Where the origin of the body lies, mm from the first voxel."""
    affine: Float[np.ndarray, "4 4"]
    warp: tuple[Field, Field, Field]

    @cached_property
    def axes(self) -> tuple[Float32[np.ndarray, " X"], Float32[np.ndarray, " Y"], Float32[np.ndarray, " Z"]]:
        """Body coordinates along each axis, but for the warp."""
        x, y, z = (
            ((np.arange(size) * step - middle) / by).astype(np.float32)
            for size, step, middle, by in zip(self.shape, self.spacing, self.centre, self.scale, strict=True)
        )
        return x, y, z

    @cached_property
    def at(self) -> tuple[Field, Field, Field]:
        """Body coordinates of every voxel; the first axis lies closest in memory."""
        x, y, z = self.axes
        return self.warp[0] + x[:, None, None], self.warp[1] + y[:, None], self.warp[2] + z

    def within(self, box: Boxed) -> tuple[Field, Field, Field]:
        """Body coordinates of the voxels of a box."""
        x, y, z = self.at
        return x[box], y[box], z[box]

    def box(self, low: Point, high: Point) -> Boxed:
        """The voxels that can hold what lies between two corners in body coordinates."""
        out = []
        for a, b, step, middle, by, size in zip(
            low, high, self.spacing, self.centre, self.scale, self.shape, strict=True
        ):
            start = int(np.floor(((a - _MARGIN) * by + middle) / step))
            stop = int(np.ceil(((b + _MARGIN) * by + middle) / step)) + 1
            out.append(slice(min(max(start, 0), size - 1), min(max(stop, 1), size)))
        return out[0], out[1], out[2]

    def voxels(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """The (fractional) voxels at which points of the body lie: the inverse of `at`, to a fraction of a mm."""
        scale, centre, spacing = map(np.array, (self.scale, self.centre, self.spacing))
        moved = np.zeros_like(points)
        for _ in range(3):
            voxels = ((points - moved) * scale + centre) / spacing
            near = tuple(np.clip(np.rint(voxels).astype(int), 0, np.array(self.shape) - 1).T)
            moved = np.stack([axis[near] for axis in self.warp], axis=1)
        return np.asarray(((points - moved) * scale + centre) / spacing)


def ellipsoid(
    at: tuple[Field, Field, Field], centre: Point, radii: Point, lean: tuple[float, float] = (0.0, 0.0)
) -> Field:
    """0 at the centre, 1 on the surface; `lean` moves the axis along z sideways and forwards by so much a mm."""
    x, y, z = (axis - np.float32(middle) for axis, middle in zip(at, centre, strict=True))
    if lean[0]:
        x = x - np.float32(lean[0]) * z
    if lean[1]:
        y = y - np.float32(lean[1]) * z
    a, b, c = map(np.float32, radii)
    total = x * x / (a * a)
    total += y * y / (b * b)
    total += z * z / (c * c)
    out: Field = np.sqrt(total, out=total)
    return out


def inside(field: Field, limit: float = 1.0) -> Bool[np.ndarray, "X Y Z"]:
    return np.asarray(field < np.float32(limit))


def draw_frame(rng: Rng, shape: Shape = SHAPE) -> Frame:
    """Raises `ImageError` for a grid too coarse to hold lesions."""
    if min(shape) < 32:
        told = "x".join(map(str, shape))
        raise ImageError(f"a torso of {told} voxels was asked for; at least 32 along each axis are needed")
    x, y, z = (uniform(rng, 0.97, 1.04) * extent / size for extent, size in zip(_EXTENT_MM, shape, strict=True))
    x = y = (x + y) / 2
    size = uniform(rng, 0.9, 1.02)
    scale = (size * uniform(rng, 0.96, 1.04), size * uniform(rng, 0.93, 1.06), z * shape[2] / 322.0)
    centre = (
        shape[0] * x / 2 + uniform(rng, -8.0, 8.0),
        shape[1] * y / 2 + uniform(rng, -4.0, 14.0),
        -_FLOOR * scale[2] + uniform(rng, 4.0, 8.0),
    )
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = [-centre[0], -centre[1], round(uniform(rng, -400.0, 200.0), 1)]
    grid = Grid(shape, (x, y, z))
    warp = []
    for wide, fine in ((4.0, 1.2), (4.0, 1.2), (3.0, 1.0)):
        field = grid.noise(rng, 70.0) * np.float32(wide)
        field += grid.noise(rng, 28.0) * np.float32(fine)
        warp.append(np.clip(field, -_MARGIN, _MARGIN, out=field))
    return Frame(shape, grid.spacing, scale, centre, affine, (warp[0], warp[1], warp[2]))
