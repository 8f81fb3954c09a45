"""Component geometry against the slow way: SciPy labels, a real mesh, NumPy covariance, a hull of all voxels."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes, mesh_surface_area

from voxmoe.imaging.volume import read_mask
from voxmoe.vqa.components import Shape, Spacing, core_shape, find_components, mean_shape, measure_shapes

NAMES = ("sphericity", "elongation", "flatness", "solidity", "compactness")
ROUNDING = 1e-6
"""Flatness is a root: of points in one plane, that of an eigenvalue which is zero but for rounding."""
STRUCTURES = {6: 1, 18: 2, 26: 3}
ISOTROPIC = (1.0, 1.0, 1.0)
SPACINGS = (ISOTROPIC, (0.9375, 0.9375, 5.0), (1.1, 0.7, 2.3))


def slow_shape(mask: np.ndarray, spacing: Spacing) -> tuple[float, ...]:
    """The numbers of the paper's Appendix A for one component, straight from their definitions."""
    points = np.argwhere(mask) * spacing
    volume = len(points) * float(np.prod(spacing))
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)
    area = float(mesh_surface_area(vertices, faces))
    elongation = flatness = 0.0
    if len(points) >= 3:
        third, second, first = np.linalg.eigvalsh(np.cov(points.T)).clip(0)
        if second > 1e-9 * first:
            elongation, flatness = float(np.sqrt(first / second)), float(np.sqrt(third / second))
    try:
        solidity = volume / ConvexHull(points).volume if len(points) > 3 else 1.0
    except QhullError:
        solidity = 1.0
    return np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, elongation, flatness, solidity, area / volume


def slow_components(mask: np.ndarray, connectivity: int) -> list[np.ndarray]:
    structure = ndimage.generate_binary_structure(3, STRUCTURES[connectivity])
    labels, count = ndimage.label(mask, structure)
    return [labels == number for number in range(1, count + 1)]


def numbers(shape: Shape) -> tuple[float, ...]:
    return tuple(getattr(shape, name) for name in NAMES)


def shapes_of(
    mask: np.ndarray, connectivity: int = 26, spacing: Spacing = ISOTROPIC, solid_voxels: bool = False
) -> list[tuple[float, ...]]:
    found = find_components(mask, connectivity)
    return [numbers(shape) for shape in measure_shapes(found, spacing, solid_voxels)]


def solid_shape(mask: np.ndarray, spacing: Spacing) -> tuple[float, ...]:
    """`slow_shape` with each voxel as a box: the covariance of a grid of points within it, as fine as it gets."""
    sphericity, _, _, solidity, compactness = slow_shape(mask, spacing)
    covariance = np.atleast_2d(np.cov(np.argwhere(mask).T, bias=True)) if mask.sum() > 1 else np.zeros((3, 3))
    third, second, first = np.linalg.eigvalsh(covariance * np.outer(spacing, spacing) + np.diag(spacing) ** 2 / 12)
    return min(sphericity, 1), np.sqrt(first / second), np.sqrt(third / second), min(solidity, 1), compactness


