"""A brain of its own for every synthetic study: the ICBM152 template, deformed, on the SRI24 grid.

Parameters -> tissue fractions of the brain's voxels. The template (T1, grey and white matter at 1 mm, from
the nilearn wheel's package data) is warped by one affine and one smooth displacement, and sampled once for
all its maps. Coordinates are mm in RAS; `mni` marks those of the template, all others are the SRI24 grid's.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from scipy import ndimage, sparse

from voxmoe.errors import AtlasError
from voxmoe.imaging.spaces import SRI24

Point = tuple[float, float, float]
Shape = tuple[int, int, int]

_TEMPLATE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_CENTRE_MNI = np.array([0.0, -18.0, 5.0])
_MARGIN_MM = 4.0
"""How far around the brain tissue is drawn, so that blurring at its border finds something to mix."""
CHANNELS = ("depth", "grey", "white", "deep", "ventricle", "vessel", "plexus")


@dataclass(frozen=True, eq=False)
class Template:
    """The template's maps in 0 to 1 or mm, where their first voxel lies, and where lesions can begin."""

    maps: dict[str, Float32[np.ndarray, "X Y Z"]]
    origin_mni: Float[np.ndarray, " 3"]
    sites: dict[str, Float[np.ndarray, "P 3"]]


@dataclass(frozen=True)
class Push:
    """Tissue pushed aside around a centre: how strongly (0 to 1) and how far in mm."""

    centre: Point
    strength: float
    reach: float


@dataclass(frozen=True)
class AnatomyParameters:
    """What is drawn of a brain: angles in degrees, lengths in mm, the rest as factors."""

    rotation: Point
    scale: Point
    shear: Point
    shift: Point
    elastic: tuple[float, float, float]
    """Amplitudes of the displacement at the scales 48, 24 and 12 mm."""
    ventricles: float
    """How far the ventricles' walls are moved outwards."""
    sulci: float
    folding: float
    strip_offset: float
    strip_roughness: float
    vessels: int
    vessel_radius: float
    plexus_radius: float
    pineal_radius: float
    seed: int


@dataclass(frozen=True, eq=False)
class Brain:
    """The voxels that are drawn, as flat arrays [N] over a box of the SRI24 grid."""

    start: Shape
    shape: Shape
    index: Int[np.ndarray, " N"]
    inside: Bool[np.ndarray, " N"]
    """Which of the drawn voxels the skull-stripped brain keeps."""
    depth: Float32[np.ndarray, " N"]
    """Distance in mm from the brain's surface, negative outside."""
    ventricle: Float32[np.ndarray, " N"]
    """Distance in mm from the ventricles' walls, negative within."""
    csf: Float32[np.ndarray, " N"]
    grey: Float32[np.ndarray, " N"]
    white: Float32[np.ndarray, " N"]
    deep: Float32[np.ndarray, " N"]
    vessel: Float32[np.ndarray, " N"]
    plexus: Float32[np.ndarray, " N"]

    def volume(self, values: Shaped[np.ndarray, " N"], fill: float = 0.0) -> Shaped[np.ndarray, "X Y Z"]:
        """Flat values as an array over the box."""
        out = np.full(self.shape, fill, dtype=values.dtype)
        out.reshape(-1)[self.index] = values
        return out

    def world(self, voxel: Sequence[float]) -> Point:
        """World mm of a voxel of the box."""
        x, y, z = (float(v) for v in SRI24.affine[:3, :3] @ (np.add(voxel, self.start)) + SRI24.affine[:3, 3])
        return x, y, z

    def voxel(self, world: Point) -> Float[np.ndarray, " 3"]:
        """The (fractional) voxel of the box at world mm."""
        return np.linalg.solve(SRI24.affine[:3, :3], np.subtract(world, SRI24.affine[:3, 3])) - self.start


@lru_cache(maxsize=256)
def _spline_weights(size: int, spacing: float, step: int = 1) -> sparse.csr_array:
    """Cubic B-spline weights [S, K] of knots `spacing` voxels apart, at every `step`-th of `size` voxels."""
    at = np.arange(0, size, step) / spacing
    knots = np.arange(-1, int(np.ceil(size / spacing)) + 2)
    away = np.abs(at[:, None] - knots[None, :])
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return sparse.csr_array(np.where(away < 1, near, far).astype(np.float32))


def lattice_shape(shape: Shape, spacing: float) -> Shape:
    x, y, z = (_spline_weights(size, spacing).shape[1] for size in shape)
    return x, y, z


