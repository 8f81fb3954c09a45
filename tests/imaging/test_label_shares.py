"""How much of each patch a label covers: laid out as the pictures of the volume with the same mask."""

import numpy as np
import pytest

from voxmoe.imaging.ct import GreyVolume
from voxmoe.imaging.volume import Volume
from voxmoe.imaging.windows import PictureSettings, label_shares, to_pictures, windowed


def mask_of(data: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(np.asfortranarray(data), np.diag([*spacing, 1.0]), "mask")


def pieces(shape: tuple[int, int, int] = (12, 8, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


@pytest.mark.parametrize("square", ["pad", "crop"])
@pytest.mark.parametrize("grid", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("depth", [None, 3, 7])
def test_shares_are_the_pictures_of_each_label(
    square: str, grid: tuple[float, float, float], depth: int | None
) -> None:
    """Of grey values that are 1 where the label is, in pictures of as many pixels as there are parts."""
    mask = mask_of(pieces(), grid)
    settings = PictureSettings(windows=(), size=6, depth=depth, square=square)
    shares = label_shares(mask, (1, 3), settings, 6)
    for place, value in enumerate((1, 3)):
        alone = GreyVolume(np.asfortranarray(mask.data == value, np.float32), mask.affine, "grey")
        np.testing.assert_allclose(shares[:, place], windowed(alone, settings)[:, 0], atol=1e-6)


def test_shares_of_all_labels_add_up_to_one_where_the_plane_is() -> None:
    shares = label_shares(mask_of(pieces((8, 8, 5))), (0, 1, 2, 3), PictureSettings(depth=None), 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)


def test_a_labelled_plane_is_one_and_its_padding_none() -> None:
    """But for the rows beside the edge, to which linear resampling brings something of the other side."""
    shares = label_shares(mask_of(np.ones((16, 8, 2), np.uint8)), (1, 2), PictureSettings(depth=None), 8)
    np.testing.assert_allclose(shares[:, 0, 3:5], 1, atol=1e-6)
    assert not shares[:, 0, [0, 7]].any()
    np.testing.assert_allclose(shares[:, 0].mean(axis=(1, 2)), 0.5, atol=1e-6)
    assert not shares[:, 1].any()


def test_the_other_side_of_the_mask_is_the_other_side_of_the_picture() -> None:
    data = pieces()
    settings = PictureSettings(depth=None)
    shares = label_shares(mask_of(data), (1, 2), settings, 4)
    flipped = label_shares(mask_of(data[::-1]), (1, 2), settings, 4)
    np.testing.assert_allclose(flipped, shares[..., ::-1], atol=1e-6)


def test_pictures_are_what_is_drawn_in_256_steps() -> None:
    data = mask_of(np.linspace(-200, 300, 96, dtype=np.float32).reshape(6, 4, 4))
    settings = PictureSettings(size=8, depth=2)
    drawn = to_pictures(data, settings)
    assert drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn / 255, windowed(data, settings), atol=0.5 / 255 + 1e-6)
