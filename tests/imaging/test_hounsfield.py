"""Slope and intercept are applied once: what is in HU, what is not yet, and what was twice, are told apart."""

from pathlib import Path

import numpy as np
import pytest
from scanner import torso

from voxmoe.errors import ImageError
from voxmoe.imaging.hounsfield import Rescale, looks_like_ct, to_hounsfield
from voxmoe.imaging.volume import Volume, read_image

CTRATE = Rescale(1.0, -1024.0)


def volume(data: np.ndarray) -> Volume:
    return Volume(np.asfortranarray(data, np.float32), np.eye(4), "scan.nii.gz")


def padded(data: np.ndarray, value: float) -> np.ndarray:
    out = data.copy()
    out[:4] = value
    return out


@pytest.mark.parametrize("intercept", [-1024, -1000, -8192])
@pytest.mark.parametrize("slope", [1, 0.5, 2])
def test_stored_values_become_the_hu_that_they_stand_for(slope: float, intercept: float) -> None:
    stored = (torso() - intercept) / slope
    found = to_hounsfield(volume(stored), Rescale(float(slope), float(intercept)))
    np.testing.assert_allclose(found.data, np.maximum(torso(), -1024), atol=0.01)
    assert found.data.dtype == np.float32


def test_hu_stay_as_they_are_and_a_rescale_of_nothing_changes_nothing() -> None:
    expected = np.maximum(torso(), -1024)
    np.testing.assert_array_equal(to_hounsfield(volume(torso())).data, expected)
    np.testing.assert_array_equal(to_hounsfield(volume(torso()), Rescale(1.0, 0.0)).data, expected)


@pytest.mark.parametrize("padding", [-1500, -2000, -2048, -3024, -8192, -32768])
def test_padding_becomes_air(padding: float) -> None:
    found = to_hounsfield(volume(padded(torso(), padding)))
    np.testing.assert_array_equal(found.data, np.maximum(padded(torso(), -1024), -1024))


def test_padding_of_stored_values_becomes_air() -> None:
    found = to_hounsfield(volume(padded(torso() + 1024, -2000)), CTRATE)
    np.testing.assert_array_equal(found.data, np.maximum(padded(torso(), -1024), -1024))


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("rescale", [CTRATE, Rescale(1.0, -1000.0), Rescale(1.0, -8192.0)])
def test_a_second_rescale_is_refused_before_and_after(rescale: Rescale, clipped: bool) -> None:
    hu = np.clip(torso(), -1000, 1000) if clipped else torso()
    with pytest.raises(ImageError, match=r"scan\.nii\.gz: is in HU already .* leave them out"):
        to_hounsfield(volume(hu), rescale)
    with pytest.raises(ImageError, match=r"scan\.nii\.gz: slope and intercept seem to have been applied twice"):
        to_hounsfield(volume(hu + rescale.intercept))


def test_an_intercept_of_another_file_is_told_from_a_second_one() -> None:
    with pytest.raises(ImageError, match=r"applied twice.*leave out the slope 1 and intercept -3072"):
        to_hounsfield(volume(torso() + 1024), Rescale(1.0, -3072.0))


@pytest.mark.parametrize("shift", [0, 1000, 8192])
def test_what_is_not_in_hu_is_refused(shift: float) -> None:
    data = (torso() - torso().min()) / 4000 if shift == 0 else torso() + shift + 30
    assert not looks_like_ct(volume(data))
    with pytest.raises(ImageError, match=r"is no CT in HU: .* give the slope and intercept of its metadata"):
        to_hounsfield(volume(data))


def test_a_brain_mri_is_no_ct() -> None:
    generator = np.random.default_rng(0)
    mri = np.where(torso() > -500, generator.uniform(50, 900, torso().shape), 0)
    assert looks_like_ct(volume(torso()))
    assert not looks_like_ct(volume(mri))
    assert not looks_like_ct(volume((mri - mri.mean()) / mri.std()))


def test_a_row_of_metadata_gives_its_rescale() -> None:
    row = {"VolumeName": "valid_1_a_1.nii.gz", "RescaleIntercept": "-1024", "RescaleSlope": "1"}
    assert Rescale.of_row(row) == CTRATE
    for broken in ({"RescaleIntercept": ""}, {"RescaleSlope": "0"}, {"RescaleSlope": "nan"}):
        with pytest.raises(ImageError, match=r"(?i)slope"):
            Rescale.of_row({**row, **broken})


@pytest.mark.real
def test_real_brains_are_no_ct(real_data: Path) -> None:
    images = [*sorted(real_data.glob("brats/BraTS-GLI-00000-000/*t*.nii.gz")), *real_data.glob("own_scan/*.nii.gz")]
    assert len(images) > 6
    assert not any(looks_like_ct(read_image(path)) for path in images)
