"""Changes that keep answers true: one for all modalities, and what they leave as it is."""

import numpy as np
import pytest

from conftest import make_study
from voxmoe.imaging.grid import GriddedStudy, to_grid
from voxmoe.imaging.transforms import UNCHANGED, AugmentSettings, Transform, apply_transform, draw_transform

GRID = (8, 24, 32)


@pytest.fixture
def study() -> GriddedStudy:
    gridded = to_grid(make_study(seed=1), GRID)
    gridded.images[:] = 0
    gridded.images[:, 3:6, 8:14, 20:26] = 0.5
    return gridded


def test_nothing_drawn_changes_nothing(study: GriddedStudy) -> None:
    assert apply_transform(study, UNCHANGED) is study
    assert draw_transform(AugmentSettings(variants=3), 0, "s", 0) == UNCHANGED


def test_a_flip_is_its_own_inverse_and_turns_left_to_right(study: GriddedStudy) -> None:
    flipped = apply_transform(study, Transform(flip=True))
    assert np.array_equal(flipped.images, study.images[..., ::-1])
    assert np.array_equal(apply_transform(flipped, Transform(flip=True)).images, study.images)


def test_a_shift_moves_all_modalities_by_the_same_voxels(study: GriddedStudy) -> None:
    moved = apply_transform(study, Transform(shift=(1 / 8, 2 / 24, -4 / 32))).images
    assert np.allclose(moved[:, 4:7, 10:16, 16:22], 0.5, atol=1e-6)
    assert np.isclose(moved.sum(), study.images.sum(), rtol=1e-5)


def test_a_turn_keeps_the_volume_and_goes_back(study: GriddedStudy) -> None:
    turned = apply_transform(study, Transform(turn=10.0))
    assert np.isclose(turned.images.sum(), study.images.sum(), rtol=0.02)
    back = apply_transform(turned, Transform(turn=-10.0))
    inside = np.s_[:, 4, 10:12, 22:24]
    assert np.allclose(back.images[inside], study.images[inside], atol=1e-3)
    assert not np.allclose(turned.images, study.images, atol=0.1)


def test_powers_are_each_modality_s_own(study: GriddedStudy) -> None:
    changed = apply_transform(study, Transform(gamma=(1.0, 2.0, 1.0, 0.5))).images
    assert np.allclose([image.max() for image in changed], [0.5, 0.25, 0.5, 0.5**0.5])


def test_draws_stay_within_the_settings_and_differ() -> None:
    settings = AugmentSettings(variants=200, turn=5, shift=0.02, gamma=0.1)
    drawn = [draw_transform(settings, 3, "study", number) for number in range(1, 201)]
    assert len(set(drawn)) == 200
    assert {transform.flip for transform in drawn} == {True, False}
    assert max(abs(transform.turn) for transform in drawn) <= 5
    assert max(abs(share) for transform in drawn for share in transform.shift) <= 0.02
    assert all(0.9 <= power <= 1.1 for transform in drawn for power in transform.gamma)
    assert not any(draw_transform(AugmentSettings(flip=False), 3, "study", n).flip for n in range(1, 50))
