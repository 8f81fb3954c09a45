"""Phantoms on disk: same seed, same bytes, whatever the processes; found again; interrupted and taken up again."""

import json
from pathlib import Path

import pytest

from voxmoe.errors import JobsError, StudyError
from voxmoe.files import sha256
from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.phantoms import cohort as module
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.imaging.study import check_labels, load_study
from voxmoe.imaging.volume import Volume
from voxmoe.vocabulary import PROFILES_BY_NAME

GLI = PROFILES_BY_NAME["gli-2024"]


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(out, 3, GLI, seed=11)
    return out


@pytest.mark.parametrize("name", ["met-2025", "ped-2024", "men-rt-2024", "msd-task01"])
def test_found_again_with_the_labels_of_the_profile(tmp_path: Path, name: str) -> None:
    profile = PROFILES_BY_NAME[name]
    write_cohort(tmp_path, 1, profile, seed=2)
    (files,) = find_studies(tmp_path, profile=name)
    study = load_study(files, with_mask=True)
    assert study.modalities == profile.modalities
    check_labels(study.mask, profile)
    assert study.mask.data.any()


def test_layout_decides_the_profile_of_a_cohort(cohort: Path) -> None:
    found = find_studies(cohort)
    assert [files.id for files in found] == [f"BraTS-GLI-{index:05d}-100" for index in range(3)]
    assert all(files.profile == GLI and files.mask and len(files.images) == 4 for files in found)
    listed = json.loads((cohort / "cohort.json").read_text())
    assert [study["id"] for study in listed["studies"]] == [files.id for files in found]
    assert (listed["n"], listed["seed"], listed["profile"]) == (3, 11, "gli-2024")


def test_processes_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    write_cohort(tmp_path, 3, GLI, seed=11, jobs=2, progress=lambda done, n: heard.append((done, n)))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert hashes(tmp_path) == hashes(cohort)


def test_another_seed_changes_every_image(cohort: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, 1, GLI, seed=12)
    before, after = hashes(cohort), hashes(tmp_path)
    assert all(before[name] != digest for name, digest in after.items())


def test_interrupted_run_is_taken_up_again(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = module.write_volumes

    def interrupted(volumes: list[Volume], path: Path) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path.name)
        write(volumes, path)

    monkeypatch.setattr(module, "write_volumes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path, 3, GLI, seed=11)
    partial = hashes(tmp_path)
    assert partial.items() < hashes(cohort).items(), "what is there is whole"
    monkeypatch.undo()
    naming = naming_for(GLI)
    kept = tmp_path / naming.mask_path(naming.study_id(0))
    age = kept.stat().st_mtime_ns
    write_cohort(tmp_path, 3, GLI, seed=11)
    assert hashes(tmp_path) == hashes(cohort)
    assert kept.stat().st_mtime_ns == age, "a complete study is not written again"


def test_what_a_killed_process_left_is_cleared_away(cohort: Path, tmp_path: Path) -> None:
    study = naming_for(GLI).study_id(1)
    stray = tmp_path / study / f".{study}-seg.nii.gz.abc.tmp"
    stray.parent.mkdir()
    stray.write_bytes(b"half")
    write_cohort(tmp_path, 3, GLI, seed=11)
    assert hashes(tmp_path) == hashes(cohort)


@pytest.mark.parametrize("path", ["{0}/{0}-t1n.nii.gz", "{0}/{0}-seg.nii.gz"])
def test_a_real_scan_is_not_overwritten(tmp_path: Path, path: str) -> None:
    real = tmp_path / path.format(naming_for(GLI).study_id(1))
    real.parent.mkdir()
    real.write_bytes(b"real")
    with pytest.raises(StudyError, match=rf"{real.name}: is no phantom, .* choose another folder"):
        write_cohort(tmp_path, 3, GLI, seed=11)
    assert [(path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()] == [(real, b"real")]


def test_nor_is_the_description_of_a_real_dataset(tmp_path: Path) -> None:
    described = tmp_path / "Task01_BrainTumour" / "dataset.json"
    described.parent.mkdir()
    described.write_text("{}")
    with pytest.raises(StudyError, match=r"dataset\.json: describes no phantoms"):
        write_cohort(tmp_path, 1, PROFILES_BY_NAME["msd-task01"], seed=2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [described]


def test_no_truth_of_before_stays_beside_images_of_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    write_cohort(tmp_path, 1, GLI, seed=12)
    whole = hashes(tmp_path)
    monkeypatch.setattr(module, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path, 1, GLI, seed=11)
    monkeypatch.undo()
    write_cohort(tmp_path, 1, GLI, seed=12)
    assert hashes(tmp_path) == whole
    assert not (tmp_path / ".drawing").exists()


def test_no_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobsError, match="jobs are 1 or more processes, or -1 for one a core"):
        write_cohort(tmp_path / "out", 1, GLI, seed=2, jobs=0)
    assert not (tmp_path / "out").exists()


def test_study_of_other_parameters_is_written_anew(cohort: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, 1, GLI, seed=12)
    write_cohort(tmp_path, 3, GLI, seed=11)
    assert hashes(tmp_path) == hashes(cohort)
