"""What belongs together makes a study; what does not is refused with the names of both files."""

from pathlib import Path

import numpy as np
import pytest

from conftest import make_study
from voxmoe.errors import ImageError, LabelError, StudyError
from voxmoe.imaging.study import Study, StudyFiles, check_labels, load_study
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import PROFILES_BY_NAME, Modality


def written(folder: Path, profile: str | None = "gli-2024") -> StudyFiles:
    study = make_study()
    images = {modality: folder / f"study-{modality}.nii.gz" for modality in study.images}
    for modality, path in images.items():
        write_volume(study.images[modality], path)
    assert study.mask is not None
    write_volume(study.mask, folder / "study-seg.nii.gz")
    chosen = PROFILES_BY_NAME[profile] if profile else None
    return StudyFiles("study", "patient", images, folder / "study-seg.nii.gz", chosen)


def test_loads_what_was_written(tmp_path: Path) -> None:
    expected, found = make_study(), load_study(written(tmp_path), with_mask=True)
    assert found.modalities == tuple(Modality)
    for modality in Modality:
        np.testing.assert_array_equal(found.images[modality].data, expected.images[modality].data)
    assert found.mask is not None
    assert expected.mask is not None
    np.testing.assert_array_equal(found.mask.data, expected.mask.data)
    assert load_study(written(tmp_path)).mask is None


def test_modalities_keep_the_order_of_the_vocabulary() -> None:
    study = make_study(modalities=(Modality.FLAIR, Modality.T1GD))
    assert study.modalities == (Modality.T1GD, Modality.FLAIR)


def test_foreground_is_where_any_modality_is_not_zero() -> None:
    one, other = np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), np.float32)
    one[0, 0, 0], other[2, 1, 0] = 5, -3
    study = Study("s", {Modality.T1: Volume(one, np.eye(4)), Modality.T2: Volume(other, np.eye(4))})
    assert np.argwhere(study.foreground).tolist() == [[0, 0, 0], [2, 1, 0]]


@pytest.mark.parametrize("what", ["shape", "spacing", "origin"])
@pytest.mark.parametrize("role", ["t2", "seg"])
def test_files_on_different_grids_are_refused(what: str, role: str, tmp_path: Path) -> None:
    files = written(tmp_path)
    path = files.mask if role == "seg" else files.images[Modality.T2]
    assert path is not None
    affine = np.eye(4)
    if what == "spacing":
        affine[1, 1] = 1.1
    elif what == "origin":
        affine[2, 3] = 2
    shape = (24, 28, 21) if what == "shape" else (24, 28, 20)
    write_volume(Volume(np.ones(shape, np.uint8), affine), path)
    with pytest.raises(StudyError) as error:
        load_study(files, with_mask=True)
    message = str(error.value)
    assert message.startswith(f"{path}: lies on another grid than {files.images[Modality.T1]}: ")
    assert message.endswith("register and resample all files of a study to one grid first")


def test_axis_orders_may_differ(tmp_path: Path) -> None:
    files = written(tmp_path)
    flair = make_study().images[Modality.FLAIR]
    write_volume(Volume(flair.data, flair.affine, axes="PIL"), files.images[Modality.FLAIR])
    np.testing.assert_array_equal(load_study(files).images[Modality.FLAIR].data, flair.data)


def test_label_outside_the_profile(tmp_path: Path) -> None:
    files = written(tmp_path)
    mask = np.zeros((24, 28, 20), np.uint8)
    mask[3, 3, 3], mask[4, 4, 4] = 4, 7
    assert files.mask is not None
    write_volume(Volume(mask, np.eye(4)), files.mask)
    with pytest.raises(LabelError) as error:
        load_study(files, with_mask=True)
    assert str(error.value) == (
        f"{files.mask}: label value 7 is not in profile gli-2024 (0 background, 1 NETC, 2 SNFH, 3 ET, 4 RC); "
        "name the mask's own release with --profile"
    )


@pytest.mark.parametrize(
    ("profile", "key"), [("brats-2021", "ET"), ("gli-2024", "RC"), ("ped-2024", "ED"), ("met-2025", "RC")]
)
def test_label_4_means_what_the_profile_says(profile: str, key: str) -> None:
    mask = Volume(np.full((2, 2, 2), 4, np.uint8), np.eye(4))
    check_labels(mask, PROFILES_BY_NAME[profile])
    assert PROFILES_BY_NAME[profile].by_value[4].key == key


@pytest.mark.parametrize("profile", ["gli-2023", "met-2024", "goat-2024", "ssa-2023", "ped-2023", "men-2023"])
def test_label_4_is_unknown_elsewhere(profile: str) -> None:
    mask = Volume(np.full((2, 2, 2), 4, np.uint8), np.eye(4), "the mask")
    with pytest.raises(LabelError, match=f"the mask: label value 4 is not in profile {profile}"):
        check_labels(mask, PROFILES_BY_NAME[profile])


def test_without_image_or_mask(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="study: no image; at least one of T1, T1Gd, T2, FLAIR is needed"):
        Study("study", {})
    files = written(tmp_path)
    with pytest.raises(StudyError, match="study: has no mask"):
        load_study(StudyFiles("study", "patient", files.images), with_mask=True)


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    files = written(tmp_path)
    files.images[Modality.T1GD].unlink()
    with pytest.raises(ImageError, match=r"study-T1Gd\.nii\.gz: no such file"):
        load_study(files)
