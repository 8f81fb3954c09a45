"""Samples for the eye: read from a study's files once, then from disk."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from changed_code import change_code

from conftest import make_study
from voxmoe.imaging import grid as grid_module
from voxmoe.imaging import study as study_module
from voxmoe.imaging import volume as volume_module
from voxmoe.imaging.grid import label_fractions, to_grid
from voxmoe.imaging.study import StudyFiles
from voxmoe.imaging.volume import write_volume
from voxmoe.model.vision import VisionSettings
from voxmoe.training import grids
from voxmoe.training.grids import sample_paths, samples_of

VISION = VisionSettings(grid=(8, 8, 8), patch=(2, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)
LABELS = {"ET": [3], "NETC": [1]}


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, StudyFiles]:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))
    files = {}
    for seed in range(2):
        study = make_study(seed=seed, id=f"s{seed}")
        assert study.mask is not None
        images = {modality: tmp_path / f"{study.id}-{modality}.nii" for modality in study.images}
        for modality, path in images.items():
            write_volume(study.images[modality], path)
        write_volume(study.mask, tmp_path / f"{study.id}-seg.nii")
        files[study.id] = StudyFiles(study.id, study.id, images, tmp_path / f"{study.id}-seg.nii")
    return files


def test_samples_are_the_studies_on_the_grid(studies: dict[str, StudyFiles]) -> None:
    samples = samples_of(studies, VISION, LABELS, quiet)
    assert len(samples) == 2
    study = make_study(seed=1)
    assert study.mask is not None
    gridded = to_grid(study, VISION.grid)
    np.testing.assert_allclose(samples[1].images.numpy(), gridded.images, atol=2.0**-11)
    fractions = label_fractions(study.mask.data, LABELS, gridded.box, VISION.patches)
    np.testing.assert_allclose(samples[1].fractions.numpy(), fractions, atol=2.0**-11)
    assert samples[1].images.dtype == torch.float32
    assert len(samples[:1]) == 1


def test_files_are_read_once_until_image_or_mask_change(
    studies: dict[str, StudyFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = samples_of(studies, VISION, LABELS, quiet)
    assert samples_of(studies, VISION, {"ET": [3]}, quiet).paths != before.paths
    mask = studies["s1"].mask
    other = make_study(seed=7).mask
    assert mask is not None
    assert other is not None
    write_volume(other, mask)
    after = samples_of(studies, VISION, LABELS, quiet)
    assert after.paths[0] == before.paths[0]
    assert after.paths[1] != before.paths[1]
    monkeypatch.setattr(grids, "load_study", None)
    assert samples_of(studies, VISION, LABELS, quiet).paths == after.paths


def test_where_samples_are_is_told_without_making_those_of_known_files_again(
    studies: dict[str, StudyFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sample_paths(studies, VISION, LABELS, quiet)
    assert all(path.is_file() for path in paths), "they were read, so they are kept"
    paths[0].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(grids, "load_study", None)
        assert sample_paths(studies, VISION, LABELS, quiet) == paths
    assert not paths[0].exists()
    assert samples_of(studies, VISION, LABELS, quiet).paths == paths
    assert paths[0].is_file()


@pytest.mark.parametrize("module", [grid_module, study_module, volume_module])
def test_other_code_makes_other_samples(
    module: ModuleType, studies: dict[str, StudyFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sample_paths(studies, VISION, LABELS, quiet)
    change_code(module, tmp_path, monkeypatch)
    assert not set(before) & set(sample_paths(studies, VISION, LABELS, quiet))
