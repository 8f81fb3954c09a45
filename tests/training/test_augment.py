"""Views: one transform for all modalities, and every answer stays true."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from voxmoe.imaging.grid import Box, GriddedStudy
from voxmoe.training.augment import AffineSettings, AugmentSettings, View, apply_view, draw_views

CELL = (4.0, 1.5, 1.25)
SHAPE = (24, 56, 64)
PLAIN = View(False, (0.0, 0.0, 0.0), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), (1.0,) * 4, (1.0,) * 4, (False,) * 4)


def gridded(*images: np.ndarray) -> GriddedStudy:
    stacked = np.zeros((4, *SHAPE), np.float32)
    stacked[: len(images)] = images
    return GriddedStudy(stacked, np.arange(4) < len(images), Box((0, 0, 0), (1, 1, 1)))


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball in millimetres from the middle of the grid, with soft edges."""
    axes = [(np.arange(n) + 0.5 - n / 2) * cell for n, cell in zip(SHAPE, CELL, strict=True)]
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(np.meshgrid(*axes, indexing="ij"), centre, strict=True)))
    return np.clip((radius - distance) / 2 + 0.5, 0, 1).astype(np.float32)


BRAIN = ball((0, 0, 0), 38)
LESION = ball((8, -12, 15), 9)
SATELLITE = ball((-14, 10, 12), 5)


def turned(settings: AugmentSettings, seed: int) -> View:
    view = draw_views(settings, seed, "study")[1]
    assert view is not None
    return view


def test_the_first_view_is_the_scan_and_all_are_drawn_anew_alike() -> None:
    settings = AugmentSettings(variants=4)
    views = draw_views(settings, 3, "BraTS-1")
    assert views[0] is None
    assert len(views) == 4
    assert views == draw_views(settings, 3, "BraTS-1")
    others = [*draw_views(settings, 4, "BraTS-1")[1:], *draw_views(settings, 3, "BraTS-2")[1:]]
    assert len({repr(view) for view in (*views[1:], *others)}) == 9
    assert draw_views(None, 3, "BraTS-1") == [None]
    more = draw_views(AugmentSettings(variants=5), 3, "BraTS-1")
    assert more[:4] == views, "a view does not depend on how many there are"


def test_without_change_nothing_changes() -> None:
    study = gridded(BRAIN * 0.7, LESION)
    same = apply_view(study, CELL, PLAIN)
    occupied = np.argwhere(study.images.any(axis=0))
    spans = np.ptp(occupied, axis=0) + 1
    assert (spans <= np.array(SHAPE)).all()
    assert apply_view(study, CELL, None) is study
    whole = gridded(np.ones(SHAPE, np.float32), np.random.default_rng(0).random(SHAPE, np.float32))
    np.testing.assert_allclose(apply_view(whole, CELL, PLAIN).images, whole.images, atol=1e-5)
    assert same.present.tolist() == [True, True, False, False]


