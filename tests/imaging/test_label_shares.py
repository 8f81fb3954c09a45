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


def boxed(plane: np.ndarray, cells: int) -> np.ndarray:
    """The mean over equal boxes, of pixels cut into as many pieces as there are boxes along each axis."""
    fine = plane.repeat(cells, axis=0).repeat(cells, axis=1)
    return fine.reshape(cells, plane.shape[0], cells, plane.shape[1]).mean(axis=(1, 3))


@pytest.mark.parametrize("cells", [1, 4, 5, 12, 16])
@pytest.mark.parametrize("square", ["pad", "crop"])
@pytest.mark.parametrize("depth", [None, 3, 7])
def test_shares_are_means_over_boxes_of_the_pictures_of_each_label(square: str, depth: int | None, cells: int) -> None:
    """Of grey values that are 1 where the label is, in pictures with the pixels of the plane."""
    mask = mask_of(pieces())
    settings = PictureSettings(windows=(), size=12 if square == "pad" else 8, depth=depth, square=square)
    shares = label_shares(mask, (1, 3), settings, cells)
    for place, value in enumerate((1, 3)):
        alone = GreyVolume(np.asfortranarray(mask.data == value, np.float32), mask.affine, "grey")
        expected = [boxed(picture, cells) for picture in windowed(alone, settings)[:, 0]]
        np.testing.assert_allclose(shares[:, place], expected, atol=1e-6)


def test_a_part_is_as_wide_in_mm_along_both_axes() -> None:
    """Pixels of 1 x 2 mm: 16 x 8 of them are a square."""
    data = np.zeros((16, 8, 1), np.uint8)
    data[4:8, 2:4] = 1  # second from the right and from behind, of the picture the last but one
    shares = label_shares(mask_of(data, (1, 2, 3)), (1,), PictureSettings(depth=None), 4)
    expected = np.zeros((4, 4))
    expected[2, 2] = 1
    np.testing.assert_allclose(shares[0, 0], expected, atol=1e-6)


def test_shares_of_all_labels_add_up_to_one_where_the_plane_is() -> None:
    shares = label_shares(mask_of(pieces((8, 8, 5))), (0, 1, 2, 3), PictureSettings(depth=None), 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)


def test_a_labelled_plane_is_one_and_its_padding_none() -> None:
    shares = label_shares(mask_of(np.ones((16, 8, 2), np.uint8)), (1, 2), PictureSettings(depth=None), 8)
    np.testing.assert_allclose(shares[:, 0, 2:6], 1, atol=1e-6)
    assert not shares[:, 0, [0, 1, 6, 7]].any()
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
