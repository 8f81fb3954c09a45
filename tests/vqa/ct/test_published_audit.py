"""A volume that lies in two splits is found in every published form of dataset, and from one dataset to another."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vqa.audit import audit
from voxmoe.vqa.ct.collect import collect
from voxmoe.vqa.ct.dataset import CTDataset, open_ct_dataset

RATE = ("train/train_1/train_1_a/train_1_a_1.nii.gz", "valid/valid_7/valid_7_a/valid_7_a_1.nii.gz")
CAP = ("ct_case/000001/Axial.npy", "ct_quizze/000002/Axial.npy")
VQA = tuple(f"M3D_Cap_npy/{place}" for place in CAP)


def volume(seed: int) -> np.ndarray:
    """A body of fat to muscle in air, HU."""
    generator = np.random.default_rng(seed)
    ball = np.linalg.norm(np.indices((24, 24, 20)) - np.array([12, 12, 10]).reshape(3, 1, 1, 1), axis=0) < 9
    noise = np.kron(generator.normal(size=(6, 6, 5)), np.ones((4, 4, 4)))
    return np.where(ball, 40 + 40 * noise, -1000).astype(np.float32)


def put(root: Path, place: str, data: np.ndarray) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, np.clip((data + 1000) / 1400, 0, 1).transpose(2, 1, 0)[None])
    else:
        write_volume(Volume(np.asfortranarray(data), np.eye(4)), file)


def table(path: Path, *rows: dict[str, str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def ct_rate(root: Path) -> list[str]:
    texts = ("A nodule in the left lung.", "The lungs are clear.")
    rows = [
        {"VolumeName": Path(place).name, "Findings_EN": text, "Impressions_EN": "Follow up."}
        for place, text in zip(RATE, texts, strict=True)
    ]
    return [table(root / "reports.csv", *rows)]


def radgenome(root: Path) -> list[str]:
    row = {"Anatomy": "lung", "Finding": "a nodule", "Presence": "Yes."}
    return [
        table(root / "genome" / f"{split}_vqa_presence.csv", {"Volumename": Path(place).name, **row})
        for split, place in zip(("train", "valid"), RATE, strict=True)
    ]


def rad3d(root: Path) -> list[str]:
    row = {"Task": "3", "Subtask": "1", "Question": "How large?", "Answer": "2 cm", "QuestionType": "Open"}
    none = dict.fromkeys(("AnswerChoice", "Choice A", "Choice B", "Choice C", "Choice D"), "-")
    return [table(root / "Task3.csv", *({"VolumeName": Path(place).name, **row, **none} for place in RATE))]


def m3d_cap(root: Path) -> list[str]:
    first, second = ({"image": place, "text": f"Caption of {place}."} for place in CAP)
    (root / "cap.json").write_text(json.dumps({"train": [first], "test": [second]}))
    return [str(root / "cap.json")]


def m3d_vqa(root: Path) -> list[str]:
    row = {"Text": "A caption.", "Question Type": "2", "Question": "Which phase?", "Choice A": "Arterial"}
    more = {"Choice B": "Portal", "Choice C": "NA", "Choice D": "NA", "Answer": "Portal", "Answer Choice": "B"}
    return [
        f"{split}=" + table(root / f"M3D_VQA_{split}.csv", {"Image Path": place, **row, **more})
        for split, place in zip(("train", "test"), VQA, strict=True)
    ]


Tables = Callable[[Path], list[str]]
FORMATS: dict[str, tuple[Tables, tuple[str, ...]]] = {
    "ct-rate": (ct_rate, RATE),
    "radgenome": (radgenome, RATE),
    "3d-rad": (rad3d, RATE),
    "m3d-cap": (m3d_cap, CAP),
    "m3d-vqa": (m3d_vqa, VQA),
}


def collected(name: str, root: Path, images: Path) -> CTDataset:
    collect(name, FORMATS[name][0](root), root / name, images)
    return open_ct_dataset(root / name)


@pytest.mark.parametrize("name", FORMATS)
def test_one_volume_under_two_names_is_a_leak(name: str, tmp_path: Path) -> None:
    for seed, copied in ((0, True), (1, False)):
        images = tmp_path / f"images{seed}"
        for number, place in enumerate(FORMATS[name][1]):
            put(images, place, volume(0 if copied else number))
        root = tmp_path / f"tables{seed}"
        root.mkdir()
        leaks = audit([collected(name, root, images)]).leaks
        assert [dict(leak.shared) for leak in leaks] == ([{"file": ("image",)}] if copied else [])


def test_what_one_dataset_trains_on_another_is_tested_on(tmp_path: Path) -> None:
    """CT-RATE, RadGenome-ChestCT and 3D-RAD ask about the same volumes."""
    images = tmp_path / "images"
    for number, place in enumerate(RATE):
        put(images, place, volume(number))
    roots = {name: tmp_path / name for name in ("ct-rate", "radgenome", "3d-rad")}
    for root in roots.values():
        root.mkdir()
    datasets = [collected(name, root, images) for name, root in roots.items()]
    leaks = audit(datasets).leaks
    named = {(Path(leak.first.dataset).name, Path(leak.second.dataset).name) for leak in leaks}
    assert named >= {("ct-rate", "radgenome"), ("ct-rate", "3d-rad"), ("radgenome", "3d-rad")}
    assert all({"patient", "file"} <= set(leak.shared) for leak in leaks)


def test_test_patients_of_3d_rad_are_known_among_those_of_ct_rate(tmp_path: Path) -> None:
    """By patient alone: the two ask about other scans."""
    images = tmp_path / "images"
    scan = "valid/valid_7/valid_7_b/valid_7_b_1.nii.gz"
    for number, place in enumerate((*RATE, scan)):
        put(images, place, volume(number))
    rate = collected("ct-rate", tmp_path, images)
    row = {"Task": "3", "Subtask": "1", "VolumeName": "test_7_b_1.nii.gz", "Question": "How large?", "Answer": "2 cm"}
    none = dict.fromkeys(("AnswerChoice", "Choice A", "Choice B", "Choice C", "Choice D"), "-")
    asked = table(tmp_path / "Task3.csv", {**row, "QuestionType": "Open", **none})
    collect("3d-rad", [asked], tmp_path / "3d-rad", images)
    (leak,) = audit([rate, open_ct_dataset(tmp_path / "3d-rad")]).leaks
    assert set(leak.shared) == {"patient"}
    assert {leak.first.patient, leak.second.patient} == {"valid_7"}
    assert {leak.first.split, leak.second.split} == {"validation", "test"}