def separable(
    lattice: Float32[np.ndarray, "A B C"], weights: Sequence[sparse.csr_array]
) -> Float32[np.ndarray, "X Y Z"]:
    """Weigh an array along its three axes; sparse, without BLAS: the same bits with any number of threads."""
    x, y, z = weights
    a, b, c = lattice.shape
    out = (z @ lattice.reshape(a * b, c).T).reshape(z.shape[0], a, b)  # Z A B
    out = y @ np.ascontiguousarray(out.transpose(2, 1, 0)).reshape(b, -1)  # Y (A Z)
    out = np.ascontiguousarray(out.reshape(y.shape[0], a, z.shape[0]).transpose(1, 0, 2))  # A Y Z
    return np.asarray((x @ out.reshape(a, -1)).reshape(x.shape[0], y.shape[0], z.shape[0]))


def upsample(lattice: Float32[np.ndarray, "A B C"], shape: Shape, spacing: float) -> Float32[np.ndarray, "X Y Z"]:
    """The smooth field whose B-spline coefficients stand on a lattice of `spacing` voxels."""
    return separable(lattice, [_spline_weights(size, spacing) for size in shape])


def smooth_noise(rng: np.random.Generator, shape: Shape, spacing: float) -> Float32[np.ndarray, "X Y Z"]:
    """Gaussian noise of mean 0 and deviation 1 that varies over about `spacing` voxels."""
    lattice = rng.standard_normal(lattice_shape(shape, spacing), dtype=np.float32)
    lattice *= np.float32(0.479**-1.5)  # a cubic B-spline's mean sum of squared weights is 0.479 along each axis
    return upsample(lattice, shape, spacing)


def _template_path(kind: str) -> Path:
    spec = importlib.util.find_spec("nilearn")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / _TEMPLATE.format(kind) if folders else None
    if path is None or not path.is_file():
        raise AtlasError(
            f"the ICBM152 {kind} template was not found ({path or 'nilearn is not installed'}); phantoms "
            "need the maps that the nilearn package carries: pip install --force-reinstall nilearn"
        )
    return path


def _read_map(kind: str) -> tuple[Float32[np.ndarray, "X Y Z"], Float[np.ndarray, " 3"]]:
    image = nib.load(_template_path(kind))
    return np.asarray(image.dataobj, dtype=np.float32) / 255, np.asarray(image.affine, dtype=float)[:3, 3]


def signed_distance(region: Bool[np.ndarray, "X Y Z"]) -> Float32[np.ndarray, "X Y Z"]:
    """Distance in voxels from the region's border, positive outside."""
    outside = ndimage.distance_transform_edt(~region)
    within = ndimage.distance_transform_edt(region)
    return (outside - within).astype(np.float32)


def _grid_mni(shape: Shape, origin: Float[np.ndarray, " 3"]) -> list[Float32[np.ndarray, "..."]]:
    return [
        (axis + start).astype(np.float32)
        for axis, start in zip(np.ogrid[tuple(map(slice, shape))], origin, strict=True)
    ]


def _ventricles(
    csf: Float32[np.ndarray, "X Y Z"], depth: Float32[np.ndarray, "X Y Z"], origin: Float[np.ndarray, " 3"]
) -> Bool[np.ndarray, "X Y Z"]:
    x, y, z = _grid_mni(csf.shape, origin)
    cerebral = (np.abs(x) < 42) & (y > -55) & (y < 40) & (z > -18) & (z < 32) & (depth > 14)
    fourth = (np.abs(x) < 12) & (y > -52) & (y < -33) & (z > -45) & (z < -20)
    labels, _ = ndimage.label((csf > 0.5) & cerebral)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes[labels] > 400) | ((csf > 0.5) & fourth))


