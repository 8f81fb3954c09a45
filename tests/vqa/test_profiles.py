"""Every profile from end to end: its phantoms are written, found again, loaded, measured, and lead to a dataset whose
rows lead back to the files."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from voxmoe.errors import DatasetError
from voxmoe.imaging import atlas, spaces
from voxmoe.imaging.layouts import find_studies, find_study, require_profile
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.phantoms import Phantom, cohort, write_cohort
from voxmoe.imaging.spaces import SRI24
from voxmoe.imaging.study import Study, load_study
from voxmoe.imaging.volume import Volume, read_raw
from voxmoe.model.vision import VisionSettings
from voxmoe.training.grids import samples_of
from voxmoe.training.studies import study_files
from voxmoe.vocabulary import PROFILES, PROFILES_BY_NAME, Modality, Profile
from voxmoe.vqa.audit import audit
from voxmoe.vqa.dataset import SPLITS, Dataset, build_dataset, open_dataset
from voxmoe.vqa.export import export_dataset
from voxmoe.vqa.measure import measure
from voxmoe.vqa.protocol import PAPER_V2

OWN_LAYOUT = ("msd-task01", "nnunet", "bids")


SMALL = replace(SRI24, shape=(48, 48, 31), affine=SRI24.affine @ np.diag([5.0, 5, 5, 1]))
"""The space of SRI24 in voxels of 5 mm."""


@pytest.fixture(autouse=True)
def _small_and_drawn_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "draw_phantom", block_phantom)
    for module in (spaces, atlas):
        monkeypatch.setattr(module, "SPACES", (SMALL,))


def block_phantom(profile: Profile, seed: int, index: int, masks: None = None) -> Phantom:
    """A brain that is a block, with noise of its own in each modality, and every label of the profile as a block in
    it."""
    name = naming_for(profile).study_id(index)
    mask = np.zeros(SMALL.shape, np.uint8, order="F")
    images = {}
    for number, modality in enumerate(profile.modalities):
        data = np.zeros(SMALL.shape, np.uint8, order="F")
        coarse = np.random.default_rng([seed, index, number]).integers(1, 250, (6, 6, 6), dtype=np.uint8)
        data[12:36, 12:36, 4:28] = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        images[modality] = Volume(data, SMALL.affine, f"{name} {modality}", SMALL.axes)
    for number, label in enumerate(profile.labels):
        start = 13 + 5 * number
        mask[start : start + label.value, 15 + index : 25 + index, 10:20] = label.value
    truth = {"id": name, "voxels": {label.key: 100 * label.value for label in profile.labels}}
    return Phantom(Study(name, images, Volume(mask, SMALL.affine, f"{name} mask", SMALL.axes)), profile, truth)


def written(folder: Path, profile: Profile, n: int = 1) -> Path:
    write_cohort(folder, n, profile, seed=5)
    return folder


def rows_of(dataset: Dataset) -> list[dict]:
    return [row for split in SPLITS for row in dataset.rows(split)]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_from_phantoms_to_questions(profile: Profile, tmp_path: Path) -> None:
    written(tmp_path / "cohort", profile)
    expected = block_phantom(profile, 5, 0)
    (files,) = find_studies(tmp_path / "cohort", profile.name)
    assert files.id == expected.study.id
    study = load_study(require_profile(files, profile.name), with_mask=True)
    assert study.modalities == profile.modalities
    for modality, image in expected.study.images.items():
        np.testing.assert_array_equal(study.images[modality].data, image.data)
        assert study.images[modality].axes == image.axes
    assert study.mask is not None
    assert expected.study.mask is not None
    np.testing.assert_array_equal(study.mask.data, expected.study.mask.data)

    report = build_dataset(tmp_path / "cohort", tmp_path / "out", PAPER_V2, profile=profile.name)
    dataset = open_dataset(tmp_path / "out")
    assert (report.skipped, sum(report.questions.values())) == ({}, 6 * len(profile.labels))
    assert dataset.label_values == {label.key: [label.value] for label in profile.labels}
    rows = rows_of(dataset)
    assert Counter((row["label"], row["label_name"]) for row in rows) == {
        (label.key, label.name): 6 for label in profile.labels
    }
    (record,) = json.loads((tmp_path / "out" / "meta" / "studies.json").read_text())
    found = {key: label["volume_mm3"] for key, label in record["findings"]["labels"].items()}
    assert found == pytest.approx({key: 125 * voxels for key, voxels in expected.truth["voxels"].items()})
    again = load_study(dataset.study_files(rows[0]), with_mask=True)
    assert again.modalities == profile.modalities
    for modality, image in study.images.items():
        np.testing.assert_array_equal(again.images[modality].data, image.data)


@pytest.mark.parametrize("name", OWN_LAYOUT)
def test_a_dataset_of_a_layout_of_its_own(name: str, tmp_path: Path) -> None:
    """The layout decides the profile, and all that reads the files of a dataset finds them."""
    profile = PROFILES_BY_NAME[name]
    root = written(tmp_path / "cohort", profile, n=2)
    report = build_dataset(root, tmp_path / "out", PAPER_V2, strict=True)
    dataset = open_dataset(tmp_path / "out")
    assert report.studies == 2
    (decided,) = dataset.manifest["profiles"]
    assert decided == name if name == "msd-task01" else decided.startswith(f"{name}:")
    rows = rows_of(dataset)
    files = study_files(dataset, rows)
    vision = VisionSettings(grid=(6, 12, 12), patch=(1, 1, 1), pool=(1, 1, 1), hidden=8, layers=1, heads=1, mlp=8)
    for sample in samples_of(files, vision, dataset.label_values, lambda stage, done, total: None):
        assert sample.present.all()
        assert (sample.fractions.flatten(1).amax(dim=1) > 0).all()
    checked = audit([dataset])
    assert (checked.images, checked.leaks, checked.duplicates) == (8, (), ())
    first = next(iter(files))
    folder = root / Path(naming_for(profile).mask).parts[0]
    found = measure(folder / first)
    assert {key: label.voxels for key, label in found.labels.items()} == block_phantom(profile, 5, 0).truth["voxels"]
    mask = find_study(folder / first).mask
    assert mask is not None
    assert measure(mask).profile == decided


def test_channels_are_embedded_as_files_of_their_own(tmp_path: Path) -> None:
    root = written(tmp_path / "cohort", PROFILES_BY_NAME["msd-task01"])
    build_dataset(root, tmp_path / "out", PAPER_V2)
    dataset = open_dataset(tmp_path / "out")
    export_dataset(dataset, tmp_path / "embedded", "nifti")
    (row,) = pq.read_table(tmp_path / "embedded" / "studies" / "train-00000-of-00001.parquet").to_pylist()
    expected = block_phantom(PROFILES_BY_NAME["msd-task01"], 5, 0)
    for index, modality in enumerate((Modality.FLAIR, Modality.T1, Modality.T1GD, Modality.T2)):
        assert row[modality]["path"] == f"BRATS_000_{index:04d}.nii.gz"
        (tmp_path / "alone.nii.gz").write_bytes(row[modality]["bytes"])
        np.testing.assert_array_equal(read_raw(tmp_path / "alone.nii.gz").data, expected.study.images[modality].data)
    with pytest.raises(DatasetError, match=r"BRATS_000\.nii\.gz#2: is a channel of a 4D file, where this layout has a"):
        export_dataset(dataset, tmp_path / "mpllm", "mpllm")


def test_a_copied_channel_is_a_leak(tmp_path: Path) -> None:
    root = written(tmp_path / "cohort", PROFILES_BY_NAME["msd-task01"], n=2)
    images = root / "Task01_BrainTumour" / "imagesTr"
    shutil.copy(images / "BRATS_000.nii.gz", images / "BRATS_001.nii.gz")
    build_dataset(root, tmp_path / "out", PAPER_V2)
    (leak,) = audit([open_dataset(tmp_path / "out")]).leaks
    assert leak.shared == {"file": tuple(map(str, Modality))}
    prints = json.loads((tmp_path / "out" / "meta" / "fingerprints.json").read_text())["fingerprints"]
    assert sorted(key.partition("#")[2] for key in prints) == ["0", "1", "2", "3"]


def test_test_cases_are_no_lack_of_a_cohort(tmp_path: Path) -> None:
    root = written(tmp_path / "cohort", PROFILES_BY_NAME["nnunet"])
    dataset = root / "Dataset001_Phantom"
    (dataset / "imagesTs").mkdir()
    for number in range(4):
        shutil.copy(
            dataset / "imagesTr" / f"VOX_000_000{number}.nii.gz", dataset / "imagesTs" / f"NEW_000{number}.nii.gz"
        )
    assert len(find_studies(root)) == 2
    report = build_dataset(root, tmp_path / "out", PAPER_V2, strict=True)
    assert (report.studies, report.skipped) == (1, {})
    shutil.rmtree(dataset / "imagesTr")
    with pytest.raises(DatasetError, match="holds 1 test cases and no mask; nothing can be asked without masks"):
        build_dataset(root, tmp_path / "none", PAPER_V2)


def test_regions_of_an_nnunet_dataset_are_labels_that_overlap(tmp_path: Path) -> None:
    root = written(tmp_path / "cohort", PROFILES_BY_NAME["nnunet"])
    path = root / "Dataset001_Phantom" / "dataset.json"
    said = json.loads(path.read_text())
    said["labels"] = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    path.write_text(json.dumps(said))
    build_dataset(root, tmp_path / "out", PAPER_V2)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.label_values == {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    found = measure(root / "Dataset001_Phantom").labels
    assert {key: label.voxels for key, label in found.items()} == {
        "whole tumor": 100 + 200 + 300,
        "tumor core": 200 + 300,
        "enhancing tumor": 300,
    }
    assert any("whole tumor" in row["question"] for row in rows_of(dataset))