def test_a_flip_is_a_flip_and_swaps_the_sides() -> None:
    whole = gridded(np.random.default_rng(0).random(SHAPE, np.float32) + 0.1)
    flipped = apply_view(whole, CELL, replace(PLAIN, flip=True))
    expected = np.clip(whole.images, 0, 1)[..., ::-1]
    np.testing.assert_allclose(flipped.images, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_all_modalities_move_together(seed: int) -> None:
    view = turned(AugmentSettings(intensity=0), seed)
    moved = apply_view(gridded(BRAIN, BRAIN, LESION + 0, BRAIN * 0.5), CELL, view).images
    np.testing.assert_array_equal(moved[0], moved[1])
    np.testing.assert_allclose(moved[3], moved[0] * 0.5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_the_answers_are_about_stays(seed: int) -> None:
    """Relative volume, parts and their shares are those of the untouched study; nothing leaves the grid."""
    view = turned(AugmentSettings(affine=AffineSettings(rotation=10, margin=8), intensity=0), seed)
    lesions = LESION + SATELLITE
    before, after = gridded(BRAIN, lesions), apply_view(gridded(BRAIN, lesions), CELL, view)
    assert not np.array_equal(before.images, after.images)

    def findings(study: GriddedStudy) -> tuple[float, int, float]:
        brain, found = study.images[0], study.images[1]
        parts, count = ndimage.label(found > 0.5)
        sizes = np.bincount(parts.ravel())[1:]
        return float(found.sum() / brain.sum()), count, float(sizes.max() / sizes.sum())

    relative, count, core = findings(before)
    new_relative, new_count, new_core = findings(after)
    assert new_relative == pytest.approx(relative, rel=0.03)
    assert new_count == count == 2
    assert new_core == pytest.approx(core, abs=0.04)
    # Half of the outermost layer of cells may hold the edge of the brain, but no brain lies beyond it.
    rim = [np.take(after.images[0], side, axis).max() for axis in range(3) for side in (0, -1)]
    assert max(rim) < 0.75


def test_the_brain_stays_a_ball() -> None:
    """In millimetres, which the grid's cells are not: a turn in cells would shear it."""
    view = View(False, (10.0, -8.0, 12.0), ((0.0,) * 3, (0.0,) * 3), (1.0,) * 4, (1.0,) * 4, (False,) * 4)  # type: ignore[arg-type]
    moved = apply_view(gridded(BRAIN), CELL, view).images[0]
    extents = [np.ptp(np.flatnonzero((moved > 0.5).any(axis=tuple({0, 1, 2} - {axis})))) + 1 for axis in range(3)]
    # The box of a turned ball is the ball's own, so it fills the grid again, as far as along each other axis.
    shares = [extent / size for extent, size in zip(extents, SHAPE, strict=True)]
    assert max(shares) - min(shares) < 0.06


def test_intensities_change_each_modality_by_itself_and_keep_the_background() -> None:
    view = View(False, PLAIN.angles, PLAIN.margins, (1.1, 0.9, 1.0, 1.0), (1.2, 1.0, 1.0, 1.0), (False,) * 4)
    whole = np.random.default_rng(0).random(SHAPE, np.float32)
    whole[:, :5] = 0
    whole[:, 0, 0] = 1e-3  # the box is still the whole grid
    changed = apply_view(gridded(whole, whole), CELL, view).images
    np.testing.assert_allclose(changed[0], np.clip(1.1 * whole**1.2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(changed[1], 0.9 * whole, atol=1e-4)
    assert changed.max() <= 1


def test_modalities_are_left_out_unless_none_would_stay() -> None:
    view = replace(PLAIN, left_out=(False, True, False, False))
    seen = apply_view(gridded(BRAIN, BRAIN), CELL, view)
    assert seen.present.tolist() == [True, False, False, False]
    assert not seen.images[1].any()
    np.testing.assert_array_equal(seen.images[0], apply_view(gridded(BRAIN, BRAIN), CELL, PLAIN).images[0])
    kept = apply_view(gridded(BRAIN, BRAIN), CELL, replace(PLAIN, left_out=(True, True, False, False)))
    assert kept.present.tolist() == [True, True, False, False]


def test_how_often_modalities_are_left_out() -> None:
    settings = AugmentSettings(variants=300, modality_dropout=0.25)
    views = [view for view in draw_views(settings, 0, "study") if view is not None]
    assert np.mean([view.left_out for view in views]) == pytest.approx(0.25, abs=0.04)
    plain = [view for view in draw_views(AugmentSettings(variants=300), 0, "study") if view is not None]
    assert [replace(view, left_out=PLAIN.left_out) for view in views] == plain


@pytest.mark.real
def test_a_real_study_in_another_view_is_still_whole(real_data: Path) -> None:
    from voxmoe.imaging.grid import label_fractions, to_grid
    from voxmoe.imaging.layouts import find_study
    from voxmoe.imaging.study import load_study
    from voxmoe.training.studies import cell_mm

    grid = (32, 128, 128)
    study = load_study(find_study(real_data / "brats" / "BraTS-GLI-00000-000"), with_mask=True)
    seen = to_grid(study, grid)
    assert study.mask is not None
    lesion = label_fractions((study.mask.data > 0).astype(np.uint8), {"all": [1]}, seen.box, grid)[0]
    marked = seen.images.copy()
    marked[3] = lesion
    view = turned(AugmentSettings(intensity=0), 1)
    moved = apply_view(GriddedStudy(marked, seen.present, seen.box), cell_mm(study, seen, grid), view).images
    share: Callable[[np.ndarray], float] = lambda images: float(images[3].sum() / (images[0] > 0).sum())  # noqa: E731
    assert share(moved) == pytest.approx(share(marked), rel=0.1)
