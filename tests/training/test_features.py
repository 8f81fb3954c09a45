"""Features: the same from the cache as computed anew, found by content, variants drawn alike for all modalities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import make_study
from voxmoe.imaging.grid import to_grid
from voxmoe.imaging.study import StudyFiles
from voxmoe.imaging.transforms import AugmentSettings, draw_transform
from voxmoe.imaging.volume import write_volume
from voxmoe.model.vision import VisionEncoder, VisionSettings
from voxmoe.training import features as module
from voxmoe.training.features import encoder_digest, features_of, study_features
from voxmoe.training.store import FeatureStore
from voxmoe.vocabulary import Modality

SETTINGS = VisionSettings(grid=(4, 8, 8), patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)


@pytest.fixture
def encoder() -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(SETTINGS).eval()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, StudyFiles]:
    found = {}
    for seed, modalities in ((1, tuple(Modality)), (2, (Modality.T1, Modality.FLAIR))):
        study = make_study(seed=seed, modalities=modalities)
        paths = {}
        for modality, volume in study.images.items():
            paths[modality] = tmp_path / f"s{seed}" / f"s{seed}-{modality.lower()}.nii.gz"
            write_volume(volume, paths[modality])
        found[f"s{seed}"] = StudyFiles(f"s{seed}", f"s{seed}", paths)
    return found


def test_cached_is_computed(encoder: VisionEncoder, files: dict[str, StudyFiles], tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    found = study_features(encoder, SETTINGS.grid, files, store=store, jobs=1)
    for seed, modalities in ((1, tuple(Modality)), (2, (Modality.T1, Modality.FLAIR))):
        gridded = to_grid(make_study(seed=seed, modalities=modalities), SETTINGS.grid)
        with torch.no_grad():
            cls, tokens, _ = encoder(torch.from_numpy(gridded.images[gridded.present])[:, None])
        seen = found[f"s{seed}"]
        assert torch.equal(seen.present, torch.from_numpy(gridded.present))
        torch.testing.assert_close(seen.tokens[seen.present], tokens)
        torch.testing.assert_close(seen.cls[seen.present], cls)
        assert not seen.tokens[~seen.present].any()


def test_a_second_time_nothing_is_read_or_encoded(
    encoder: VisionEncoder, files: dict[str, StudyFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "store")
    first = study_features(encoder, SETTINGS.grid, files, store=store, jobs=1)
    monkeypatch.setattr(module, "load_study", None)
    second = study_features(encoder, SETTINGS.grid, files, store=store, jobs=1)
    assert first.keys_of == second.keys_of
    assert torch.equal(first["s2"].tokens, second["s2"].tokens)


def test_other_weights_files_or_grids_are_other_entries(
    encoder: VisionEncoder, files: dict[str, StudyFiles], tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store")
    one = {"s1": files["s1"]}
    before = study_features(encoder, SETTINGS.grid, one, store=store, jobs=1).keys_of["s1"]
    renamed = {"s1": replace(files["s1"], id="other")}
    assert study_features(encoder, SETTINGS.grid, renamed, store=store, jobs=1).keys_of["s1"] == before
    with torch.no_grad():
        encoder.norm.bias += 1e-3
    assert study_features(encoder, SETTINGS.grid, one, store=store, jobs=1).keys_of["s1"] != before


def test_a_study_in_memory_is_kept_by_its_voxels(
    encoder: VisionEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = FeatureStore(tmp_path / "store"), encoder_digest(encoder)
    gridded = to_grid(make_study(seed=3), SETTINGS.grid)
    first = features_of(encoder, digest, gridded, store)
    monkeypatch.setattr(module, "_encoded", None)
    assert torch.equal(features_of(encoder, digest, gridded, store).tokens, first.tokens)
    other = replace(gridded, images=np.clip(gridded.images + 0.01, 0, 1))
    with pytest.raises(TypeError):
        features_of(encoder, digest, other, store)


def test_variants_are_kept_beside_the_study(
    encoder: VisionEncoder, files: dict[str, StudyFiles], tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store")
    augment = AugmentSettings(variants=2)
    found = study_features(encoder, SETTINGS.grid, files, augment=augment, seed=7, store=store, jobs=1)
    plain = study_features(encoder, SETTINGS.grid, files, store=store, jobs=1)
    assert len(found.keys_of["s1"]) == 3
    assert found.keys_of["s1"][0] == plain.keys_of["s1"][0]
    assert torch.equal(found.variant("s1", 3).tokens, plain["s1"].tokens)
    assert not torch.equal(found.variant("s1", 1).tokens, found.variant("s1", 2).tokens)
    assert draw_transform(augment, 7, "s1", 1) == draw_transform(augment, 7, "s1", 1)
