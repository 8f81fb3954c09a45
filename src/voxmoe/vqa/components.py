"""Connected components of a binary mask and their geometry in mm (mpLLM, Appendix A).

No mesh is built: the area of the marching-cubes surface at 0.5 is a sum over 2x2x2 neighbourhoods, each of which
contributes what its 8 corners alone determine; a table of the 256 contributions, made once a spacing with scikit-
image, replaces the mesh. The convex hull needs only the first and last voxel of each line along x.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cc3d
import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes, mesh_surface_area

from voxmoe.imaging.grid import bounding_box

Spacing = tuple[float, float, float]
_CORNERS = tuple(product((0, 1), repeat=3))
_COLLINEAR = 1e-9
"""A second eigenvalue below this share of the first is zero but for rounding."""


@dataclass(frozen=True)
class Shape:
    """The shape numbers of one component, or their mean over several. Compactness is in 1/mm, the rest has no unit."""

    sphericity: float
    elongation: float
    flatness: float
    solidity: float
    compactness: float


@dataclass(frozen=True)
class Components:
    """The components of a mask: each one's number of voxels, and the array [X, Y, Z] that says which is where (from
    1)."""

    voxels: Int64[np.ndarray, " C"]
    labels: Shaped[np.ndarray, "X Y Z"]

    @property
    def core(self) -> int:
        """Index of the largest component (the first of equals)."""
        return int(self.voxels.argmax())

    @property
    def core_fraction(self) -> float:
        return float(self.voxels.max() / self.voxels.sum())


def find_components(mask: Bool[np.ndarray, "X Y Z"], connectivity: int) -> Components:
    """Label the connected components of a mask that is not empty."""
    # As bytes: cc3d 4.1 reserves too few labels for booleans on grids one voxel thick and then gives up.
    labels = cc3d.connected_components(np.asfortranarray(mask).view(np.uint8), connectivity=connectivity)
    return Components(np.bincount(labels.ravel(order="K"))[1:].astype(np.int64), labels)


@lru_cache(maxsize=16)
def _area_table(spacing: Spacing) -> Float64[np.ndarray, "256"]:
    """Marching-cubes area in mm2 of each of the 256 ways to fill the corners of one cell of the grid."""
    areas = np.zeros(256)
    for code in range(1, 255):
        cube = np.array([code >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, spacing=spacing)
        areas[code] = mesh_surface_area(vertices, faces)
    return areas


def _corner_codes(filled: Bool[np.ndarray, "X Y Z"]) -> Shaped[np.ndarray, "X1 Y1 Z1"]:
    """For each 2x2x2 cell of the zero-padded mask, which of its corners are filled, as 8 bits in the order of
    _CORNERS."""
    bits = np.pad(filled, 1).view(np.uint8)
    pairs = bits[:-1] << 4 | bits[1:]
    squares = pairs[:, :-1] << 2 | pairs[:, 1:]
    cubes = squares[:, :, :-1] << 1 | squares[:, :, 1:]
    codes: np.ndarray = _REVERSED_BITS[cubes]
    return codes


_REVERSED_BITS = np.array([int(f"{code:08b}"[::-1], 2) for code in range(256)], dtype=np.uint8)


def _surfaces(labels: Shaped[np.ndarray, "X Y Z"], count: int, spacing: Spacing) -> Float64[np.ndarray, " C"]:
    """Surface area in mm2 of each component, each as if it stood alone on an empty grid."""
    table = _area_table(spacing)
    codes = _corner_codes(labels != 0)
    if count == 1:
        return np.array([np.bincount(codes.ravel(), minlength=256) @ table])
    cells = np.nonzero(table[codes])
    padded = np.pad(labels, 1)
    corners = np.stack([padded[cells[0] + i, cells[1] + j, cells[2] + k] for i, j, k in _CORNERS])  # 8 K
    areas = np.zeros(count + 1)
    # With fewer than 26 neighbours one cell can hold several components: each sees only its own corners.
    for corner in range(8):
        owner = corners[corner]
        first = (owner != 0) & ~(corners[:corner] == owner).any(axis=0)
        own = (corners[:, first] == owner[first]).astype(np.uint8)
        code = np.bitwise_or.reduce(own << np.arange(8, dtype=np.uint8)[:, None], axis=0)
        areas += np.bincount(owner[first], weights=table[code], minlength=count + 1)
    return areas[1:]


@dataclass(frozen=True)
class _Voxels:
    """The voxels of all components, sorted by component and, within one, in memory order along x."""

    points: Float64[np.ndarray, "N 3"]
    ends: Bool[np.ndarray, " N"]
    """Whether the voxel is the first or last of its component on its line along x."""
    starts: Int64[np.ndarray, " C1"]


def _voxels(labels: Shaped[np.ndarray, "X Y Z"], count: int, spacing: Spacing) -> _Voxels:
    flat = labels.ravel(order="F")
    index = np.flatnonzero(flat)
    owner = flat[index]
    if count > 1:
        order = np.argsort(owner, kind="stable")
        index, owner = index[order], owner[order]
    line, x = np.divmod(index, labels.shape[0])
    z, y = np.divmod(line, labels.shape[1])
    new = np.ones(index.size + 1, dtype=bool)
    new[1:-1] = (line[1:] != line[:-1]) | (owner[1:] != owner[:-1])
    starts = np.searchsorted(owner, np.arange(1, count + 2)).astype(np.int64)
    return _Voxels(np.stack([x, y, z], axis=1) * np.asarray(spacing), new[:-1] | new[1:], starts)


def _axis_ratios(points: Float64[np.ndarray, "N 3"]) -> tuple[float, float]:
    """Elongation and flatness from the principal axes; 0 where fewer than three voxels or a line leave them
    undefined."""
    if len(points) < 3:
        return 0.0, 0.0
    centred = points - points.mean(axis=0)
    third, second, first = np.clip(np.linalg.eigvalsh(centred.T @ centred / len(points)), 0, None)
    if second <= _COLLINEAR * first:
        return 0.0, 0.0
    return float(np.sqrt(first / second)), float(np.sqrt(third / second))


def _solidity(volume_mm3: float, ends: Float64[np.ndarray, "N 3"]) -> float:
    """Volume over that of the convex hull of the voxel centres; 1 where there is no hull."""
    if len(ends) < 4:
        return 1.0
    try:
        return float(volume_mm3 / ConvexHull(ends).volume)
    except QhullError:
        return 1.0


def measure_shapes(labels: Shaped[np.ndarray, "X Y Z"], count: int, spacing: Spacing) -> list[Shape]:
    """The shape of each of the components 1..count of a label array, in mm, without regard to the others."""
    surfaces = _surfaces(labels, count, spacing)
    voxels = _voxels(labels, count, spacing)
    shapes = []
    for component in range(count):
        here = slice(int(voxels.starts[component]), int(voxels.starts[component + 1]))
        points, area = voxels.points[here], float(surfaces[component])
        volume = len(points) * spacing[0] * spacing[1] * spacing[2]
        elongation, flatness = _axis_ratios(points)
        shapes.append(
            Shape(
                sphericity=float(np.cbrt(np.pi) * np.cbrt(6 * volume) ** 2 / area),
                elongation=elongation,
                flatness=flatness,
                solidity=_solidity(volume, points[voxels.ends[here]]),
                compactness=area / volume,
            )
        )
    return shapes


def core_shape(components: Components, spacing: Spacing) -> Shape:
    """The shape of the largest component."""
    core = components.labels == components.core + 1
    box = bounding_box(core)
    return measure_shapes(core[box.slices].astype(np.uint8), 1, spacing)[0]


def mean_shape(components: Components, spacing: Spacing) -> Shape:
    """The mean over all components, degenerate ones counted like any other."""
    shapes = measure_shapes(components.labels, len(components.voxels), spacing)
    names = Shape.__dataclass_fields__
    return Shape(**{name: float(np.mean([getattr(shape, name) for shape in shapes])) for name in names})
