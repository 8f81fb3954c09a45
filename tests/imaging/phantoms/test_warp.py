"""The warp: there and back again, and interpolation against SciPy."""

import numpy as np
from scipy import ndimage

from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.phantoms.voxels import Raster, world_of
from voxmoe.imaging.phantoms.warp import Push, Warp, sample
from voxmoe.vocabulary import PROFILES_BY_NAME


def test_template_points_come_to_lie_where_the_warp_finds_them() -> None:
    anatomy = draw_parameters(PROFILES_BY_NAME["gli-2024"], 0, 0).anatomy
    warp = Warp(anatomy, [Push(world_of(np.array([130.0, 110.0, 80.0])), 0.25, 25.0)])
    points = np.random.default_rng(0).uniform((-60, -90, -40), (60, 60, 60), (50, 3))
    lines = Raster().lines(Raster().whole)
    grids = warp.coordinates(lines)
    back = [ndimage.map_coordinates(grid, warp.places(points).T, order=1) for grid in grids]
    np.testing.assert_allclose(np.stack(back, axis=1) + load_template().origin_mni, points, atol=0.3)  # mm


def test_sampling_is_linear_interpolation() -> None:
    generator = np.random.default_rng(0)
    maps = [np.asfortranarray(generator.random((9, 7, 8), dtype=np.float32)) for _ in range(2)]
    at = [generator.uniform(0, size - 1.01, 1000).astype(np.float32) for size in (9, 7, 8)]
    for field, values in zip(maps, sample(maps, at), strict=True):
        np.testing.assert_allclose(values, ndimage.map_coordinates(field, at, order=1), atol=1e-5)
