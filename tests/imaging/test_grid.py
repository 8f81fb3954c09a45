"""The model's grid: one box for all modalities, axes in their place, resampling that is exact where it can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import make_study
from voxmoe.imaging.grid import Box, bounding_box, from_grid, label_fractions, normalise, resample, to_grid
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume
from voxmoe.vocabulary import Modality

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
GRIDS = st.tuples(*[st.integers(1, 12)] * 3)


def coordinates(shape: tuple[int, int, int]) -> list[np.ndarray]:
    return [axis.astype(np.float32) for axis in np.meshgrid(*map(np.arange, shape), indexing="ij")]


@given(mask=hnp.arrays(bool, SHAPES, elements=st.integers(0, 9).map(lambda n: n == 0)))
def test_bounding_box_is_that_of_all_voxels(mask: np.ndarray) -> None:
    places = np.argwhere(mask) if mask.any() else np.array([[0, 0, 0], np.array(mask.shape) - 1])
    expected = Box(tuple(places.min(axis=0).tolist()), tuple((places.max(axis=0) + 1).tolist()))
    assert bounding_box(mask) == expected
    assert int(mask[expected.slices].sum()) == int(mask.sum())


@settings(deadline=None)
@given(shape=SHAPES, grid=GRIDS, value=st.floats(-1e3, 1e3, width=32))
def test_a_constant_stays_constant(shape: tuple, grid: tuple, value: float) -> None:
    out = resample(np.full(shape, value, np.float32), grid)
    assert out.shape == grid
    np.testing.assert_allclose(out, value, rtol=1e-5, atol=1e-6)


def test_the_same_size_changes_nothing_but_the_axes() -> None:
    data = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(resample(data, (6, 5, 4)), data.transpose(2, 1, 0))


def test_depth_is_superior_height_anterior_width_right() -> None:
    for axis, place in ((2, 0), (1, 1), (0, 2)):
        gradient = coordinates((6, 6, 6))[axis]
        steps = np.diff(resample(gradient, (6, 6, 6)), axis=place)
        np.testing.assert_allclose(steps, 1, rtol=1e-5)


@settings(deadline=None)
@given(shape=st.tuples(*[st.integers(2, 8)] * 3), times=st.tuples(*[st.integers(1, 4)] * 3))
def test_linear_functions_are_exact_between_voxel_centres(shape: tuple, times: tuple) -> None:
    x, y, z = coordinates(shape)
    grid = tuple(size * more for size, more in zip(reversed(shape), times, strict=True))
    found = resample(2 * x - 3 * y + 0.5 * z + 7, grid)
    scales = [size / cells for size, cells in zip(reversed(shape), grid, strict=True)]
    axes = [(np.arange(cells) + 0.5) * scale - 0.5 for cells, scale in zip(grid, scales, strict=True)]
    inside = np.ix_(*[(a >= 0) & (a <= n - 1) for a, n in zip(axes, reversed(shape), strict=True)])
    d, h, w = np.meshgrid(*axes, indexing="ij")
    np.testing.assert_allclose(found[inside], (2 * w - 3 * h + 0.5 * d + 7)[inside], atol=1e-4)


@settings(deadline=None)
@given(shape=SHAPES, grid=GRIDS, seed=st.integers(0, 999))
def test_flipping_commutes_with_resampling(shape: tuple, grid: tuple, seed: int) -> None:
    data = np.random.default_rng(seed).random(shape).astype(np.float32)
    for axis in range(3):
        flipped = resample(np.flip(data, axis), grid)
        np.testing.assert_allclose(flipped, np.flip(resample(data, grid), 2 - axis), atol=1e-6)


@settings(deadline=None)
@given(shape=SHAPES, grid=GRIDS, seed=st.integers(0, 999))
def test_resampling_stays_within_the_range_and_is_linear(shape: tuple, grid: tuple, seed: int) -> None:
    one, other = np.random.default_rng(seed).random((2, *shape)).astype(np.float32)
    out = resample(one, grid)
    assert one.min() - 1e-6 <= out.min() <= out.max() <= one.max() + 1e-6
    np.testing.assert_allclose(resample(one + 2 * other, grid), out + 2 * resample(other, grid), atol=1e-5)


def test_coarsening_uses_every_voxel() -> None:
    for place in range(12):
        data = np.zeros((12, 1, 1), np.float32)
        data[place] = 1
        assert resample(data, (1, 1, 4)).sum() > 0


def test_normalise_spans_zero_to_one_between_the_percentiles() -> None:
    data = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    out = normalise(data, data > 0)
    low, high = np.percentile(np.arange(1, 1001), (0.5, 99.5))
    np.testing.assert_allclose(out, np.clip((data - low) / (high - low), 0, 1), atol=1e-6)
    assert (out.min(), out.max()) == (0, 1)


def test_normalise_keeps_the_background_at_zero() -> None:
    data = np.array([-5, 0, 10, 20, 30, 40], np.float32).reshape(6, 1, 1)
    out = normalise(data, data > 0)
    assert out[:2].ravel().tolist() == [0, 0]
    assert out[-1, 0, 0] == 1
    assert not normalise(data, np.zeros(data.shape, bool)).any()


@pytest.mark.parametrize(("gain", "offset"), [(2.5, 0), (0.01, 0), (3, 40)])
def test_normalise_does_not_depend_on_the_unit(gain: float, offset: float) -> None:
    data = np.random.default_rng(0).uniform(100, 900, (6, 6, 6)).astype(np.float32)
    foreground = data > 200
    np.testing.assert_allclose(normalise(data * gain + offset, foreground), normalise(data, foreground), atol=1e-5)


def test_all_modalities_share_one_box() -> None:
    images = {}
    for index, modality in enumerate(Modality):
        data = np.zeros((10, 10, 10), np.float32)
        data[2 + index : 4 + index, 3:5, 1:9] = np.arange(1, 33).reshape(2, 2, 8)
        images[modality] = Volume(data, np.eye(4))
    gridded = to_grid(Study("s", images), (8, 2, 5))
    assert gridded.box == Box((2, 3, 1), (7, 5, 9))
    assert gridded.present.all()
    for index in range(4):
        columns = np.flatnonzero(gridded.images[index].any(axis=(0, 1)))
        assert columns.tolist() == [index, index + 1]


def test_a_missing_modality_is_zero_and_marked() -> None:
    gridded = to_grid(make_study(modalities=(Modality.T1, Modality.FLAIR)), (4, 8, 8))
    assert gridded.images.shape == (4, 4, 8, 8)
    assert gridded.present.tolist() == [True, False, False, True]
    assert not gridded.images[1:3].any()
    assert gridded.images[0].any()
    assert (gridded.images >= 0).all()
    assert (gridded.images <= 1).all()


def test_flipping_the_brain_flips_the_width() -> None:
    study = make_study()
    flipped = Study("s", {m: Volume(v.data[::-1], v.affine) for m, v in study.images.items()})
    expected = to_grid(study, (4, 8, 8)).images[..., ::-1]
    np.testing.assert_allclose(to_grid(flipped, (4, 8, 8)).images, expected, atol=1e-6)


def test_label_fractions_are_what_each_cell_holds() -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[:4], mask[4:, :4] = 1, 2
    found = label_fractions(mask, {"A": [1], "B": [2], "C": [3], "D": [1, 2]}, Box((0, 0, 0), (8, 8, 8)), (8, 8, 8))
    assert found.shape == (4, 8, 8, 8)
    np.testing.assert_array_equal(found[0], (mask == 1).transpose(2, 1, 0))
    np.testing.assert_array_equal(found[1], (mask == 2).transpose(2, 1, 0))
    assert not found[2].any()
    np.testing.assert_array_equal(found[3], found[0] + found[1])
    coarse = label_fractions(mask, {"A": [1]}, Box((2, 0, 0), (6, 8, 8)), (1, 1, 2))
    assert coarse[0].ravel()[0] > 0.5 > coarse[0].ravel()[1] > 0
    np.testing.assert_allclose(coarse.sum(), 1, rtol=1e-5)


def test_what_stands_on_the_grid_comes_back_to_its_own_voxels() -> None:
    values = np.random.default_rng(0).random((4, 6, 8)).astype(np.float32)
    back = from_grid(values, Box((1, 2, 3), (9, 8, 7)), (12, 10, 9))
    assert back.shape == (12, 10, 9)
    np.testing.assert_allclose(back[1:9, 2:8, 3:7], values.transpose(2, 1, 0), rtol=1e-6)
    back[1:9, 2:8, 3:7] = 0
    assert not back.any()


def test_a_finer_grid_is_reached_by_linear_interpolation() -> None:
    values = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, 2, 2))
    back = from_grid(values, Box((0, 0, 0), (2, 2, 8)), (2, 2, 8))
    np.testing.assert_allclose(back[0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], rtol=1e-6)
