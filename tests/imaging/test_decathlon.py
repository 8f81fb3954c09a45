"""Task01 of the Decathlon and nnU-Net raw data: which file or channel is what, and datasets that are not whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmoe.errors import ImageError, LabelError, StudyError
from voxmoe.imaging.layouts import find_studies, find_study, mask_alone, profile_named, require_profile
from voxmoe.imaging.places import Channel
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.imaging.volume import Volume, write_volumes
from voxmoe.vocabulary import Modality

TASK01 = {
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
}
NNUNET = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3},
    "file_ending": ".nii.gz",
}


def dataset(root: Path, files: list[str], description: Any = None) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if description is not None:
        (root / "dataset.json").write_text(json.dumps(description))
    return root


def task01(root: Path, description: Any = None) -> Path:
    names = ["imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz", "imagesTs/BRATS_485.nii.gz"]
    hidden = ["imagesTr/._BRATS_001.nii.gz", "labelsTr/._BRATS_001.nii.gz", "imagesTs/._BRATS_486.nii.gz"]
    return dataset(root, names + hidden, description)


def nnunet(root: Path, description: Any = None) -> Path:
    names = [f"imagesTr/case_a_{number:04d}.nii.gz" for number in range(4)]
    names += [f"imagesTs/BraTS-GLI-00005-100_{number:04d}.nii.gz" for number in range(3)]
    return dataset(root, [*names, "labelsTr/case_a.nii.gz"], description)


@pytest.mark.parametrize("description", [None, TASK01, {"labels": TASK01["labels"]}])
def test_task01_is_one_file_of_four_channels(description: Any, tmp_path: Path) -> None:
    root = task01(tmp_path / "Task01_BrainTumour", description)
    order = (Modality.FLAIR, Modality.T1, Modality.T1GD, Modality.T2)
    files = root / "imagesTr" / "BRATS_001.nii.gz", root / "imagesTs" / "BRATS_485.nii.gz"
    places = [{modality: Channel(file, index, 4) for index, modality in enumerate(order)} for file in files]
    msd, mask = profile_named("msd-task01"), root / "labelsTr" / "BRATS_001.nii.gz"
    assert find_studies(tmp_path) == [
        StudyFiles("BRATS_001", "BRATS_001", places[0], mask, msd),
        StudyFiles("BRATS_485", "BRATS_485", places[1], None, msd, held_out=True),
    ]
    assert find_study(root / "BRATS_001").mask == mask


def test_the_order_of_channels_is_what_the_table_says(tmp_path: Path) -> None:
    root = task01(tmp_path, {"modality": {"0": "T1", "1": "FLAIR"}})
    images = find_study(root / "BRATS_001").images
    assert images == {
        Modality.T1: Channel(root / "imagesTr" / "BRATS_001.nii.gz", 0, 2),
        Modality.FLAIR: Channel(root / "imagesTr" / "BRATS_001.nii.gz", 1, 2),
    }


def test_task01_with_labels_of_its_own(tmp_path: Path) -> None:
    root = task01(tmp_path / "Task01", {**TASK01, "labels": {"0": "background", "1": "cyst"}})
    profile = find_study(root / "BRATS_001").profile
    assert profile is not None
    assert (profile.name, profile.keys) == ("msd-task01:Task01", ("cyst",))


def test_four_digits_make_a_channel_not_a_case(tmp_path: Path) -> None:
    """BRATS_001_0000 is an nnU-Net copy of Task01."""
    names = [f"imagesTr/BRATS_001_{number:04d}.nii.gz" for number in range(4)]
    root = dataset(tmp_path / "Dataset001_X", [*names, "labelsTr/BRATS_001.nii.gz"], {**NNUNET, **TASK01})
    study = find_study(root)
    assert study.id == "BRATS_001"
    assert study.images[Modality.T1] == root / "imagesTr" / "BRATS_001_0000.nii.gz"


def test_nnunet_is_a_file_a_channel(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "nnUNet_raw" / "Dataset007_Glioma", NNUNET)
    held_out, case = find_studies(tmp_path)
    assert (case.id, case.patient, case.mask) == ("case_a", "case_a", root / "labelsTr" / "case_a.nii.gz")
    assert case.images == {
        modality: root / "imagesTr" / f"case_a_{number:04d}.nii.gz" for number, modality in enumerate(Modality)
    }
    assert (held_out.id, held_out.patient) == ("BraTS-GLI-00005-100", "BraTS-GLI-00005")
    assert (held_out.mask, held_out.held_out, len(held_out.images)) == (None, True, 3)
    assert case.profile is not None
    assert case.profile.name == "nnunet:Dataset007_Glioma"
    assert {label.name: label.values for label in case.profile.labels} == {
        "whole tumor": (1, 2, 3),
        "tumor core": (2, 3),
        "enhancing tumor": (3,),
    }


def test_a_test_case_with_a_mask_is_a_study_like_any_other(tmp_path: Path) -> None:
    dataset(nnunet(tmp_path, NNUNET), ["labelsTs/BraTS-GLI-00005-100.nii.gz"])
    study = find_study(tmp_path / "BraTS-GLI-00005-100")
    assert (study.mask, study.held_out) == (tmp_path / "labelsTs" / "BraTS-GLI-00005-100.nii.gz", False)


def test_the_named_profile_wins_but_nnunet_names_the_datasets_own(tmp_path: Path) -> None:
    nnunet(tmp_path, NNUNET)
    own = find_study(tmp_path / "case_a")
    assert find_study(tmp_path / "case_a", "goat").profile == profile_named("goat-2024")
    assert find_study(tmp_path / "case_a", "nnunet") == own
    assert require_profile(own, "nnunet").profile == own.profile
    assert require_profile(own, "goat").profile == profile_named("goat-2024")


def test_a_dataset_that_does_not_say_its_labels(tmp_path: Path) -> None:
    nnunet(tmp_path, {"channel_names": NNUNET["channel_names"]})
    with pytest.raises(LabelError, match=r"case_a: .*--profile \(.*\), or in the dataset itself \(dataset\.json"):
        require_profile(find_study(tmp_path / "case_a"), "nnunet")


def test_a_mask_alone_takes_the_labels_of_its_dataset(tmp_path: Path) -> None:
    root = nnunet(tmp_path, NNUNET)
    assert mask_alone(root / "labelsTr" / "case_a.nii.gz").profile == find_study(root / "case_a").profile
    other = task01(tmp_path / "other")
    mask = mask_alone(other / "labelsTr" / "BRATS_001.nii.gz")
    assert (mask.id, mask.profile) == ("BRATS_001", profile_named("msd-task01"))


def test_nnunet_without_its_description(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"dataset\.json: no such file; it says which channel is which modality"):
        find_studies(nnunet(tmp_path))


def test_nnunet_without_channel_names(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r'dataset\.json: has no "channel_names"'):
        find_studies(nnunet(tmp_path, {"labels": {"a": 1}}))


def test_a_channel_that_is_not_declared(tmp_path: Path) -> None:
    nnunet(tmp_path, {**NNUNET, "channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}})
    with pytest.raises(StudyError) as error:
        find_studies(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/imagesTr/case_a_0003.nii.gz: dataset.json declares no channel 0003; there are 0000 T1, 0001 T2, "
        "0002 FLAIR"
    )


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("imagesTr/case_a_0001.nii", "the T1Gd image of case_a"),
        ("labelsTr/case_a.nii", "the mask of case_a"),
    ],
)
def test_both_storage_forms_of_one_role(name: str, meaning: str, tmp_path: Path) -> None:
    dataset(nnunet(tmp_path, NNUNET), [name])
    with pytest.raises(StudyError, match=rf"\.nii and .*\.nii\.gz both claim to be {meaning}; keep one of them"):
        find_studies(tmp_path)


def test_both_storage_forms_of_a_4d_file(tmp_path: Path) -> None:
    dataset(task01(tmp_path), ["imagesTr/BRATS_001.nii"])
    with pytest.raises(
        StudyError, match=r"BRATS_001\.nii and BRATS_001\.nii\.gz both claim to be the images of BRATS_001"
    ):
        find_studies(tmp_path)


def test_a_case_in_both_folders(tmp_path: Path) -> None:
    dataset(task01(tmp_path), ["imagesTs/BRATS_001.nii.gz"])
    with pytest.raises(StudyError, match=r"study BRATS_001 lies in .*imagesTr and .*imagesTs; keep one of them"):
        find_studies(tmp_path)


def test_the_folder_of_images_is_no_dataset(tmp_path: Path) -> None:
    task01(tmp_path, TASK01)
    with pytest.raises(
        StudyError, match=r"no study found; .*datasets of the Decathlon's Task01, of nnU-Net and BIDS are"
    ):
        find_studies(tmp_path / "imagesTr")


def test_other_tasks_of_the_decathlon_are_passed_over(tmp_path: Path) -> None:
    dataset(tmp_path / "Task02_Heart", ["imagesTr/la_003.nii.gz"], {"modality": {"0": "MRI"}})
    task01(tmp_path / "Task01_BrainTumour", TASK01)
    assert [study.id for study in find_studies(tmp_path)] == ["BRATS_001", "BRATS_485"]


def brain(value: float) -> Volume:
    return Volume(np.full((3, 4, 5), value, np.int16), np.eye(4))


def written(root: Path, channels: int) -> Path:
    task01(root, TASK01)
    write_volumes([brain(10 + index) for index in range(channels)], root / "imagesTr" / "BRATS_001.nii.gz")
    write_volumes([brain(2)], root / "labelsTr" / "BRATS_001.nii.gz")
    return root


def test_each_modality_is_its_channel(tmp_path: Path) -> None:
    study = load_study(find_study(written(tmp_path, 4) / "BRATS_001"), with_mask=True)
    assert {modality: float(volume.data.mean()) for modality, volume in study.images.items()} == {
        Modality.T1: 11,
        Modality.T1GD: 12,
        Modality.T2: 13,
        Modality.FLAIR: 10,
    }
    assert study.mask is not None
    assert study.images[Modality.T1].source.endswith("BRATS_001.nii.gz#1")


@pytest.mark.parametrize(("channels", "shape"), [(1, "3x4x5"), (3, "3x4x5x3"), (5, "3x4x5x5")])
def test_a_file_of_other_channels_than_declared(channels: int, shape: str, tmp_path: Path) -> None:
    files = find_study(written(tmp_path, channels) / "BRATS_001")
    with pytest.raises(ImageError) as error:
        load_study(files)
    assert str(error.value) == (
        f"{tmp_path}/imagesTr/BRATS_001.nii.gz: has the shape {shape}; a 4D file of 4 channels is needed here"
    )


def test_a_value_that_the_table_does_not_name(tmp_path: Path) -> None:
    written(tmp_path, 4)
    (tmp_path / "dataset.json").write_text(json.dumps({**TASK01, "labels": {"1": "edema"}}))
    with pytest.raises(LabelError) as error:
        load_study(find_study(tmp_path / "BRATS_001"), with_mask=True)
    assert str(error.value) == (
        f"{tmp_path}/labelsTr/BRATS_001.nii.gz: label value 2 is not in {tmp_path}/dataset.json (0 background, 1 ED); "
        f"mend {tmp_path}/dataset.json, or name the mask's own release with --profile"
    )