def in_order(shapes: list[tuple[float, ...]]) -> np.ndarray:
    """The shapes of one mask in an order that does not hang on the numbering of its components."""
    return np.array(sorted(shapes, key=lambda shape: np.round(shape, 6).tolist()))


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Masks from specks to solid blocks, thin and flat grids among them."""
    shape = draw(st.tuples(*[st.integers(1, 8)] * 3))
    density = draw(st.sampled_from((0.03, 0.15, 0.4, 0.8, 1.0)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = generator.random(shape) < density
    if draw(st.booleans()):
        mask = ndimage.binary_dilation(mask)
    mask.ravel()[int(generator.integers(mask.size))] = True
    return mask


IN_ONE_PLANE = np.zeros((2, 4, 8), dtype=bool)
IN_ONE_PLANE[tuple(np.array([[0, 0, 2], [0, 1, 1], [0, 2, 0], [0, 3, 2], [0, 3, 7], [1, 0, 4], [1, 0, 7], [1, 2, 0],
                             [1, 2, 7], [1, 3, 5]]).T)] = True  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(mask=IN_ONE_PLANE, connectivity=18, spacing=(0.9375, 0.9375, 5.0))
@given(mask=masks(), connectivity=st.sampled_from((6, 18, 26)), spacing=st.sampled_from(SPACINGS))
def test_every_component_as_the_slow_way_has_it(mask: np.ndarray, connectivity: int, spacing: Spacing) -> None:
    expected = slow_components(mask, connectivity)
    found = find_components(mask, connectivity)
    assert sorted(found.voxels.tolist()) == sorted(int(part.sum()) for part in expected)
    assert found.core_fraction == max(part.sum() for part in expected) / mask.sum()
    slow = [slow_shape(part, spacing) for part in expected]
    fast = shapes_of(mask, connectivity, spacing)
    np.testing.assert_allclose(in_order(fast), in_order(slow), rtol=1e-4, atol=ROUNDING)
    np.testing.assert_allclose(numbers(mean_shape(found, spacing)), np.mean(slow, axis=0), rtol=1e-4, atol=ROUNDING)
    core = numbers(core_shape(found, spacing))
    largest = [shape for shape, part in zip(slow, expected, strict=True) if part.sum() == found.voxels.max()]
    assert any(np.allclose(core, shape, rtol=1e-4, atol=ROUNDING) for shape in largest)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mask=masks(), connectivity=st.sampled_from((6, 26)), spacing=st.sampled_from(SPACINGS))
def test_solid_voxels_as_the_slow_way_has_them(mask: np.ndarray, connectivity: int, spacing: Spacing) -> None:
    slow = [solid_shape(part, spacing) for part in slow_components(mask, connectivity)]
    fast = shapes_of(mask, connectivity, spacing, solid_voxels=True)
    np.testing.assert_allclose(in_order(fast), in_order(slow), rtol=1e-4, atol=ROUNDING)
    for sphericity, elongation, flatness, solidity, _ in fast:
        assert sphericity <= 1
        assert elongation >= 1 - 1e-9
        assert 0 < flatness <= 1 + 1e-9
        assert solidity <= 1


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 2), (7, 1, 1), (3, 5, 9), (4, 1, 6)])
def test_a_box_of_solid_voxels_has_the_axes_of_the_box(size: tuple[int, int, int]) -> None:
    for spacing in SPACINGS:
        shortest, middle, longest = sorted(n * length for n, length in zip(size, spacing, strict=True))
        (shape,) = shapes_of(box(*size), 26, spacing, solid_voxels=True)
        np.testing.assert_allclose(shape[1:3], (longest / middle, shortest / middle), rtol=1e-6)


def test_a_large_body_is_as_long_of_boxes_as_of_points() -> None:
    places = np.meshgrid(np.arange(-41, 42), *[np.arange(-21, 22)] * 2, indexing="ij")
    ellipsoid = sum((axis / half) ** 2 for axis, half in zip(places, (40, 20, 20), strict=True)) <= 1
    points, boxes = shapes_of(ellipsoid)[0], shapes_of(ellipsoid, solid_voxels=True)[0]
    np.testing.assert_allclose(boxes[:3], points[:3], rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(mask=masks(), connectivity=st.sampled_from((6, 26)), smallest=st.floats(0, 20))
def test_fragments_are_left_out_but_for_the_largest(mask: np.ndarray, connectivity: int, smallest: float) -> None:
    every = find_components(mask, connectivity)
    kept = every.without_fragments(smallest)
    large = [int(size) for size in every.voxels if size >= smallest]
    assert kept.voxels.tolist() == (large or [int(every.voxels.max())])
    assert kept.labels.dtype == every.labels.dtype
    alone = find_components(kept.labels[1:-1, 1:-1, 1:-1] != 0, connectivity)
    for name in ("labels", "starts", "voxels"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(alone, name))
    for name in ("first", "last", "y", "z"):
        np.testing.assert_array_equal(getattr(kept.runs, name), getattr(alone.runs, name))
    counts = np.bincount(kept.labels.ravel())
    assert counts[1:].tolist() == kept.voxels.tolist()
    for number in range(1, len(counts)):
        (before,) = np.unique(every.labels[kept.labels == number])
        np.testing.assert_array_equal(kept.labels == number, every.labels == before)


@settings(max_examples=60, deadline=None)
@given(mask=masks(), connectivity=st.sampled_from((6, 18, 26)), data=st.data())
def test_flipping_turning_and_moving_change_nothing(mask: np.ndarray, connectivity: int, data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(list(permutations(range(3)))))
    flips = data.draw(st.sets(st.integers(0, 2)))
    before, after = data.draw(st.tuples(*[st.tuples(*[st.integers(0, 2)] * 3)] * 2))
    moved = np.pad(np.flip(mask, tuple(flips)), list(zip(before, after, strict=True))).transpose(axes)
    spacing = SPACINGS[2]
    turned = tuple(spacing[axis] for axis in axes)
    expected = in_order(shapes_of(mask, connectivity, spacing))
    np.testing.assert_allclose(in_order(shapes_of(moved, connectivity, turned)), expected, rtol=1e-4, atol=ROUNDING)


@settings(max_examples=40, deadline=None)
@given(mask=masks(), factor=st.sampled_from((0.5, 2.0, 3.7)))
def test_scaling_the_spacing_scales_compactness_alone(mask: np.ndarray, factor: float) -> None:
    small = np.array(shapes_of(mask, 26, SPACINGS[1]))
    large = np.array(shapes_of(mask, 26, tuple(factor * length for length in SPACINGS[1])))
    np.testing.assert_allclose(large[:, :4], small[:, :4], rtol=1e-4, atol=ROUNDING)
    np.testing.assert_allclose(large[:, 4] * factor, small[:, 4], rtol=1e-4)


def box(*sizes: int) -> np.ndarray:
    return np.ones(sizes, bool)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 1), (9, 1, 1), (1, 9, 1), (1, 1, 9)])
def test_a_speck_or_a_line_has_no_axes_and_no_hull(size: tuple[int, int, int]) -> None:
    for spacing in SPACINGS:
        (shape,) = shapes_of(box(*size), 26, spacing)
        assert shape[1:4] == (0, 0, 1)


def test_a_single_voxel_is_an_octahedron_to_the_mesh() -> None:
    (shape,) = shapes_of(box(1, 1, 1))
    area = 3**0.5  # eight triangles with edges of sqrt(1/2)
    np.testing.assert_allclose(shape, ((36 * np.pi) ** (1 / 3) / area, 0, 0, 1, area), rtol=1e-6)


@pytest.mark.parametrize("size", [(4, 7, 1), (1, 4, 7), (7, 1, 4)])
def test_a_plane_has_no_thickness(size: tuple[int, int, int]) -> None:
    (shape,) = shapes_of(box(*size))
    assert shape[1] == pytest.approx(np.sqrt((7**2 - 1) / (4**2 - 1)))
    assert shape[2] == pytest.approx(0, abs=1e-6)
    assert shape[3] == 1


@example(normal=(1, 1, 1), spacing=(0.9375, 0.9375, 1.2))
@given(
    normal=st.tuples(*[st.integers(-2, 2)] * 3).filter(any),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_an_oblique_plane_has_no_hull_either(normal: tuple[int, int, int], spacing: Spacing) -> None:
    places = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1)
    plane = find_components(places @ normal == 0, 26)
    assert {shape.solidity for shape in measure_shapes(plane, spacing)} == {1}


def test_a_diagonal_line_has_no_axes() -> None:
    (shape,) = shapes_of(np.eye(5, dtype=bool)[:, :, None] & np.eye(5, dtype=bool)[:, None, :], 26, SPACINGS[2])
    assert shape[1:4] == (0, 0, 1)


def test_a_cube_and_a_block() -> None:
    cube, block = shapes_of(box(5, 5, 5))[0], shapes_of(box(3, 5, 9))[0]
    np.testing.assert_allclose(cube[1:4], (1, 1, 125 / 64), rtol=1e-6)
    assert block[1] == pytest.approx(np.sqrt(80 / 24))
    assert block[2] == pytest.approx(np.sqrt(8 / 24))
    assert block[3] == pytest.approx(135 / (2 * 4 * 8))


@pytest.mark.parametrize("radius", [6, 10, 15])
def test_a_ball_is_round(radius: int) -> None:
    places = np.meshgrid(*[np.arange(-radius - 1, radius + 2)] * 3, indexing="ij")
    (shape,) = shapes_of(sum(axis**2 for axis in places) <= radius**2)
    assert 0.9 < shape[0] < 1
    np.testing.assert_allclose(shape[1:3], 1, rtol=1e-6)
    assert shape[4] == pytest.approx(3 / radius, rel=0.12)


@pytest.mark.parametrize(("connectivity", "count"), [(6, 4), (18, 3), (26, 2)])
def test_how_voxels_join(connectivity: int, count: int) -> None:
    mask = np.zeros((9, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = True  # an edge
    mask[2, 2, 1] = True  # a corner
    mask[6:8, 0, 0] = True
    assert len(find_components(mask, connectivity).voxels) == count


def test_touching_components_are_measured_each_alone() -> None:
    mask = np.zeros((4, 4, 2), bool)
    mask[:2, :2], mask[2:, 2:] = True, True
    alone = shapes_of(box(2, 2, 2))[0]
    np.testing.assert_allclose(shapes_of(mask, 6), [alone, alone], rtol=1e-6)
    assert len(shapes_of(mask, 18)) == 1


@pytest.mark.parametrize("size", [(1, 1, 3), (3, 1, 1), (1, 3, 9), (5, 1, 7), (3, 3, 3), (9, 9, 1)])
def test_as_many_components_as_the_grid_can_hold(size: tuple[int, int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[::2, ::2, ::2] = True
    for connectivity in STRUCTURES:
        assert len(find_components(mask, connectivity).voxels) == mask.sum()


def test_the_first_of_equals_is_the_core() -> None:
    mask = np.zeros((8, 1, 1), bool)
    mask[1:3] = mask[4:6] = mask[7] = True
    found = find_components(mask, 26)
    assert (found.core, found.core_fraction, found.voxels.tolist()) == (0, 0.4, [2, 2, 1])


@pytest.mark.real
@pytest.mark.parametrize("connectivity", [6, 26])
def test_real_masks_as_the_slow_way_has_them(connectivity: int, real_data: Path) -> None:
    paths = [*sorted((real_data / "gli2024_masks").glob("*.nii.gz"))[:4], *(real_data / "brats").glob("*1476/*_seg.*")]
    assert len(paths) == 5
    for path in paths:
        mask = read_mask(path)
        for value in np.unique(mask.data)[1:]:
            label = mask.data == value
            found = find_components(label, connectivity)
            count = len(found.voxels)
            labels, expected = ndimage.label(label, ndimage.generate_binary_structure(3, STRUCTURES[connectivity]))
            assert count == expected
            slow = []
            for number, where in enumerate(ndimage.find_objects(labels), start=1):
                slow.append(slow_shape(labels[where] == number, mask.spacing))
            fast = [numbers(shape) for shape in measure_shapes(found, mask.spacing)]
            np.testing.assert_allclose(in_order(fast), in_order(slow), rtol=1e-4, atol=1e-6)