def _sites(
    maps: dict[str, Float32[np.ndarray, "X Y Z"]], origin: Float[np.ndarray, " 3"]
) -> dict[str, Float[np.ndarray, "P 3"]]:
    """Template mm at which a lesion of each kind can begin."""
    x, y, z = _grid_mni(maps["grey"].shape, origin)
    below = (z < -18) & (y < -38) & (z > -55)
    stem = (np.abs(x) < 12) & (y > -42) & (y < -16) & (z < -14) & (z > -50) & (maps["depth"] > 4)
    cerebrum = ~below & (z > -28) & ~stem
    white, grey, depth = maps["white"], maps["grey"], maps["depth"]
    regions = {
        "white matter": (white > 0.6) & cerebrum & (depth > 8),
        "junction": (white > 0.25) & (grey > 0.35) & cerebrum & (depth > 4) & (depth < 16),
        "cerebellum": (white + grey > 0.9) & below & (depth > 6),
        "brainstem": (white + grey > 0.7) & stem,
        "deep": (maps["deep"] > 0.5) & cerebrum,
        "surface": (depth > 1) & (depth < 5) & (z > -20),
    }
    return {name: np.argwhere(region)[::7].astype(float) + origin for name, region in regions.items()}


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template's maps, cropped to the brain. Raises `AtlasError` if the files are not there."""
    t1, origin = _read_map("t1")
    grey, white = _read_map("gm")[0], _read_map("wm")[0]
    brain = ndimage.binary_fill_holes(ndimage.binary_opening(t1 > 0.2, iterations=2))
    bounds = [
        (max(hits[0] - 10, 0), hits[-1] + 11)
        for hits in (np.flatnonzero(brain.any(axis=o)) for o in ((1, 2), (0, 2), (0, 1)))
    ]
    crop = tuple(slice(a, b) for a, b in bounds)
    origin = origin + [a for a, _ in bounds]
    brain, grey, white = brain[crop], grey[crop].copy(), white[crop].copy()
    depth = np.clip(-signed_distance(brain), -12, 40)
    csf = np.clip(1 - grey - white, 0, 1) * brain
    ventricle = np.clip(signed_distance(_ventricles(csf, depth, origin)), -12, 60)
    bulk = ndimage.gaussian_filter(grey, 2)
    lining = grey * np.clip((3 - ventricle) / 1.5, 0, 1) * np.clip((0.55 - bulk) / 0.1, 0, 1)
    grey -= lining  # the template takes the mixture of fluid and white matter around the ventricles for grey
    white += lining * np.clip((ventricle + 0.5) / 2, 0, 1)
    x, y, z = _grid_mni(grey.shape, origin)
    within = ((np.abs(x) / 35) ** 4 + ((y + 5) / 30) ** 4 + ((z - 3) / 18) ** 4) < 1
    deep = (within & (depth > 24)).astype(np.float32)
    # wide ventricles are wide at their sides: stretched near the midline, distances let less be added there
    ventricle = np.where(ventricle > 0, ventricle * (1 + 2 * np.exp(-((x / 6) ** 2))), ventricle)
    maps = {"depth": depth, "grey": grey, "white": white, "deep": deep, "ventricle": ventricle}
    return Template(maps, origin, _sites(maps, origin))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _triple(rng: np.random.Generator, low: float, high: float) -> Point:
    return _uniform(rng, low, high), _uniform(rng, low, high), _uniform(rng, low, high)


def draw_anatomy(rng: np.random.Generator) -> AnatomyParameters:
    size = _uniform(rng, -0.05, 0.05)
    return AnatomyParameters(
        rotation=_triple(rng, -6.0, 6.0),
        scale=tuple(float(np.exp(size + value)) for value in rng.uniform(-0.045, 0.045, 3)),  # type: ignore[arg-type]
        shear=_triple(rng, -0.04, 0.04),
        shift=_triple(rng, -3.0, 3.0),
        elastic=(_uniform(rng, 1.5, 3.6), _uniform(rng, 1.0, 2.3), _uniform(rng, 0.4, 1.1)),
        ventricles=float(np.clip(rng.gamma(1.5, 1.0) - 1.0, -1.0, 3.5)),
        sulci=_uniform(rng, -0.5, 1.3),
        folding=_uniform(rng, 0.4, 1.1),
        strip_offset=_uniform(rng, -0.3, 1.8),
        strip_roughness=_uniform(rng, 0.2, 1.0),
        vessels=int(rng.integers(20, 60)),
        vessel_radius=_uniform(rng, 0.5, 1.1),
        plexus_radius=_uniform(rng, 0.8, 2.8),
        pineal_radius=_uniform(rng, 0.5, 3.0),
        seed=int(rng.integers(2**32)),
    )


