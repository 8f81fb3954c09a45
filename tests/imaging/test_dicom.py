"""A series reads as it was scanned, in whatever order its files come; one clear error for each kind of bad series."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1
from scanner import SECRET, torso, write_slice, write_stack

from voxmoe.errors import ImageError, MissingPackageError
from voxmoe.imaging.dicom import read_series
from voxmoe.imaging.volume import read_raw

EXPECTED = np.maximum(torso(), -1024)
LOCALISER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def test_slices_are_ordered_by_position(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", torso())
    found = read_series(tmp_path / "ct")
    np.testing.assert_array_equal(found.data, EXPECTED)
    np.testing.assert_allclose(found.spacing, (0.75, 1.5, 2.5))
    # The first column lies at x = -7 mm LPS, which is the most to the right: 7 mm in RAS; so too the first row.
    np.testing.assert_allclose(found.affine @ [19, 15, 0, 1], (7, 30, 100, 1))
    assert found.axes == "LPS"


def test_a_stack_from_above_and_a_turned_one_lie_as_they_are(tmp_path: Path) -> None:
    write_stack(tmp_path / "up", torso())
    write_stack(tmp_path / "down", torso()[:, :, ::-1], step=(0, 0, -2.5))
    up, down = read_series(tmp_path / "up"), read_series(tmp_path / "down")
    np.testing.assert_array_equal(up.data, down.data)
    write_stack(tmp_path / "turned", torso(), ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    np.testing.assert_array_equal(read_series(tmp_path / "turned").data, EXPECTED[::-1, ::-1])


def test_each_slice_has_its_own_rescale_and_its_padding(tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "ct", torso())
    for path in paths[::2]:
        slice_ = dcmread(path)
        stored = np.frombuffer(slice_.PixelData, "<i2").reshape(slice_.Rows, slice_.Columns).copy()
        stored = 2 * (stored - 24)
        stored[0] = 30000
        slice_.PixelData, slice_.RescaleSlope, slice_.RescaleIntercept = stored.tobytes(), 0.5, -1000
        slice_.add_new("PixelPaddingValue", "SS", 30000)
        slice_.save_as(path)
    expected = EXPECTED.copy()
    expected[:, -1, ::2] = -1024
    np.testing.assert_array_equal(read_series(tmp_path / "ct").data, expected)


def test_padding_with_an_empty_limit_is_one_value(tmp_path: Path) -> None:
    for path in write_stack(tmp_path / "ct", torso()):
        slice_ = dcmread(path)
        stored = np.frombuffer(slice_.PixelData, "<i2").reshape(slice_.Rows, slice_.Columns).copy()
        stored[0], stored[1] = 30000, 29999
        slice_.PixelData = stored.tobytes()
        slice_.add_new("PixelPaddingValue", "SS", 30000)
        slice_.add_new("PixelPaddingRangeLimit", "SS", None)
        slice_.save_as(path)
    data = read_series(tmp_path / "ct").data
    assert (data[:, -1] == -1024).all()
    assert (data[:, -2] == 29999 - 1024).all()


def test_one_file_names_its_series(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", torso())
    other = write_stack(tmp_path / "ct", torso(seed=1), SeriesInstanceUID="1.9")
    with pytest.raises(
        ImageError, match=r"holds 2 series: 8 of CT, 16x20 \(1\.9image00\.dcm\); 8 of CT.* give one file"
    ):
        read_series(tmp_path / "ct")
    np.testing.assert_array_equal(read_series(other[3]).data, np.maximum(torso(seed=1), -1024))


def test_localisers_and_what_is_no_image_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_stack(tmp_path / "ct", torso())
    write_slice(tmp_path / "ct/scout.dcm", torso()[0], (0, 0, 0), ImageType=LOCALISER, SeriesInstanceUID="1.9")
    write_slice(tmp_path / "ct/report.dcm", torso()[0], (0, 0, 0), Rows=None, PixelData=None, Modality="SR")
    (tmp_path / "ct/README.txt").write_text("nothing")
    np.testing.assert_array_equal(read_series(tmp_path / "ct").data, EXPECTED)
    assert "localiser images are left out: scout.dcm" in caplog.text
    with pytest.raises(ImageError, match=r"scout\.dcm: holds nothing but localiser images"):
        read_series(tmp_path / "ct/scout.dcm")


def remove(*numbers: int) -> Callable[[list[Path]], None]:
    return lambda paths: [paths[number].unlink() for number in numbers] and None


def change(number: int, **tags: object) -> Callable[[list[Path]], None]:
    def apply(paths: list[Path]) -> None:
        slice_ = dcmread(paths[number])
        for tag, value in tags.items():
            setattr(slice_, tag, value)
        slice_.save_as(paths[number])

    return apply


def cut(paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove(3), "1 slices are missing in 1 places, .* 5 mm there, 2.5 mm elsewhere"),
        (remove(2, 3, 5), "3 slices are missing in 2 places"),
        (remove(1, 2, 3, 4, 5, 6, 7), "is the only image of its series"),
        (remove(*range(8)), "holds no DICOM images"),
        (change(4, ImagePositionPatient=[-7, -30, 107.5]), "lie at one position"),
        (change(4, ImagePositionPatient=[-7, -30, 110.8]), "not evenly spaced"),
        (change(4, ImagePositionPatient=[-3, -30, 110]), "mm off a straight line"),
        (change(4, PixelSpacing=[1.5, 0.8]), "its pixel spacing is 1.5x0.8, .* 1 of the 8 images"),
        (change(4, Rows=8), "its size is 8x20"),
        (change(4, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "its orientation is"),
        (change(4, Modality="MR"), "its modality is MR; CT is needed"),
        (change(4, SamplesPerPixel=3), "a colour image"),
        (change(4, PhotometricInterpretation="PALETTE COLOR"), "a colour image"),
        (change(4, NumberOfFrames=4), "holds 4 frames"),
        (change(4, ImagePositionPatient=None), "does not say its pixel spacing, orientation or position"),
        (change(4, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "orientation or pixel spacing is impossible"),
        (change(4, RescaleSlope=None), "has no rescale slope and intercept"),
        (cut, "its pixels cannot be read"),
        (lambda paths: paths[2].write_bytes(b"broken"), "no DICOM file, or its start is damaged"),
    ],
)
def test_bad_series_are_refused_without_a_word_of_the_patient(
    spoil: Callable[[list[Path]], None], says: str, tmp_path: Path
) -> None:
    spoil(write_stack(tmp_path / "ct", torso()))
    with pytest.raises(ImageError, match=says) as raised:
        read_series(tmp_path / "ct")
    assert SECRET not in str(raised.value)
    assert str(tmp_path / "ct") in str(raised.value)


def test_slices_in_hu_with_an_intercept_are_rescaled_twice(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", torso() - 1024)
    with pytest.raises(ImageError, match="applied twice"):
        read_series(tmp_path / "ct")


def test_a_tilted_gantry_is_sheared_upright(tmp_path: Path) -> None:
    # Rows move by one pixel (1.5 mm) from slice to slice against a body that stands straight.
    straight = np.repeat(torso((20, 16, 1)), 8, axis=2)
    write_stack(tmp_path / "ct", straight, step=(0, 1.5, 2.5))
    found = read_series(tmp_path / "ct")
    assert found.shape == (20, 16 + 7, 8)
    np.testing.assert_allclose(found.affine[:3, :3], np.diag([0.75, 1.5, 2.5]))
    np.testing.assert_allclose(found.affine @ [19, 22, 0, 1], (7, 30, 100, 1))
    for index in range(8):
        rows = slice(7 - index, 7 - index + 16)
        np.testing.assert_allclose(found.data[:, rows, index], np.maximum(straight[:, :, index], -1024), atol=1e-3)
        assert (np.delete(found.data[:, :, index], rows, axis=1) == -1024).all()


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_stack(tmp_path / "ct", torso())
    slice_ = dcmread(paths[0])
    slice_.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    slice_["PixelData"].is_undefined_length = True
    slice_.PixelData = encapsulate([b"\0" * 100])
    slice_.save_as(paths[0])
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(MissingPackageError, match="nothing is installed that decodes JPEG Lossless"):
        read_series(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackageError, match=r"voxmoe\[dicom\]"):
        read_series(tmp_path / "ct")


def test_jpeg_2000_is_the_series_that_was_compressed(tmp_path: Path) -> None:
    slices = torso().repeat(4, axis=0).repeat(4, axis=1)  # the codec halves them five times
    plain = read_series(write_stack(tmp_path / "plain", slices)[0].parent)
    for path in write_stack(tmp_path / "packed", slices):
        slice_ = dcmread(path)
        slice_.compress(JPEG2000Lossless)
        slice_.save_as(path)
        assert dcmread(path).file_meta.TransferSyntaxUID == JPEG2000Lossless
    packed = read_series(tmp_path / "packed")
    np.testing.assert_array_equal(packed.data, plain.data)
    assert packed.same_grid(plain)


@pytest.mark.real
def test_a_real_jpeg_2000_series_lies_on_the_grid_of_its_mask(real_data: Path) -> None:
    found = read_series(real_data / "ct/example_ct_dicom")
    mask = read_raw(real_data / "ct/example_seg_dicom.nii.gz")
    assert found.same_grid(mask)
    assert 30 < np.median(found.data[mask.data == 5]) < 200  # the liver
    assert found.data[mask.data == 20].mean() < found.data[mask.data == 5].mean()
