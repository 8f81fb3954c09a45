"""The two standard spaces and how a grid is told to lie in one."""

from pathlib import Path

import numpy as np
import pytest

from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.spaces import MNI152, SPACES, SRI24, Space, space_of
from voxmoe.imaging.volume import Volume, read_raw, write_volume


def moved(space: Space, millimetres: float) -> Volume:
    affine = space.affine.copy()
    affine[1, 3] += millimetres
    return Volume(space.grid.data, affine)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_grid_lies_in_its_own_space(space: Space, tmp_path: Path) -> None:
    write_volume(space.grid, tmp_path / "grid.nii.gz")
    found = read_raw(tmp_path / "grid.nii.gz")
    assert found.axes == space.axes
    assert found.shape == space.shape
    assert space_of(found) is space


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_two_millimetres_of_tolerance(space: Space) -> None:
    assert space_of(moved(space, 1.9)) is space
    assert space_of(moved(space, 2.1)) is None


def test_another_grid_lies_in_no_space() -> None:
    assert space_of(Volume(np.zeros((10, 10, 10)), np.eye(4))) is None
    assert space_of(Volume(SRI24.grid.data, np.eye(4))) is None


def test_centre_of_the_brain_is_the_centre_of_sri24() -> None:
    x, y, z, _ = SRI24.from_mni152 @ (0, -20, 10, 1)
    assert -125 < x < -113
    assert 95 < y < 115
    assert 65 < z < 85
    assert np.linalg.det(SRI24.from_mni152[:3, :3]) == pytest.approx(0.74, abs=0.02)
    np.testing.assert_array_equal(MNI152.from_mni152, np.eye(4))


@pytest.mark.real
def test_real_scans_lie_in_their_spaces(real_data: Path) -> None:
    for study in find_studies(real_data / "brats"):
        assert study.mask is not None
        assert space_of(read_raw(study.mask)) is SRI24
    masks = sorted((real_data / "gli2024_masks").iterdir())
    assert [space_of(read_raw(path)) for path in masks] == [MNI152] * 13
