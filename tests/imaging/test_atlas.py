"""The nine regions: known points of the brain, left and right, two spaces, several atlases."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from voxmoe.errors import AtlasError
from voxmoe.imaging.atlas import RegionMap, region_map
from voxmoe.imaging.parcellations import LPBA40, PARCELLATIONS, Parcellation
from voxmoe.imaging.spaces import MNI152, SPACES, SRI24, Space
from voxmoe.imaging.volume import Volume, read_raw, write_volume
from voxmoe.vocabulary import REGIONS

POINTS = {
    "precentral gyrus": ((40, -15, 55), "frontal"),
    "frontal pole": ((20, 62, 5), "frontal"),
    "superior parietal lobule": ((25, -60, 60), "parietal"),
    "occipital pole": ((24, -92, 0), "occipital"),
    "middle temporal gyrus": ((60, -30, -8), "temporal"),
    "hippocampus": ((26, -22, -14), "limbic"),
    "amygdala": ((24, -4, -18), "limbic"),
    "anterior cingulate": ((6, 30, 24), "limbic"),
    "insula": ((40, 4, -2), "insula"),
    "thalamus": ((10, -18, 8), "subcortical"),
    "putamen": ((26, 4, 0), "subcortical"),
    "cerebellar hemisphere": ((25, -65, -35), "cerebellum"),
    "pons": ((4, -28, -30), "brainstem"),
}


@lru_cache
def regions_of(space: Space, atlas: str = "default") -> RegionMap:
    return region_map(space.grid, atlas)


def at(regions: RegionMap, space: Space, point: tuple[int, ...]) -> tuple[str, str] | None:
    """Region and side at a point in MNI152 mm."""
    voxel = np.linalg.inv(space.affine) @ space.from_mni152 @ (*point, 1)
    code = int(regions.codes[tuple(np.rint(voxel[:3]).astype(int))])
    return (REGIONS[(code - 1) // 2], ("left", "right")[(code - 1) % 2]) if code else None


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("name", POINTS)
def test_known_points(name: str, space: Space) -> None:
    (x, y, z), region = POINTS[name]
    regions = regions_of(space)
    assert at(regions, space, (x, y, z)) == (region, "right")
    assert at(regions, space, (-x, y, z)) == (region, "left")


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("point", [(6, 8, 14), (-6, 8, 14), (26, -20, 32)])
def test_ventricle_and_deep_white_matter_belong_to_no_region(point: tuple[int, ...], space: Space) -> None:
    assert at(regions_of(space), space, point) is None


def test_what_a_map_says_of_itself() -> None:
    regions = regions_of(SRI24)
    assert (regions.atlas, regions.space) == ("desikan-killiany", "SRI24")
    assert regions.codes.shape == SRI24.shape
    assert regions.codes.dtype == np.uint8
    assert set(np.unique(regions.codes).tolist()) == set(range(19))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_sides_are_the_patients(space: Space) -> None:
    codes = regions_of(space).codes
    x = np.arange(space.shape[0])[:, None, None] + np.zeros(space.shape)
    for region in range(len(REGIONS)):
        left, right = (x[codes == 1 + 2 * region + side].mean() for side in (0, 1))
        assert left + 5 < right


def test_flipping_x_swaps_left_and_right() -> None:
    flipped = Volume(MNI152.grid.data, np.diag([-1.0, 1, 1, 1]) @ MNI152.affine)
    codes, mirrored = regions_of(MNI152).codes, region_map(flipped, space="MNI152").codes
    # Voxel i of the flipped grid lies at 91 - i, which is voxel 182 - i of the other.
    np.testing.assert_array_equal(mirrored[1:], codes[:0:-1])
    assert {code % 2 for code in np.unique(codes[:91]).tolist() if code} == {1}
    assert {code % 2 for code in np.unique(mirrored[:91]).tolist() if code} == {0}


def test_a_shifted_grid_moves_the_regions_with_it() -> None:
    affine = MNI152.affine.copy()
    affine[:3, 3] += (10, 20, 30)
    moved = region_map(Volume(np.zeros((150, 150, 120), np.uint8), affine), space="mni152")
    np.testing.assert_array_equal(moved.codes, regions_of(MNI152).codes[10:160, 20:170, 30:150])


@pytest.mark.parametrize("atlas", PARCELLATIONS)
def test_every_embedded_atlas_agrees_on_the_clear_points(atlas: str) -> None:
    regions = regions_of(MNI152, atlas)
    assert regions.atlas == atlas
    for name in ("hippocampus", "thalamus", "cerebellar hemisphere", "insula", "precentral gyrus"):
        point, region = POINTS[name]
        assert at(regions, MNI152, point) == (region, "right")


def test_aal_has_no_brainstem() -> None:
    codes = regions_of(MNI152, "aal").codes
    stem = 1 + 2 * REGIONS.index("brainstem")
    assert not np.isin(codes, (stem, stem + 1)).any()
    assert np.isin(regions_of(MNI152).codes, (stem, stem + 1)).any()


@pytest.mark.parametrize("parcellation", [*PARCELLATIONS.values(), LPBA40], ids=lambda known: known.name)
def test_no_id_stands_for_two_regions(parcellation: Parcellation) -> None:
    ids = [number for ranges in parcellation.regions.values() for a, b in ranges for number in range(a, b + 1)]
    assert len(ids) == len(set(ids))


def test_an_unknown_grid_is_refused() -> None:
    scan = Volume(np.zeros((20, 20, 20), np.uint8), np.eye(4), "my scan")
    with pytest.raises(AtlasError) as error:
        region_map(scan)
    assert str(error.value).startswith("my scan: its grid (20x20x20 voxels of 1x1x1 mm, origin (0.0, 0.0, 0.0) mm RAS)")
    assert str(error.value).endswith("register the scan to one of them, or name its space")


def test_unknown_names() -> None:
    with pytest.raises(AtlasError, match="no atlas is called 'brodmann'; there are desikan-killiany, neuro"):
        region_map(SRI24.grid, "brodmann")
    with pytest.raises(AtlasError, match="no space is called 'talairach'; there are SRI24, MNI152"):
        region_map(SRI24.grid, space="talairach")


def test_a_file_of_labels_has_to_fit(tmp_path: Path) -> None:
    write_volume(Volume(np.full((9, 9, 9), 21, np.uint8), np.eye(4)), tmp_path / "small.nii")
    with pytest.raises(AtlasError, match=r"small\.nii: lies in no known space"):
        region_map(SRI24.grid, str(tmp_path / "small.nii"))
    write_volume(SRI24.grid, tmp_path / "empty.nii")
    with pytest.raises(AtlasError, match=r"empty\.nii: none of its values is a label of lpba40"):
        region_map(SRI24.grid, str(tmp_path / "empty.nii"))
    other = np.zeros(SRI24.shape, np.int16)
    other[100:110, 100:110, 80], other[0, 0, :9] = 21, np.arange(1000, 1009)
    write_volume(Volume(other, SRI24.affine, axes="LPS"), tmp_path / "other.nii")
    with pytest.raises(AtlasError, match=r"other\.nii: holds 1000, 1001, 1002, 1003, 1004, \.\., which are no labels"):
        region_map(SRI24.grid, str(tmp_path / "other.nii"))


def test_a_space_that_the_grid_contradicts_is_refused() -> None:
    with pytest.raises(AtlasError, match="lies on the grid of SRI24, and MNI152 is named; leave it out"):
        region_map(SRI24.grid, space="MNI152")
    assert region_map(SRI24.grid, space="sri24").space == "SRI24"


@pytest.mark.real
def test_the_file_of_lpba40(real_data: Path) -> None:
    path = real_data / "atlas" / "lpba40.nii.gz"
    ids, regions = read_raw(path).data, region_map(SRI24.grid, str(path))
    assert (regions.atlas, regions.space) == ("lpba40", "SRI24")
    for region, ranges in LPBA40.regions.items():
        named = np.zeros(ids.shape, bool)
        for first, last in ranges:
            named |= (ids >= first) & (ids <= last)
        np.testing.assert_array_equal((regions.codes + 1) // 2 == REGIONS.index(region) + 1, named)
    paired = (ids >= 21) & (ids <= 166)
    assert np.mean((regions.codes[paired] - 1) % 2 == (ids[paired] + 1) % 2) > 0.99


@pytest.mark.real
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_lpba40_on_both_grids(space: Space, real_data: Path) -> None:
    regions = regions_of(space, str(real_data / "atlas" / "lpba40.nii.gz"))
    assert (regions.atlas, regions.space) == ("lpba40", space.name)
    for name in ("precentral gyrus", "middle temporal gyrus", "hippocampus", "insula", "putamen", "pons"):
        (x, y, z), region = POINTS[name]
        assert (at(regions, space, (x, y, z)) or ("none",))[0] == region
        assert (at(regions, space, (-x, y, z)) or ("none",))[0] == region
    assert at(regions, space, (10, -18, 8)) is None, "LPBA40 does not label the thalamus"


@pytest.mark.real
def test_the_default_atlas_agrees_with_lpba40(real_data: Path) -> None:
    theirs = region_map(SRI24.grid, str(real_data / "atlas" / "lpba40.nii.gz")).codes
    ours = regions_of(SRI24).codes
    both = (ours > 0) & (theirs > 0)
    assert both.sum() > 800_000
    assert np.mean((ours[both] + 1) // 2 == (theirs[both] + 1) // 2) > 0.8
