"""Connected components of a binary mask and their geometry in mm (mpLLM, Appendix A).

No mesh is built and no voxel is listed. The area of the marching-cubes surface at 0.5 is a sum over 2x2x2
neighbourhoods, each of which contributes what its 8 corners alone determine: a table of the 256 contributions, made
once a spacing with scikit-image, replaces the mesh. Moments are sums over runs, the unbroken lines of voxels along x,
in closed form; the convex hull needs only those ends of runs that no chord between two others passes.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cc3d
import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes, mesh_surface_area

from voxmoe.imaging.volume import byte_counts

Spacing = tuple[float, float, float]
_CORNERS = tuple(product((0, 1), repeat=3))
_COLLINEAR = 1e-9
"""A second eigenvalue below this share of the first is zero but for rounding."""
_COPLANAR = 1e-13
"""The same for the third, which one voxel beside a plane of a million still exceeds."""


@dataclass(frozen=True)
class Shape:
    """The shape numbers of one component, or their mean over several. Compactness is in 1/mm, the rest has no unit."""

    sphericity: float
    elongation: float
    flatness: float
    solidity: float
    compactness: float


@dataclass(frozen=True)
class _Runs:
    """Unbroken lines of voxels along x: the first and last x of each and its y and z, in memory order."""

    first: Int64[np.ndarray, " R"]
    last: Int64[np.ndarray, " R"]
    y: Int64[np.ndarray, " R"]
    z: Int64[np.ndarray, " R"]

    def __getitem__(self, part: slice | Bool[np.ndarray, " R"]) -> "_Runs":
        return _Runs(self.first[part], self.last[part], self.y[part], self.z[part])

    @property
    def voxels(self) -> Int64[np.ndarray, " R"]:
        voxels: np.ndarray = self.last - self.first + 1
        return voxels


@dataclass(frozen=True)
class Components:
    """The components of a mask, numbered from 1 in memory order; places count the empty voxel around the mask."""

    labels: Shaped[np.ndarray, "X2 Y2 Z2"]
    """Which component is where, with one empty voxel more on each side of the mask, x fastest in memory."""
    runs: _Runs
    """The runs of all components, component by component."""
    starts: Int64[np.ndarray, " C"]
    """Where each component's runs begin."""
    voxels: Int64[np.ndarray, " C"]

    @property
    def core(self) -> int:
        """Index of the largest component (the first of equals)."""
        return int(self.voxels.argmax())

    @property
    def core_fraction(self) -> float:
        return float(self.voxels.max() / self.voxels.sum())

    def runs_of(self, index: int) -> _Runs:
        ends = [*self.starts[1:].tolist(), len(self.runs.first)]
        return self.runs[int(self.starts[index]) : ends[index]]

    def without_fragments(self, smallest: float) -> "Components":
        """The components of at least so many voxels; if there is none, the largest alone."""
        kept = self.voxels >= smallest
        if not kept.any():
            kept[self.core] = True
        numbers = np.zeros(len(kept) + 1, self.labels.dtype)
        numbers[1:][kept] = np.arange(1, np.count_nonzero(kept) + 1)
        runs = np.diff(self.starts, append=len(self.runs.first))
        starts = np.cumsum(runs[kept]) - runs[kept]
        return Components(
            np.asfortranarray(numbers[self.labels]), self.runs[np.repeat(kept, runs)], starts, self.voxels[kept]
        )


