"""Windows by their definition; pictures lie as radiologists look at them, undistorted, whatever the spacing."""

import numpy as np
import pytest
from pydantic import ValidationError
from scanner import torso

from voxmoe.errors import ImageError
from voxmoe.imaging.ct import GreyVolume
from voxmoe.imaging.volume import Volume
from voxmoe.imaging.windows import WINDOWS, PictureSettings, Window, windowed

WIDE = Window(centre=0, width=4096)


def ct(data: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(np.asfortranarray(data, np.float32), np.diag([*spacing, 1.0]), "ct")


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_goes_from_black_to_white_over_its_width(name: str) -> None:
    window = WINDOWS[name]
    low, high = window.centre - window.width / 2, window.centre + window.width / 2
    seen = window(np.array([-3000, low, window.centre, high, 3000], np.float32))
    np.testing.assert_allclose(seen, [0, 0, 0.5, 1, 1], atol=1e-6)
    assert PictureSettings(windows=(name,)).windows == (window,)


def test_three_windows_are_the_colours_of_three_grey_pictures() -> None:
    names = ("lung", "soft-tissue", "bone")
    colour = windowed(ct(torso()), PictureSettings(windows=names, size=24, depth=4))
    assert colour.shape == (4, 3, 24, 24)
    assert colour.dtype == np.float32
    for channel, name in enumerate(names):
        grey = windowed(ct(torso()), PictureSettings(windows=(name,), size=24, depth=4))
        np.testing.assert_array_equal(colour[:, channel], grey[:, 0])


def test_anterior_is_at_the_top_and_right_at_the_left() -> None:
    data = torso((16, 16, 4))
    pictures = windowed(ct(data), PictureSettings(windows=(WIDE,), size=16, depth=None))
    np.testing.assert_allclose(pictures[:, 0], WIDE(data[::-1, ::-1].transpose(2, 1, 0)), atol=1e-6)


@pytest.mark.parametrize("slab", ["nearest", "mean"])
@pytest.mark.parametrize("depth", [1, 3, 8, 11])
def test_slabs_are_equal_parts_of_the_volume(depth: int, slab: str) -> None:
    data = np.broadcast_to(100.0 * np.arange(8), (4, 4, 8))
    fine = np.repeat(data[0, 0], 3 * 11).reshape(depth, -1) if (8 * 33) % depth == 0 else None
    assert fine is not None
    seen = windowed(ct(data), PictureSettings(windows=(WIDE,), size=4, depth=depth, slab=slab))[:, 0, 0, 0]
    expected = fine.mean(axis=1) if slab == "mean" else fine[:, fine.shape[1] // 2]
    np.testing.assert_allclose(seen, WIDE(expected.astype(np.float32)), atol=1e-5)


def test_a_mean_of_everything_keeps_the_mean() -> None:
    data = torso((16, 16, 8))
    seen = windowed(ct(data), PictureSettings(windows=(WIDE,), size=16, depth=1, slab="mean"))
    np.testing.assert_allclose(seen.mean(), WIDE(data).mean(), atol=1e-5)


@pytest.mark.parametrize("square", ["pad", "crop"])
def test_a_disc_stays_a_disc_whatever_the_spacing(square: str) -> None:
    spacing = (0.5, 1.0, 1.0)
    x, y = np.meshgrid((np.arange(120) - 59.5) * 0.5, (np.arange(80) - 39.5) * 1.0, indexing="ij")
    disc = np.where(x**2 + y**2 < 20**2, 1000.0, -1024)[:, :, None]
    seen = windowed(ct(disc, spacing), PictureSettings(windows=(WIDE,), size=80, depth=1, square=square))[0, 0]
    inside = seen > 0.6
    side = {"pad": 80, "crop": 60}[square]
    np.testing.assert_allclose(inside.any(axis=0).sum(), 40 * 80 / side, atol=2)
    np.testing.assert_allclose(inside.any(axis=1).sum(), 40 * 80 / side, atol=2)
    np.testing.assert_allclose(inside.mean() * side**2, np.pi * 20**2, rtol=0.03)


def test_what_is_added_is_air() -> None:
    seen = windowed(ct(np.full((4, 8, 2), 40.0)), PictureSettings(windows=("soft-tissue",), size=8, depth=2))
    assert (seen[..., :2] == 0).all()
    assert (seen[..., -2:] == 0).all()
    assert (seen[..., 2:-2] > 0.4).all()


def test_grey_values_take_no_window_and_hu_need_one() -> None:
    grey = GreyVolume(np.full((4, 4, 2), 0.5, np.float32), np.eye(4), "scan.npy")
    with pytest.raises(ImageError, match=r"scan\.npy: has grey values from 0 to 1 without HU"):
        windowed(grey, PictureSettings(size=4))
    with pytest.raises(ImageError, match="ct: is in HU; say through which window"):
        windowed(ct(torso()), PictureSettings(windows=()))


@pytest.mark.parametrize(
    ("windows", "says"), [(("lungs",), "there are lung"), (("lung", "bone"), "2 windows; one makes grey")]
)
def test_windows_that_are_not_there_are_named(windows: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PictureSettings(windows=windows)


@pytest.mark.parametrize(
    ("centre", "width"), [(40, 0), (40, -80), (40, float("nan")), (40, float("inf")), (float("nan"), 80)]
)
def test_a_window_has_a_finite_centre_and_some_width(centre: float, width: float) -> None:
    with pytest.raises(ValidationError, match=r"finite number|greater than 0"):
        Window(centre=centre, width=width)
