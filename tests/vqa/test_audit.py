"""Planted leaks are found with their reasons, and nothing else is; the cache, the threshold, missing files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.ndimage import gaussian_filter

from voxmoe.errors import DatasetError, ImageError
from voxmoe.files import sha256, write_json
from voxmoe.imaging.volume import Volume, read_image, write_volume
from voxmoe.vqa.audit import Audit, audit, members
from voxmoe.vqa.dataset import SCHEMA, SPLITS, Dataset, open_dataset

SHAPE = (36, 40, 32)


def brain(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in SHAPE), indexing="ij")
    texture = 16 * gaussian_filter(generator.normal(size=SHAPE), 2)
    return np.where(sum(axis**2 for axis in axes) < 1, np.maximum(400 + 100 * texture, 1), 0).astype(np.float32)


def save(path: Path, data: np.ndarray, axes: str = "RAS") -> Path:
    write_volume(Volume(np.asfortranarray(data), np.eye(4), axes=axes), path)
    return path


class Cohort:
    """Studies put down one by one, then a dataset of them with one row each, in the splits that the test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies: list[dict[str, Any]] = []

    def add(self, study: str, split: str, data: np.ndarray | Path, patient: str = "", **more: Any) -> Path:
        suffix = "nii.gz" if isinstance(data, np.ndarray) or data.name.endswith("gz") else "nii"
        path = self.folder / f"{study}-{more.get('modality', 'T1')}.{suffix}"
        if isinstance(data, np.ndarray):
            save(path, data, more.get("axes", "RAS"))
        else:
            self.folder.mkdir(exist_ok=True)
            shutil.copy(data, path)
        images = {more.get("modality", "T1"): path.name}
        hashes = {name: sha256(self.folder / file) for name, file in images.items()}
        if "mask" in more:
            hashes["mask"] = more["mask"]
        labels = {"ET": {"present": more.get("present", True)}}
        self.studies.append(
            {
                "study": study,
                "patient": patient or study,
                "split": split,
                "sha256": hashes,
                "findings": {"labels": labels},
                "images": images,
            }
        )
        return path

    def dataset(self, root: Path) -> Dataset:
        for split in SPLITS:
            rows = [
                {"study": one["study"], "patient": one["patient"], "images": one["images"]}
                for one in self.studies
                if one["split"] == split
            ]
            (root / "data").mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), root / "data" / f"{split}.parquet")
        write_json(root / "meta" / "studies.json", self.studies)
        questions = {split: sum(one["split"] == split for one in self.studies) for split in SPLITS}
        write_json(root / "manifest.json", {"images": str(self.folder), "questions": questions})
        return open_dataset(root)


@pytest.fixture
def planted(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path / "images")


def pairs(matches: Any) -> dict[tuple[str, str], dict[str, tuple[str, ...]]]:
    return {(match.first.study, match.second.study): dict(match.shared) for match in matches}


def test_planted_leaks_are_found_and_nothing_else(planted: Cohort, tmp_path: Path) -> None:
    for seed in range(6):
        planted.add(f"own{seed}", SPLITS[seed % 3], brain(seed), mask="empty", present=False)
    a = planted.add("a", "train", brain(10), mask="m1")
    planted.add("a-copy", "test", a)
    planted.add("b", "train", brain(11))
    planted.add("b-stored-otherwise", "validation", save(tmp_path / "b.nii", brain(11), "LPS"))
    planted.add("c", "train", brain(12))
    noise = np.random.default_rng(0).normal(0, 0.01, SHAPE)
    planted.add("c-changed", "test", np.abs((brain(12) / 700) ** 1.5 + noise).transpose(2, 0, 1)[:, ::-1])
    planted.add("d", "train", brain(13), patient="p")
    planted.add("d-later", "test", brain(14), patient="p")
    planted.add("e", "train", brain(15), patient="q")
    planted.add("e-later", "train", brain(16), patient="q")
    planted.add("f", "train", brain(17))
    planted.add("f-twice", "train", brain(17))
    planted.add("g", "test", brain(18), mask="m1")
    planted.add("h", "train", brain(19))
    planted.add("h-as-t2", "test", brain(19), modality="T2")
    found = audit([planted.dataset(tmp_path / "set")])
    assert pairs(found.leaks) == {
        ("a", "a-copy"): {"file": ("T1",)},
        ("a", "g"): {"file": ("mask",)},
        ("b", "b-stored-otherwise"): {"volume": ("T1",)},
        ("c", "c-changed"): {"similar": ("T1",)},
        ("d", "d-later"): {"patient": ("p",)},
        ("h", "h-as-t2"): {"file": ("T1 = T2",)},
    }
    assert pairs(found.duplicates) == {("f", "f-twice"): {"file": ("T1",)}}
    scores = {match.second.study: match.similarity for match in found.leaks}
    assert scores["a-copy"] == scores["b-stored-otherwise"] == 1
    assert 0.9 < scores["c-changed"] < 1
    assert scores["d-later"] is None
    assert found.images == len(planted.studies)


