"""`voxmoe phantom --masks`: from masks that the phantom writer wrote to a cohort that is shaped by them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from voxmoe.files import sha256
from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.parts import Part, label_parts
from voxmoe.imaging.phantoms import read_masks
from voxmoe.imaging.study import load_study
from voxmoe.vocabulary import PROFILES_BY_NAME

Run = Callable[..., tuple[int, str, str]]
WRITTEN = "BraTS2021_00000/BraTS2021_00000"


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_cohort_is_shaped_by_the_masks_of_another(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "shaped"
    arguments = ("--n", 1, "--profile", "brats-2021", "--seed", 5, "--jobs", 1)
    code, printed, told = voxmoe("phantom", out, *arguments, "--masks", cohort)
    assert (code, printed) == (0, "")
    masks = read_masks(cohort)
    assert f"shaped by {len(masks.kept)} masks" in told
    record = json.loads((out / "cohort.json").read_text())
    assert record["masks"] == {"digest": masks.digest, "n": len(masks.kept)}
    placement = record["studies"][0]["parameters"]["placement"]
    real = masks.by_digest[placement["mask"]]
    text = (out / "cohort.json").read_text() + (out / f"{WRITTEN}-truth.json").read_text()
    assert "BraTS-GLI" not in text
    assert cohort.name not in text
    (files,) = find_studies(out)
    study = load_study(files, with_mask=True)
    assert study.mask is not None
    parts = label_parts(PROFILES_BY_NAME["brats-2021"])[study.mask.data]
    known = real.parts
    # what is hollow in the mask is fluid of the tumour in a profile that knows no cavity
    solid, halo = (known > Part.HALO).sum() / (known > 0).sum(), (parts == Part.HALO).sum() / (parts > 0).sum()
    assert abs(1 - solid - halo) < 0.1
    labels = record["studies"][0]["labels"]
    assert all(labels[label.key]["voxels"] == (study.mask.data == label.value).sum() for label in files.profile.labels)

    elsewhere = tmp_path / "elsewhere"
    for number, path in enumerate(sorted(cohort.rglob("*-seg.nii.gz"), reverse=True)):
        (elsewhere / str(number)).mkdir(parents=True)
        shutil.copytree(path.parent, elsewhere / str(number) / path.parent.name)
    written = hashes(out)
    age = (out / f"{WRITTEN}_seg.nii.gz").stat().st_mtime_ns
    assert voxmoe("phantom", out, *arguments, "--masks", elsewhere)[0] == 0
    assert hashes(out) == written, "what the masks are called and where they lie changes nothing"
    assert (out / f"{WRITTEN}_seg.nii.gz").stat().st_mtime_ns == age, "so the study was kept"

    assert voxmoe("phantom", out, *arguments)[0] == 0
    plain = json.loads((out / "cohort.json").read_text())
    assert "masks" not in plain
    assert "placement" not in plain["studies"][0]["parameters"]
    assert plain["studies"][0]["parameters"]["anatomy"] == record["studies"][0]["parameters"]["anatomy"]
    assert hashes(out)[f"{WRITTEN}_seg.nii.gz"] != written[f"{WRITTEN}_seg.nii.gz"]


def test_masks_of_no_use_are_told_and_end_with_one(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    study = find_studies(cohort)[0]
    assert study.mask is not None
    (tmp_path / "masks").mkdir()
    shutil.copy(study.mask, tmp_path / "masks")
    broken = tmp_path / "masks" / "BraTS-GLI-09999-100-seg.nii.gz"
    broken.write_bytes(study.mask.read_bytes()[:900])
    arguments = ("--n", 1, "--profile", "gli", "--jobs", 1, "--masks", tmp_path / "masks")
    code, _, told = voxmoe("phantom", tmp_path / "out", *arguments)
    assert code == 1
    assert f"left out: {broken}" in told
    assert "BraTS-GLI-09999" not in (tmp_path / "out" / "cohort.json").read_text()
    (tmp_path / "masks" / study.mask.name).unlink()
    code, _, told = voxmoe("phantom", tmp_path / "none", *arguments)
    assert code == 2
    assert told.splitlines()[-1].startswith("error: ")
    assert "none of its 1 masks can be used" in told
    assert not (tmp_path / "none").exists()
    code, _, told = voxmoe("phantom", tmp_path / "out", *arguments, "--masks-profile", "gli-2042")
    assert code == 2
    assert "no profile is called 'gli-2042'" in told


def test_processes_do_not_change_a_byte(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).choice(sorted(cohort.rglob("*-seg.nii.gz")))
    (tmp_path / "masks").mkdir()
    shutil.copy(mask, tmp_path / "masks")
    for jobs in (1, 2):
        given = ("--n", 2, "--profile", "men-rt-2024", "--seed", 1, "--jobs", jobs, "--masks", tmp_path / "masks")
        assert voxmoe("phantom", tmp_path / str(jobs), *given)[0] == 0
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
