"""A CT reads the same from NIfTI and DICOM; M3D's arrays keep their pictures and say that they have no HU."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scanner import torso, write_stack

from voxmoe.errors import ImageError
from voxmoe.imaging.ct import GreyVolume, read_array, read_ct
from voxmoe.imaging.hounsfield import Rescale, looks_like_ct
from voxmoe.imaging.volume import Volume, read_raw, write_volume
from voxmoe.imaging.windows import PictureSettings, windowed

EXPECTED = np.maximum(torso(), -1024)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL"])
def test_nifti_in_any_order_is_hu_in_ras(axes: str, tmp_path: Path) -> None:
    affine = np.diag([0.75, 1.5, 2.5, 1])
    write_volume(Volume(torso(), affine, axes=axes), tmp_path / "ct.nii.gz")
    found = read_ct(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(found.data, EXPECTED)
    np.testing.assert_allclose(found.affine, affine, atol=1e-6)


def test_the_slope_of_a_header_is_applied_once_and_no_other_after_it(tmp_path: Path) -> None:
    image = nib.Nifti1Image((torso() + 1024).astype(np.int16), np.eye(4))
    content = bytearray(image.to_bytes())
    slope = nib.Nifti1Header.template_dtype.fields["scl_slope"][1]
    content[slope : slope + 8] = np.array([1, -1024], np.float32).tobytes()
    (tmp_path / "scaled.nii").write_bytes(content)
    np.testing.assert_array_equal(read_ct(tmp_path / "scaled.nii").data, EXPECTED)
    with pytest.raises(ImageError, match=r"scaled\.nii: is in HU already"):
        read_ct(tmp_path / "scaled.nii", Rescale(1.0, -1024.0))


def test_stored_values_need_the_rescale_of_their_table(tmp_path: Path) -> None:
    path = tmp_path / "train_1_a_1.nii.gz"
    nib.save(nib.Nifti1Image((torso() + 1024).astype(np.int16), np.eye(4)), path)
    with pytest.raises(ImageError, match=r"train_1_a_1\.nii\.gz: is no CT in HU"):
        read_ct(path)
    np.testing.assert_array_equal(read_ct(path, Rescale(1.0, -1024.0)).data, EXPECTED)


def test_dicom_and_nifti_of_one_scan_read_alike(tmp_path: Path) -> None:
    write_stack(tmp_path / "series", torso())
    series = read_ct(tmp_path / "series")
    write_volume(series, tmp_path / "ct.nii.gz")
    image = read_ct(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(series.data, image.data)
    assert series.same_grid(image)
    with pytest.raises(ImageError, match="DICOM files bring their own; leave out"):
        read_ct(tmp_path / "series", Rescale(1.0, -1024.0))


@pytest.mark.parametrize("leading", [(1,), ()])
def test_an_array_comes_back_as_the_pictures_that_it_holds(leading: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((*leading, 5, 12, 12), dtype=np.float32)
    np.save(tmp_path / "scan.npy", array)
    found = read_ct(tmp_path / "scan.npy")
    assert isinstance(found, GreyVolume)
    assert not looks_like_ct(found)
    pictures = windowed(found, PictureSettings(windows=(), size=12, depth=5))
    np.testing.assert_allclose(pictures[:, 0], array.reshape(5, 12, 12), atol=1e-6)
    with pytest.raises(ImageError, match=r"scan\.npy: M3D's arrays have no HU; leave out"):
        read_ct(tmp_path / "scan.npy", Rescale(1.0, -1024.0))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((4, 4)), "4x4"),
        (np.ones((2, 3, 4, 4)), "2x3x4x4"),
        (np.zeros((1, 3, 4, 4)), "go from 0 to 0"),
        (np.linspace(-1000, 500, 48).reshape(1, 3, 4, 4), "a CT in HU is read from NIfTI or DICOM"),
        (np.full((1, 3, 4, 4), np.nan), "from nan"),
        (np.full((1, 3, 4, 4), "text"), "an array of <U4"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", array)
    with pytest.raises(ImageError, match=rf"scan\.npy: .*{says}"):
        read_array(tmp_path / "scan.npy")


def test_a_tilted_gantry_is_said(tmp_path: Path) -> None:
    affine = np.diag([0.75, 1.5, 2.5, 1])
    for degrees, refused in ((0.5, False), (12, True)):
        affine[1, 2] = 2.5 * np.tan(np.radians(degrees))
        nib.save(nib.Nifti1Image(torso().astype(np.float32), affine), tmp_path / "ct.nii.gz")
        if refused:
            with pytest.raises(ImageError, match=r"ct.nii.gz: its axes stand 78 degrees to one another.*DICOM series"):
                read_ct(tmp_path / "ct.nii.gz")
        else:
            np.testing.assert_array_equal(read_ct(tmp_path / "ct.nii.gz").data, EXPECTED)


def test_a_slice_that_was_lost_is_named_and_padding_is_not(tmp_path: Path) -> None:
    hu, grey = torso().astype(np.float32), np.random.default_rng(0).random((1, 8, 6, 6)).astype(np.float32)
    for lost, says in (
        ((0, -1), None),
        ((3,), r"axial slice 4 of 8, counted from below, has a single"),
        ((2, 5), r"axial slice 3 of 8, counted from below, and 1 more has"),
    ):
        for name, data in (("ct.nii.gz", hu.copy()), ("ct.npy", grey.copy())):
            for place in lost:
                if name.endswith("npy"):
                    data[:, place] = 0
                else:
                    data[:, :, place] = -1024
            if name.endswith("npy"):
                np.save(tmp_path / name, data)
            else:
                write_volume(Volume(data, np.diag([0.75, 1.5, 2.5, 1])), tmp_path / name)
            if says is None:
                read_ct(tmp_path / name)
            else:
                with pytest.raises(ImageError, match=rf"{name}: {says}"):
                    read_ct(tmp_path / name)


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "cut.npy", np.random.default_rng(0).random((1, 3, 8, 8)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:300])
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("cut.npy", "pickled.npy"):
        with pytest.raises(ImageError, match=rf"{name}: not a whole \.npy file"):
            read_ct(tmp_path / name)
    for name in ("missing.npy", "missing.nii.gz"):
        with pytest.raises(ImageError, match=f"{name}: no such file"):
            read_ct(tmp_path / name)


@pytest.mark.real
def test_organs_of_a_real_ct_have_their_hu(real_data: Path) -> None:
    found = read_ct(real_data / "ct/example_ct_sm.nii.gz")
    mask = read_raw(real_data / "ct/example_seg.nii.gz")
    assert found.same_grid(mask)
    medians = {organ: np.median(found.data[mask.data == value]) for organ, value in (("spleen", 1), ("liver", 5))}
    assert all(30 < median < 200 for median in medians.values())
    assert found.data.min() == -1024
    with pytest.raises(ImageError, match="is in HU already"):
        read_ct(real_data / "ct/example_ct_sm.nii.gz", Rescale(1.0, -1024.0))