def test_a_clean_dataset(planted: Cohort, tmp_path: Path) -> None:
    for seed in range(6):
        planted.add(f"own{seed}", SPLITS[seed % 3], brain(seed))
    found = audit([planted.dataset(tmp_path / "set")])
    assert found == Audit({str(tmp_path / "set"): 6}, 6, (), ())
    assert found.to_json()["clean"]


def test_the_same_scan_in_two_datasets_is_a_leak_in_whatever_splits(planted: Cohort, tmp_path: Path) -> None:
    path = planted.add("gli", "train", brain(0))
    other = Cohort(tmp_path / "others")
    other.add("goat", "train", path)
    other.add("met", "train", brain(1))
    found = audit([planted.dataset(tmp_path / "one"), other.dataset(tmp_path / "two")])
    assert pairs(found.leaks) == {("gli", "goat"): {"file": ("T1",)}}
    told = json.loads(json.dumps(found.to_json()))
    assert told["leaks"][0]["first"] == {
        "dataset": str(tmp_path / "one"),
        "study": "gli",
        "patient": "gli",
        "split": "train",
    }


def test_the_threshold_decides(planted: Cohort, tmp_path: Path) -> None:
    planted.add("x", "train", brain(0))
    planted.add("y", "test", brain(1))
    dataset = planted.dataset(tmp_path / "set")
    assert not audit([dataset]).leaks
    assert pairs(audit([dataset], threshold=-1.0).leaks) == {("x", "y"): {"similar": ("T1",)}}


def test_fingerprints_are_kept_and_need_no_images_again(planted: Cohort, tmp_path: Path) -> None:
    planted.add("x", "train", brain(0))
    planted.add("y", "test", brain(0) ** 1.2)
    dataset = planted.dataset(tmp_path / "set")
    steps: list[tuple[int, int]] = []
    first = audit([dataset], progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    cache = tmp_path / "set" / "meta" / "fingerprints.json"
    kept = json.loads(cache.read_text())
    assert set(kept["fingerprints"]) == {one["sha256"]["T1"] for one in planted.studies}
    shutil.rmtree(planted.folder)
    again = audit([dataset], progress=lambda *step: steps.append(step))
    assert len(steps) == 2
    assert again.to_json() == first.to_json()
    cache.write_text(json.dumps({**kept, "version": 0}))
    with pytest.raises(ImageError, match="no such file"):
        audit([dataset])


def test_two_processes_find_the_same(planted: Cohort, tmp_path: Path) -> None:
    for seed in range(4):
        planted.add(f"own{seed}", SPLITS[seed % 2], brain(seed // 2))
    dataset = planted.dataset(tmp_path / "set")
    alone = audit([dataset]).to_json()
    cache = tmp_path / "set" / "meta" / "fingerprints.json"
    content = cache.read_bytes()
    cache.unlink()
    assert audit([dataset], jobs=2).to_json() == alone
    assert cache.read_bytes() == content
    assert len(alone["leaks"]) == 2


def test_missing_and_changed_images_are_named(planted: Cohort, tmp_path: Path) -> None:
    missing = [planted.add(f"x{seed}", "train", brain(seed)) for seed in range(3)]
    dataset = planted.dataset(tmp_path / "set")
    save(missing[2], brain(9))
    with pytest.raises(DatasetError, match=r"x2-T1\.nii\.gz: has changed since the dataset was built"):
        audit([dataset])
    for path in missing[:2]:
        path.unlink()
    with pytest.raises(ImageError, match=r"x0-T1\.nii\.gz: no such file \(and 1 more files\)") as error:
        audit([dataset])
    assert str(planted.folder) in str(error.value)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{")])
def test_a_dataset_without_its_studies(spoil: Callable[[Path], Any], planted: Cohort, tmp_path: Path) -> None:
    planted.add("x", "train", brain(0))
    dataset = planted.dataset(tmp_path / "set")
    spoil(tmp_path / "set" / "meta" / "studies.json")
    with pytest.raises(DatasetError, match=r"studies\.json: missing or broken; build the dataset again"):
        audit([dataset])


def test_a_dataset_named_twice(planted: Cohort, tmp_path: Path) -> None:
    planted.add("x", "train", brain(0))
    dataset = planted.dataset(tmp_path / "set")
    with pytest.raises(DatasetError, match="named twice"):
        audit([dataset, replace(dataset, root=tmp_path / "set" / ".." / "set")])


def test_members_of_a_built_dataset(dataset: Path) -> None:
    """The real thing: hashes and paths belong together, so that a scan put into another split would be found."""
    found = members(open_dataset(dataset))
    assert len(found) == 4
    for member in found:
        assert set(member.paths) == set(member.hashes) - {"mask"}
        assert sha256(member.paths["T1"]) == member.hashes["T1"]
        assert read_image(member.paths["T1"]).data.any()
