"""Planted leaks between volumes and reports are found with their reasons, and nothing else is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from voxmoe.errors import DatasetError, ImageError
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.audit import audit
from voxmoe.vqa.ct.dataset import CTDataset, open_ct_dataset, write_ct_dataset
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.members import ct_members, text_hash

SHAPE = (36, 40, 32)


def body(seed: int) -> np.ndarray:
    """An ellipsoid of fat to muscle in air, HU."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in SHAPE), indexing="ij")
    texture = 16 * gaussian_filter(generator.normal(size=SHAPE), 2)
    return np.where(sum(axis**2 for axis in axes) < 1, 40 + 60 * texture, -1000).astype(np.int16).astype(np.float32)


class Planted:
    """Volumes put down one by one, each with a report, in the split that the test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exchanges: list[Exchange] = []
        self.splits: dict[str, str] = {}
        folder.mkdir()

    def add(self, name: str, split: str, data: np.ndarray | Path, patient: str = "", **more: Any) -> None:
        image = f"{name}.{more.get('suffix', 'nii.gz')}"
        if isinstance(data, Path):
            shutil.copy(data, self.folder / image)
        elif image.endswith("npy"):
            np.save(self.folder / image, data)
        else:
            write_volume(Volume(np.asfortranarray(data), np.eye(4)), self.folder / image)
        report = more.get("report", f"Report of {name}.")
        self.exchanges.append(
            Exchange(
                f"{name}/r",
                "own",
                image,
                patient or name,
                CTTask.REPORT,
                "report",
                "Describe it.",
                report,
                rescale=more.get("rescale"),
            )
        )
        self.splits[image] = split

    def write(self, out: Path) -> CTDataset:
        write_ct_dataset(self.exchanges, out, self.folder, splits=self.splits)
        return open_ct_dataset(out)


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path / "images")


def pairs(matches: Any) -> dict[tuple[str, str], dict[str, tuple[str, ...]]]:
    return {
        (match.first.study.split(".")[0], match.second.study.split(".")[0]): dict(match.shared) for match in matches
    }


def test_planted_leaks_are_found_and_nothing_else(planted: Planted, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        planted.add(f"own{seed}", split, body(seed))
    planted.add("a", "train", body(10))
    planted.add("a-copy", "test", planted.folder / "a.nii.gz")
    planted.add("b", "train", body(11))
    planted.add("b-stored", "validation", body(11) + 1024, rescale=(1.0, -1024.0))
    planted.add("c", "train", body(12))
    grey = np.clip((body(12) + 1000) / 1400, 0, 1)
    planted.add("c-array", "test", grey.transpose(2, 1, 0)[None], suffix="npy")
    planted.add("d", "train", body(13), report="The lungs are clear.")
    planted.add("d-words", "test", body(14), report=" the lungs  are\nclear. ")
    planted.add("d-again", "test", body(15), report="The lungs are clear.")
    planted.add("d-other", "test", body(16), report="The lungs are clear")
    planted.add("e", "train", body(17), patient="e")
    planted.add("e-twice", "train", body(17), patient="e", report="Report of e.")
    found = audit([planted.write(tmp_path / "set")])
    assert pairs(found.leaks) == {
        ("a", "a-copy"): {"file": ("image",)},
        ("b", "b-stored"): {"volume": ("image",)},
        ("c", "c-array"): {"similar": ("image",)},
        ("d", "d-words"): {"text": ("d/r = d-words/r",)},
    }
    assert pairs(found.duplicates) == {("e", "e-twice"): {"patient": ("e",), "file": ("image",)}}
    scores = {match.second.study: match.similarity for match in found.leaks}
    assert (scores["a-copy.nii.gz"], scores["b-stored.nii.gz"], scores["d-words.nii.gz"]) == (1.0, 1.0, None)
    assert 0.85 <= (scores["c-array.npy"] or 0) < 1


def test_two_datasets_share_a_patient_and_a_volume(planted: Planted, tmp_path: Path) -> None:
    planted.add("a", "train", body(0), patient="p")
    first = planted.write(tmp_path / "first")
    other = Planted(tmp_path / "others")
    other.add("b", "train", body(1), patient="p")
    other.add("c", "train", body(0))
    second = other.write(tmp_path / "second")
    assert pairs(audit([first, second]).leaks) == {("a", "b"): {"patient": ("p",)}, ("a", "c"): {"file": ("image",)}}
    with pytest.raises(DatasetError, match="named twice"):
        audit([first, first])


def test_a_second_audit_reads_no_file_that_has_not_changed(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.add("a", "train", body(0))
    planted.add("b", "test", body(1))
    dataset = planted.write(tmp_path / "set")
    assert audit([dataset]).leaks == ()
    assert {path.name for path in (dataset.root / "meta").glob("*.json")} == {
        "files.json",
        "fingerprints.json",
        "skipped.json",
    }
    with monkeypatch.context() as patch:
        patch.setattr("voxmoe.vqa.ct.members.sha256", lambda path: pytest.fail(f"{path} was read"))
        patch.setattr("voxmoe.vqa.ct.members.read_ct", lambda path, rescale: pytest.fail(f"{path} was read"))
        assert audit([dataset]).leaks == ()
    shutil.copy(planted.folder / "a.nii.gz", planted.folder / "b.nii.gz")
    assert pairs(audit([dataset]).leaks) == {("a", "b"): {"file": ("image",)}}


def test_a_series_is_one_volume(tmp_path: Path) -> None:
    """Whatever its slices are called: the hash is of what they hold."""
    exchanges = []
    for name in ("one", "two"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "images" / name / f"{name}{1 - number if name == 'two' else number}.dcm").write_text(
                str(number)
            )
        exchanges.append(Exchange(name, "own", name, name, CTTask.OPEN, "side", "Where?", "left"))
    write_ct_dataset(exchanges, tmp_path / "set", tmp_path / "images")
    one, two = ct_members(open_ct_dataset(tmp_path / "set"))
    assert one.hashes == two.hashes
    assert one.texts == {}


def test_missing_and_broken_images(planted: Planted, tmp_path: Path) -> None:
    planted.add("a", "train", body(0))
    planted.add("b", "test", body(1) * 0 + 7)
    dataset = planted.write(tmp_path / "set")
    with pytest.raises(ImageError, match=r"b\.nii\.gz"):
        audit([dataset])
    (planted.folder / "a.nii.gz").unlink()
    with pytest.raises(ImageError, match=r"a\.nii\.gz: no such file; the images of .*set are looked for in .*images"):
        audit([dataset])


def test_texts_are_the_same_but_for_case_and_blanks() -> None:
    assert text_hash("No  nodule.\n") == text_hash("no nodule.")
    assert text_hash("No nodule") != text_hash("No nodule.")