def _padded(mask: Bool[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X2 Y2 Z2"]:
    """Bytes of 0 and 1, one empty voxel more on each side, x fastest in memory."""
    x, y, z = mask.shape
    padded = np.zeros((x + 2, y + 2, z + 2), np.uint8, order="F")
    padded[1:-1, 1:-1, 1:-1] = mask
    return padded


def _runs(
    labels: Shaped[np.ndarray, "X2 Y2 Z2"], filled: UInt8[np.ndarray, "X2 Y2 Z2"], count: int
) -> tuple[_Runs, Int64[np.ndarray, " C"]]:
    """The runs of all components, component by component, and where each component's begin."""
    # Neighbours along x are of one component whatever the connectivity, so a run ends where the filling does.
    flat = filled.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begin, end = edges[::2], edges[1::2]
    starts = np.zeros(1, np.int64)
    if count > 1:
        owner = labels.ravel(order="F")[begin]
        order = np.argsort(owner, kind="stable")
        begin, end = begin[order], end[order]
        starts = np.searchsorted(owner[order], np.arange(1, count + 1)).astype(np.int64)
    x_size, y_size, _ = filled.shape
    line, x = np.divmod(begin, x_size)
    z, y = np.divmod(line, y_size)
    return _Runs(x, x + (end - begin) - 1, y, z), starts


def find_components(mask: Bool[np.ndarray, "X Y Z"], connectivity: int) -> Components:
    """Label the connected components of a mask that is not empty."""
    filled = _padded(mask)
    labels, count = cc3d.connected_components(filled, connectivity=connectivity, binary_image=True, return_N=True)
    runs, starts = _runs(labels, filled, count)
    return Components(labels, runs, starts, np.add.reduceat(runs.voxels, starts))


@lru_cache(maxsize=16)
def _area_table(spacing: Spacing) -> Float64[np.ndarray, "256"]:
    """Marching-cubes area in mm2 of each of the 256 ways to fill the corners of one cell of the grid."""
    areas = np.zeros(256)
    for code in range(1, 255):
        cube = np.array([code >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, spacing=spacing)
        areas[code] = mesh_surface_area(vertices, faces)
    return areas


def _corner_codes(filled: UInt8[np.ndarray, "X2 Y2 Z2"]) -> UInt8[np.ndarray, " K"]:
    """For each 2x2x2 cell of a padded grid of 0 and 1, which of its corners are filled, as 8 bits in the order of
    _CORNERS; flat in memory order. The cells that wrap around an edge of the grid lie in its padding and are empty."""
    x_size, y_size, _ = filled.shape
    codes = filled.ravel(order="F")
    for step, weight in ((x_size * y_size, 2), (x_size, 4), (1, 16)):
        codes = codes[:-step] + weight * codes[step:]
    return codes


def _surface(filled: UInt8[np.ndarray, "X2 Y2 Z2"], spacing: Spacing) -> Float64[np.ndarray, "1"]:
    """Surface area in mm2 of a single component on a padded grid of 0 and 1."""
    return np.array([byte_counts(_corner_codes(filled)) @ _area_table(spacing)])


def _surfaces(components: Components, spacing: Spacing) -> Float64[np.ndarray, " C"]:
    """Surface area in mm2 of each component, each as if it stood alone on an empty grid."""
    labels, count = components.labels, len(components.voxels)
    filled = (labels != 0).view(np.uint8)
    if count == 1:
        return _surface(filled, spacing)
    table = _area_table(spacing)
    x_size, y_size, _ = labels.shape
    cells, flat = np.flatnonzero(table[_corner_codes(filled)]), labels.ravel(order="F")
    corners = np.stack([flat[cells + i + x_size * (j + y_size * k)] for i, j, k in _CORNERS])  # 8 K
    areas = np.zeros(count + 1)
    # With fewer than 26 neighbours one cell can hold several components: each sees only its own corners.
    for corner in range(8):
        owner = corners[corner]
        first = np.flatnonzero((owner != 0) & ~(corners[:corner] == owner).any(axis=0))
        own = (corners[:, first] == owner[first]).astype(np.uint8)
        code = np.bitwise_or.reduce(own << np.arange(8, dtype=np.uint8)[:, None], axis=0)
        areas += np.bincount(owner[first], weights=table[code], minlength=count + 1)
    return areas[1:]


def _moments(
    runs: _Runs, starts: Int64[np.ndarray, " C"], spacing: Spacing
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, "C 3 3"]]:
    """Number of voxels and covariance of their places in mm2, for each component."""
    n = runs.voxels.astype(np.float64)
    x, y, z = (runs.first + runs.last) / 2, runs.y, runs.z
    nx, ny, nz = n * x, n * y, n * z
    squares = nx * x + n * (n * n - 1) / 12  # the sum of x^2 over a run
    terms = np.stack([n, nx, ny, nz, squares, nx * y, nx * z, ny * y, ny * z, nz * z])
    voxels, *sums = np.add.reduceat(terms, starts, axis=1)
    first, second = np.array(sums[:3]), np.array([sums[i] for i in (3, 4, 5, 4, 6, 7, 5, 7, 8)]).reshape(3, 3, -1)
    covariance = (voxels * second - first * first[:, None]) / voxels**2
    return voxels, covariance.transpose(2, 0, 1) * np.outer(spacing, spacing)


def _axis_ratios(
    voxels: Float64[np.ndarray, " C"], covariance: Float64[np.ndarray, "C 3 3"]
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Elongation and flatness from the principal axes; 0 where fewer than three voxels or a line leave them
    undefined."""
    third, second, first = np.linalg.eigvalsh(covariance).T
    defined = (voxels >= 3) & (second > _COLLINEAR * first)
    second = np.where(defined, second, np.inf)
    return np.sqrt(first / second), np.sqrt(np.where(third > _COPLANAR * first, third, 0) / second)


_NOWHERE = 1 << 20
_DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))
_REACH = 2


def _hull_points(runs: _Runs) -> Int64[np.ndarray, "P 3"]:
    """Those ends of one component's runs that can be corners of its convex hull.

    Seen from either end of the x axis the voxels are a relief over y and z; a voxel that does not stand out over the
    middle between two others is no corner.
    """
    y, z = runs.y - runs.y.min() + _REACH, runs.z - runs.z.min() + _REACH
    shape = (2, int(y.max()) + _REACH + 1, int(z.max()) + _REACH + 1)
    relief, places = np.full(shape, _NOWHERE).ravel(), y * shape[2] + z
    np.minimum.at(relief, places, runs.first)
    np.minimum.at(relief, places + shape[1] * shape[2], -runs.last)
    points = np.flatnonzero(relief < _NOWHERE)
    for j, k in _DIRECTIONS:
        step = j * shape[2] + k
        points = points[2 * relief[points] < relief[points - step] + relief[points + step]]
    side, y, z = np.unravel_index(points, shape)
    return np.stack([np.where(side, -1, 1) * relief[points], y, z], axis=1)


def _solidity(voxels: int, runs: _Runs) -> float:
    """Volume over that of the convex hull of the voxel centres; spacing cancels out."""
    try:
        # Joggled (QJ), Qhull need not merge the many facets that lie in one plane, which takes most of its time. The
        # corners are whole numbers, so six times the volume is one too: rounding takes the joggle out again.
        sixfold = round(6 * ConvexHull(_hull_points(runs), qhull_options="QJ").volume)
    except QhullError:  # fewer points than a hull needs
        return 1.0
    return 6 * voxels / sixfold if sixfold else 1.0


def _shapes(
    runs: _Runs,
    starts: Int64[np.ndarray, " C"],
    areas: Float64[np.ndarray, " C"],
    spacing: Spacing,
    solid_voxels: bool,
) -> list[Shape]:
    """The shapes of components from their runs and surfaces."""
    voxels, covariance = _moments(runs, starts, spacing)
    volumes = voxels * (spacing[0] * spacing[1] * spacing[2])
    sphericity = np.cbrt(np.pi) * np.cbrt(6 * volumes) ** 2 / areas
    elongation, flatness = _axis_ratios(voxels, covariance)
    ends = [*starts[1:].tolist(), len(runs.first)]
    solidity = [
        _solidity(int(size), runs[start:end]) if thick else 1.0
        for size, start, end, thick in zip(voxels.tolist(), starts.tolist(), ends, flatness > 0, strict=True)
    ]
    if solid_voxels:
        boxes = covariance + np.diag(np.square(spacing) / 12)
        elongation, flatness = _axis_ratios(np.full_like(voxels, np.inf), boxes)
        sphericity, solidity = np.minimum(sphericity, 1), np.minimum(solidity, 1).tolist()
    columns = np.stack([sphericity, elongation, flatness, solidity, areas / volumes], axis=1)
    return [Shape(*row) for row in columns.tolist()]


def measure_shapes(components: Components, spacing: Spacing, solid_voxels: bool = False) -> list[Shape]:
    """The shape of each component in mm, without regard to the others.

    With `solid_voxels` the axes are those of boxes instead of points (each adds a twelfth of its edge squared to the
    covariance: n voxels in a line have elongation n, a cube 1), and sphericity and solidity are at most 1.
    """
    return _shapes(components.runs, components.starts, _surfaces(components, spacing), spacing, solid_voxels)


def core_shape(components: Components, spacing: Spacing, solid_voxels: bool = False) -> Shape:
    """The shape of the largest component."""
    runs = components.runs_of(components.core)
    x, y, z = (
        slice(low.min() - 1, high.max() + 2)
        for low, high in ((runs.first, runs.last), (runs.y, runs.y), (runs.z, runs.z))
    )
    core = (components.labels[x, y, z] == components.core + 1).view(np.uint8)
    return _shapes(runs, np.zeros(1, np.int64), _surface(core, spacing), spacing, solid_voxels)[0]


def mean_shape(components: Components, spacing: Spacing, solid_voxels: bool = False) -> Shape:
    """The mean over all components, degenerate ones counted like any other."""
    shapes = measure_shapes(components, spacing, solid_voxels)
    names = Shape.__dataclass_fields__
    return Shape(**{name: float(np.mean([getattr(shape, name) for shape in shapes])) for name in names})
