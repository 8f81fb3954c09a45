"""The grid and the warped body on it."""

import numpy as np
import pytest

from voxmoe.errors import ImageError
from voxmoe.imaging.torso.frame import Frame, draw_frame, ellipsoid

SHAPE = (48, 40, 36)


@pytest.fixture(scope="module")
def frame() -> Frame:
    return draw_frame(np.random.default_rng(3), SHAPE)


def test_voxels_is_the_inverse_of_at(frame: Frame) -> None:
    middle = np.random.default_rng(0).integers((8, 8, 8), np.array(SHAPE) - 8, (50, 3))
    points = np.stack([axis[tuple(middle.T)] for axis in frame.at], axis=1).astype(float)
    assert np.abs((frame.voxels(points) - middle) * frame.spacing).max() < 1.5


def test_a_box_holds_all_that_lies_between_its_corners(frame: Frame) -> None:
    low, high = (-60.0, -20.0, -50.0), (10.0, 45.0, 30.0)
    inside = np.logical_and.reduce([(axis > a) & (axis < b) for axis, a, b in zip(frame.at, low, high, strict=True)])
    assert inside.any()
    outside = inside.copy()
    outside[frame.box(low, high)] = False
    assert not outside.any()


def test_right_of_the_body_is_right_in_the_world(frame: Frame) -> None:
    x, y, z = frame.at
    assert all((np.diff(axis, axis=number) > 0).mean() > 0.99 for number, axis in enumerate((x, y, z)))
    assert (np.diag(frame.affine)[:3] == frame.spacing).all()


def test_distances_of_a_ball_are_mm(frame: Frame) -> None:
    box, away = frame.ball((20, 20, 20), 25.0)
    index = np.stack(np.meshgrid(*(np.arange(span.start, span.stop) for span in box), indexing="ij"), axis=-1)
    assert np.allclose(away, np.linalg.norm((index - 20) * frame.spacing, axis=-1), atol=1e-3)
    volume = (away <= 25).sum() * frame.voxel_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 25**3, rel=0.15)


def test_an_ellipsoid_is_one_on_its_surface(frame: Frame) -> None:
    points = np.array([[10.0, 0, 0], [0, 20, 0], [6, 0, 30.0]], dtype=np.float32).T[:, None, None, :]
    at = (points[0], points[1], points[2])
    assert np.allclose(ellipsoid(at, (0.0, 0.0, 0.0), (10.0, 20.0, 30.0), (0.2, 0.0)), 1)


def test_too_coarse_a_grid_is_refused() -> None:
    with pytest.raises(ImageError, match="64x16x64 voxels was asked for; at least 32"):
        draw_frame(np.random.default_rng(0), (64, 16, 64))