def rotation(degrees: Point) -> Float[np.ndarray, "3 3"]:
    """Turns about the three axes, one after the other."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def voxel_to_mni(parameters: AnatomyParameters) -> Float[np.ndarray, "4 4"]:
    """The affine part of the way from SRI24 voxels back to template mm."""
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = parameters.shear
    linear = rotation(parameters.rotation) @ np.diag(1 / np.array(parameters.scale)) @ shear
    own = np.eye(4)
    own[:3, :3] = linear
    own[:3, 3] = _CENTRE_MNI + parameters.shift - linear @ _CENTRE_MNI
    return np.asarray(own @ np.linalg.inv(SRI24.from_mni152) @ SRI24.affine)


def mni_to_world(parameters: AnatomyParameters, point: Point) -> Point:
    """Where a template point comes to lie, but for the elastic part."""
    voxel = np.linalg.inv(voxel_to_mni(parameters)) @ [*point, 1]
    x, y, z = (float(value) for value in (SRI24.affine @ voxel)[:3])
    return x, y, z


_ELASTIC_SPACING = 12.0


def _displacement_lattice(parameters: AnatomyParameters) -> list[Float32[np.ndarray, "A B C"]]:
    """B-spline coefficients of the displacement in template mm, all scales on the finest lattice."""
    rng = np.random.default_rng([parameters.seed, 0])
    shape = lattice_shape(SRI24.shape, _ELASTIC_SPACING)
    fields = []
    for _ in range(3):
        field = np.zeros(shape, dtype=np.float32)
        for amplitude, scale in zip(parameters.elastic, (4.0, 2.0), strict=False):
            field += np.float32(amplitude) * smooth_noise(rng, shape, scale)
        fields.append(field + np.float32(parameters.elastic[2] / 0.33) * rng.standard_normal(shape, dtype=np.float32))
    return fields


def _pushed(voxels: Sequence[Float32[np.ndarray, "..."]], pushes: Sequence[Push]) -> list[Float32[np.ndarray, "..."]]:
    """Where the tissue at each voxel stood before the lesions pushed it away, in SRI24 voxels."""
    out = [axis.astype(np.float32) for axis in voxels]
    for push in pushes:
        centre = np.linalg.inv(SRI24.affine) @ [*push.centre, 1]
        offsets = [axis - np.float32(at) for axis, at in zip(voxels, centre[:3], strict=True)]
        weight = sum((offset / np.float32(push.reach)) ** 2 for offset in offsets)
        weight = np.float32(push.strength) * np.exp(-weight / 2)
        out = [axis - weight * offset for axis, offset in zip(out, offsets, strict=True)]
    return out


def _template_coordinates(
    parameters: AnatomyParameters, pushes: Sequence[Push], step: int, start: Shape, shape: Shape
) -> list[Float32[np.ndarray, "X Y Z"]]:
    """Template voxel coordinates of every `step`-th voxel in a box of the SRI24 grid."""
    voxels = [
        np.arange(a, a + n, step, dtype=np.float32).reshape(tuple(-1 if i == axis else 1 for i in range(3)))
        for axis, (a, n) in enumerate(zip(start, shape, strict=True))
    ]
    before = _pushed(voxels, pushes)
    matrix = voxel_to_mni(parameters)
    matrix[:3, 3] -= load_template().origin_mni
    cut = tuple(slice(a // step, a // step + -(-n // step)) for a, n in zip(start, shape, strict=True))
    out = []
    for row, lattice in zip(matrix[:3].astype(np.float32), _displacement_lattice(parameters), strict=True):
        weights = [
            _spline_weights(size, _ELASTIC_SPACING, step)[part] for size, part in zip(SRI24.shape, cut, strict=True)
        ]
        moved = separable(lattice, weights)
        moved += row[0] * before[0] + row[1] * before[1] + row[2] * before[2] + row[3]
        out.append(moved)
    return out


_COARSE = 3


def _candidates(
    parameters: AnatomyParameters, pushes: Sequence[Push]
) -> tuple[Shape, Shape, Bool[np.ndarray, "X Y Z"]]:
    """The box and its voxels that can be brain: found on every third voxel, widened by one of those."""
    coarse = _template_coordinates(parameters, pushes, _COARSE, (0, 0, 0), SRI24.shape)
    depth = load_template().maps["depth"]
    reach = np.float32(_MARGIN_MM + 1)
    near = [
        np.clip(np.rint(axis), 0, size - 1).astype(np.int32) for axis, size in zip(coarse, depth.shape, strict=True)
    ]
    brain = ndimage.maximum_filter(depth[tuple(near)] > -reach, size=3)
    bounds = [np.flatnonzero(brain.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    crop = tuple(slice(hits[0], hits[-1] + 1) for hits in bounds)
    start = tuple(int(hits[0]) * _COARSE for hits in bounds)
    shape = tuple(
        min((int(hits[-1]) + 1) * _COARSE, size) - begin
        for hits, size, begin in zip(bounds, SRI24.shape, start, strict=True)
    )
    fine = brain[crop]
    for axis in range(3):
        fine = np.repeat(fine, _COARSE, axis=axis)
    return start, shape, fine[tuple(map(slice, shape))]  # type: ignore[return-value]


def _sampled(
    maps: Float32[np.ndarray, "X Y Z C"],
    coordinates: Sequence[Float32[np.ndarray, " N"]],
    chunk: int = 1 << 15,
) -> Float32[np.ndarray, "C N"]:
    """Linear interpolation of all channels at once; clamped at the borders."""
    *sizes, channels = maps.shape
    rows = maps.reshape(-1, channels)
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    count = len(coordinates[0])
    out = np.empty((channels, count), dtype=np.float32)
    for begin in range(0, count, chunk):
        base = np.zeros(min(chunk, count - begin), dtype=np.int64)
        pairs = []
        for axis, size, stride in zip(coordinates, sizes, strides, strict=True):
            at = np.clip(axis[begin : begin + chunk], 0, np.float32(size - 1.001))
            floor = at.astype(np.int64)
            fraction = at - floor.astype(np.float32)
            pairs.append((1 - fraction, fraction))
            base += floor * stride
        total = np.zeros((len(base), channels), dtype=np.float32)
        for corner in product((0, 1), repeat=3):
            weight = pairs[0][corner[0]] * pairs[1][corner[1]] * pairs[2][corner[2]]
            total += rows.take(base + int(np.dot(corner, strides)), axis=0) * weight[:, None]
        out[:, begin : begin + chunk] = total.T
    return out


def _curve(rng: np.random.Generator, knots: Sequence[Point], jitter: float) -> Float[np.ndarray, "P 3"]:
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


def _mirrored(knots: Sequence[Point], side: int) -> list[Point]:
    return [(side * x, y, z) for x, y, z in knots]


def _surface_vein(rng: np.random.Generator) -> list[Point]:
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


def _stamp(
    field: Float32[np.ndarray, "X Y Z"], line_mni: Float[np.ndarray, "P 3"], radii: Float[np.ndarray, " P"]
) -> None:
    """Draw a tube into a map of the template: 1 inside, falling to 0 over a voxel."""
    line = line_mni - load_template().origin_mni
    reach = int(np.ceil(radii.max() + 1))
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = np.rint(line).astype(int)[:, None, :] + offsets
    away = np.linalg.norm(voxels - line[:, None, :], axis=-1)
    value = np.clip(radii[:, None] + 0.5 - away, 0, 1).astype(np.float32)
    keep = (value > 0) & (voxels >= 0).all(axis=-1) & (voxels < field.shape).all(axis=-1)
    np.maximum.at(field, tuple(voxels[keep].T), value[keep])


def _lines(rng: np.random.Generator, parameters: AnatomyParameters) -> Iterator[tuple[Float[np.ndarray, "P 3"], float]]:
    """Vessels as lines with a radius in mm."""
    radius = parameters.vessel_radius
    for side in (-1, 1):
        for knots in _ARTERIES[:3]:
            yield _curve(rng, _mirrored(knots, side), 2.0), radius * 1.1
    yield _curve(rng, _ARTERIES[3], 1.0), radius * 1.5
    for knots in _MIDLINE_VEINS:
        yield _curve(rng, knots, 0.8), radius * 1.5
    width = float(rng.uniform(1.2, 3.4))
    for knots, share in zip(_SAGITTAL_SINUS, (1.0, 0.6), strict=True):
        yield _curve(rng, knots, 0.5), width * share
    for side in (-1, 1):
        yield _curve(rng, _mirrored(_TRANSVERSE_SINUS, side), 1.5), width * float(rng.uniform(0.3, 1.0))
    for _ in range(parameters.vessels):
        yield _curve(rng, _surface_vein(rng), 3.0), radius * float(rng.uniform(0.6, 1.3))


def _vessel_map(parameters: AnatomyParameters) -> Float32[np.ndarray, "X Y Z"]:
    rng = np.random.default_rng([parameters.seed, 1])
    field = np.zeros_like(load_template().maps["grey"])
    for line, radius in _lines(rng, parameters):
        swell = 1 + 0.25 * ndimage.gaussian_filter1d(rng.normal(0, 1, len(line)), 5, mode="nearest") * 3
        _stamp(field, line, np.clip(radius * swell, 0.3, 4.0))
    return field


def _plexus_map(parameters: AnatomyParameters) -> Float32[np.ndarray, "X Y Z"]:
    """Choroid plexus in the lateral ventricles, the pineal gland and the pituitary stalk."""
    rng = np.random.default_rng([parameters.seed, 2])
    template = load_template()
    field = np.zeros_like(template.maps["grey"])
    for side in (-1, 1):
        line = _curve(rng, _mirrored(_PLEXUS, side), 0.8)
        bulge = 0.6 + 0.7 * np.exp(-(((line[:, 1] + 40) / 9) ** 2))  # thickest at the atrium
        _stamp(field, line, parameters.plexus_radius * bulge)
    field *= np.clip(0.5 - template.maps["ventricle"], 0, 1)
    for centre, radius in (((0, -31, 2), parameters.pineal_radius), ((0, 0, -20), 1.5)):
        _stamp(field, np.array([centre]) + rng.normal(0, 0.8, (1, 3)), np.array([radius]))
    return field


def _tissues(
    parameters: AnatomyParameters,
    sampled: dict[str, Float32[np.ndarray, " N"]],
    noise: Callable[[float], Float32[np.ndarray, " N"]],
) -> dict[str, Float32[np.ndarray, " N"]]:
    """Fractions of fluid, grey, white and deep grey matter that add up to 1, with folds of their own."""
    grey, white = np.clip(sampled["grey"], 0, 1), np.clip(sampled["white"], 0, 1)
    csf = np.clip(1 - grey - white, 0.01, 1)
    ventricle = sampled["ventricle"] - np.float32(parameters.ventricles)
    folding = np.float32(parameters.folding)
    cortical = np.clip((sampled["depth"] + 1) / 3, 0, 1) * np.clip((ventricle - 4) / 6, 0, 1)
    csf = csf**1.6 * np.exp(cortical * (np.float32(parameters.sulci + 0.4) + folding * noise(4.5)))
    white = white**1.5 * np.exp(cortical * 0.8 * folding * noise(6.0))
    grey = np.maximum(grey**1.5, np.clip(-sampled["depth"], 0, 0.5))
    total = csf + grey + white
    fluid = np.clip(0.5 - ventricle / 1.2, 0, 1)
    shell = np.clip(1 - sampled["depth"], 0, 1) * np.clip(0.45 + 0.4 * noise(9.0), 0, 1)
    fluid = np.maximum(fluid, shell)
    solid = (1 - fluid) / total
    deep = grey * solid * np.clip(sampled["deep"], 0, 1)
    csf = csf * solid + fluid
    return {
        "csf": csf,
        "grey": grey * solid - deep,
        "white": white * solid,
        "deep": deep,
        "ventricle": ventricle,
    }


def grow_brain(parameters: AnatomyParameters, pushes: Sequence[Push] = ()) -> Brain:
    """The brain that the parameters describe, on the SRI24 grid. Raises `AtlasError` without the template."""
    template = load_template()
    start, shape, candidates = _candidates(parameters, pushes)
    index = np.flatnonzero(candidates)
    fine = _template_coordinates(parameters, pushes, 1, start, shape)
    coordinates = [axis.reshape(-1)[index] for axis in fine]
    study_maps = {**template.maps, "vessel": _vessel_map(parameters), "plexus": _plexus_map(parameters)}
    values = _sampled(np.stack([study_maps[name] for name in CHANNELS], axis=-1), coordinates)
    sampled = dict(zip(CHANNELS, values, strict=True))
    rng = np.random.default_rng([parameters.seed, 3])

    def noise(spacing: float) -> Float32[np.ndarray, " N"]:
        return smooth_noise(rng, shape, spacing).reshape(-1)[index]

    tissues = _tissues(parameters, sampled, noise)
    edge = parameters.strip_offset + parameters.strip_roughness * noise(14.0)
    inside = _largest_piece(sampled["depth"] > np.clip(edge, -_MARGIN_MM + 1, 4), index, shape)
    return Brain(
        start,
        shape,
        index,
        inside,
        depth=sampled["depth"],
        vessel=sampled["vessel"],
        plexus=sampled["plexus"],
        **tissues,
    )


def _largest_piece(
    inside: Bool[np.ndarray, " N"], index: Int[np.ndarray, " N"], shape: Shape
) -> Bool[np.ndarray, " N"]:
    volume = np.zeros(shape, dtype=bool)
    volume.reshape(-1)[index] = inside
    labels, _ = ndimage.label(volume)
    flat = labels.reshape(-1)[index]
    sizes = np.bincount(flat)
    sizes[0] = 0
    return np.asarray(flat == sizes.argmax())
