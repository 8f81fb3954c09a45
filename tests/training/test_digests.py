"""Images are known by what they hold, and files are read again only when they have changed."""

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from changed_code import change_code

from conftest import make_study
from voxmoe.imaging import places as places_module
from voxmoe.imaging import volume as volume_module
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.training.digests import FileStates, files_of, study_digests, volume_digest
from voxmoe.vocabulary import Modality


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    study = make_study()
    paths = {modality: tmp_path / f"{modality}.nii" for modality in study.images}
    for modality, path in paths.items():
        write_volume(study.images[modality], path)
    assert study.mask is not None
    write_volume(study.mask, tmp_path / "seg.nii")
    return StudyFiles("study", "patient", paths, tmp_path / "seg.nii")


def test_the_digest_is_that_of_the_voxels(tmp_path: Path) -> None:
    volume = make_study().images[Modality.T1]
    digest = volume_digest(volume)
    for number, axes in enumerate(("RAS", "LPS", "SAR")):
        path = tmp_path / f"{number}.nii{'.gz' if number else ''}"
        write_volume(replace(volume, axes=axes), path)
        images = {Modality.T1: path}
        assert study_digests(load_study(StudyFiles("x", "x", images)))["T1"] == digest
    data = volume.data.copy(order="F")
    data[3, 4, 5] += 1
    assert volume_digest(replace(volume, data=data)) != digest
    assert volume_digest(replace(volume, data=np.ascontiguousarray(volume.data))) == digest
    reshaped = volume.data.reshape(volume.shape[::-1], order="F")
    assert volume_digest(Volume(reshaped, volume.affine)) != digest
    assert volume_digest(replace(volume, affine=volume.affine @ np.diag([2, 1, 1, 1]))) != digest  # a view turns in mm


def test_the_mask_counts_only_where_it_is_wanted() -> None:
    study = make_study()
    assert study_digests(study).keys() == {"T1", "T1Gd", "T2", "FLAIR"}
    assert study_digests(study, with_mask=True).keys() == {"T1", "T1Gd", "T2", "FLAIR", "mask"}


def test_a_digest_is_remembered_until_the_file_changes(files: StudyFiles) -> None:
    paths = files_of(files, with_mask=True)
    assert paths["mask"] == files.mask
    states = FileStates(paths)
    assert states.remembered() is None
    digests = study_digests(load_study(files, with_mask=True), with_mask=True)
    states.remember(digests)
    assert FileStates(paths).remembered() == digests
    assert FileStates(files_of(files)).remembered() == {role: digests[role] for role in files_of(files)}
    changed = files.images[Modality.T2]
    os.utime(changed, ns=(0, changed.stat().st_mtime_ns + 1))
    assert FileStates(paths).remembered() is None


def test_a_file_that_changes_while_it_is_read_is_not_remembered(files: StudyFiles) -> None:
    states = FileStates(files_of(files))
    digests = study_digests(load_study(files))
    with files.images[Modality.T1].open("ab") as stream:
        stream.write(b"x")
    states.remember(digests)
    assert FileStates(files_of(files)).remembered() is None


def test_a_file_as_image_and_as_mask_is_two_things(files: StudyFiles) -> None:
    assert files.mask is not None
    as_mask = FileStates({"mask": files.mask})
    as_mask.remember({"mask": "of the mask"})
    assert FileStates({"T1": files.mask}).remembered() is None


@pytest.mark.parametrize("module", [volume_module, places_module])
def test_a_digest_is_remembered_until_the_reader_changes(
    module: ModuleType, files: StudyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileStates(files_of(files)).remember(study_digests(load_study(files)))
    assert FileStates(files_of(files)).remembered() is not None
    change_code(module, tmp_path, monkeypatch)
    assert FileStates(files_of(files)).remembered() is None
