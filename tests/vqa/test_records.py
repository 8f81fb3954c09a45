"""A build that was interrupted, wherever, goes on and ends with the bytes of one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_dataset import content, write_bank, write_study

from voxmoe.errors import DatasetError
from voxmoe.imaging.study import StudyFiles
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vqa import records
from voxmoe.vqa.dataset import build_dataset, open_dataset
from voxmoe.vqa.protocol import CODE_V3, PAPER_V2
from voxmoe.vqa.type_weights import PAPER
from voxmoe.vqa.wordings.grammar import GRAMMAR

STUDIES = [f"BraTS-GLI-0000{number}-100" for number in range(1, 7)]
SCRIPT = """
import sys
from pathlib import Path
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import PAPER_V2
cohort, out, jobs = sys.argv[1:]
told = lambda done, total: print(done, total, flush=True)
build_dataset(Path(cohort), Path(out), PAPER_V2, jobs=int(jobs), progress=told)
"""


class Killed(BaseException):
    """Ends a build wherever it is."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good studies and one whose mask is truncated."""
    cohort = tmp_path_factory.mktemp("cohort")
    for seed, study in enumerate(STUDIES):
        write_study(cohort, study, seed)
    mask = cohort / STUDIES[3] / f"{STUDIES[3]}-seg.nii.gz"
    mask.write_bytes(mask.read_bytes()[:500])
    return cohort


@pytest.fixture(scope="module")
def whole(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The content of the dataset that an uninterrupted build writes."""
    out = tmp_path_factory.mktemp("whole")
    build_dataset(cohort, out, PAPER_V2)
    return content(out)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies that are read from here on."""
    read: list[str] = []
    load = records.load_study

    def noted(files: StudyFiles, **how: bool) -> object:
        read.append(files.id)
        return load(files, **how)

    monkeypatch.setattr(records, "load_study", noted)
    return read


def stop_after(studies: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= studies:
            raise Killed

    return progress


@pytest.mark.parametrize(("jobs", "kills"), [(1, 4), (2, 2)])
def test_killed_at_random_times_it_ends_with_the_same_bytes(
    jobs: int, kills: int, cohort: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(cohort), str(out), str(jobs)]
    for studies in sorted(random.sample(range(len(STUDIES) + 1), kills)):
        more = random.expovariate(10)
        # a group of its own, so that the processes it starts end with it
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as build:
            assert build.stdout is not None
            while (told := build.stdout.readline()) and int(told.split()[0]) < studies:
                pass
            time.sleep(more)
            os.killpg(build.pid, signal.SIGKILL)
        if (out / "manifest.json").exists():
            assert content(out) == whole, f"killed {more:.3f} s after {studies} studies"
            shutil.rmtree(out)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "6 6"
    assert content(out) == whole


def test_ended_at_any_write_it_goes_on(
    cohort: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace
    out = tmp_path / "out"
    allowed = written = 0

    def counted(path: Path, target: Path) -> Path:
        nonlocal written
        if written == allowed:
            raise Killed
        written += 1
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)
    for allowed in range(20):  # noqa: B007 - read by `counted`
        shutil.rmtree(out, ignore_errors=True)
        written = 0
        try:
            build_dataset(cohort, out, PAPER_V2)
            break
        except Killed:
            with pytest.raises(DatasetError, match="no finished dataset here"):
                open_dataset(out)
        for folder in (out, out / "data", out / "meta", out / "work"):
            folder.mkdir(exist_ok=True)
            (folder / ".train.parquet.abc.tmp").write_bytes(b"half")  # as a killed process leaves it
        with monkeypatch.context() as free:
            free.setattr(Path, "replace", replace)
            build_dataset(cohort, out, PAPER_V2)
        assert content(out) == whole
    assert allowed == 5 + 3 + 3, "a record for each good study, three splits, two lists and the manifest"


def test_what_is_done_is_not_read_again(cohort: Path, whole: dict[str, str], tmp_path: Path, read: list[str]) -> None:
    with pytest.raises(Killed):
        build_dataset(cohort, tmp_path, PAPER_V2, progress=stop_after(3))
    assert sorted(path.stem for path in (tmp_path / "work").iterdir()) == STUDIES[:3]
    del read[:]
    told: list[tuple[int, int]] = []
    build_dataset(cohort, tmp_path, PAPER_V2, progress=lambda *step: told.append(step))
    assert read == STUDIES[3:]
    assert told == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert content(tmp_path) == whole


def test_another_question_or_another_file_is_worked_on_anew(cohort: Path, tmp_path: Path, read: list[str]) -> None:
    own = tmp_path / "cohort"
    shutil.copytree(cohort, own)

    def interrupted() -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with pytest.raises(Killed):
            build_dataset(own, tmp_path / "out", PAPER_V2, progress=stop_after(3))
        del read[:]

    def again(**other: object) -> list[str]:
        build_dataset(own, tmp_path / "out", **{"protocol": PAPER_V2, **other})
        return read

    interrupted()
    assert again(seed=1) == STUDIES
    interrupted()
    assert again(protocol=CODE_V3) == STUDIES
    interrupted()
    assert again(atlas="aal") == STUDIES
    interrupted()
    assert again(profile="gli-2024") == STUDIES
    interrupted()
    assert again(type_weights=PAPER) == STUDIES
    interrupted()
    write_bank(tmp_path / "bank.jsonl", 4)
    assert again(wordings=tmp_path / "bank.jsonl") == STUDIES
    interrupted()
    write_study(own, STUDIES[1], seed=77)
    assert again() == [STUDIES[1], *STUDIES[3:]]
    interrupted()
    (tmp_path / "out" / "work" / f"{STUDIES[0]}.json").write_text("{")
    assert again() == [STUDIES[0], *STUDIES[3:]]


@pytest.mark.parametrize("jobs", [1, 2])
def test_strict_ends_at_a_broken_study_and_goes_on_once_it_is_mended(
    jobs: int, cohort: Path, tmp_path: Path, read: list[str]
) -> None:
    own = tmp_path / "cohort"
    shutil.copytree(cohort, own)
    with pytest.raises(DatasetError, match=rf"study {STUDIES[3]} cannot be used: .*broken gzip stream"):
        build_dataset(own, tmp_path / "out", PAPER_V2, strict=True, jobs=jobs)
    write_study(own, STUDIES[3], 3)
    del read[:]
    report = build_dataset(own, tmp_path / "out", PAPER_V2, strict=True)
    assert (report.studies, report.skipped) == (6, {})
    assert STUDIES[3] in read
    assert len(read) < 6


def test_a_cohort_named_from_another_folder_is_the_same(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str]
) -> None:
    monkeypatch.chdir(cohort.parent)
    build_dataset(Path(cohort.name), tmp_path, PAPER_V2)
    assert content(tmp_path) == whole


def test_no_manifest_stands_over_half_a_rebuild(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_dataset(cohort, tmp_path, PAPER_V2)
    replace = Path.replace

    def ended(path: Path, target: Path) -> Path:
        if target.name == "skipped.json":
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", ended)
    with pytest.raises(Killed):
        build_dataset(cohort, tmp_path, PAPER_V2, seed=1)
    with pytest.raises(DatasetError, match="no finished dataset here"):
        open_dataset(tmp_path)


def test_a_record_comes_back_as_it_was(cohort: Path, tmp_path: Path) -> None:
    files = StudyFiles(STUDIES[0], "patient", {}, cohort / STUDIES[0] / f"{STUDIES[0]}-seg.nii.gz")
    terms = records.Terms(cohort, None, PAPER_V2, "default", 0, GRAMMAR.source)
    kept = records.KeptRecords(tmp_path / "work", [files], terms)
    record = records.StudyRecord(files.id, "p", [{"x": [1, 2.5, None, "é"]}], {"volume": 0.1 + 0.2}, {"mask": "ab"})
    kept.put(record)
    assert kept.get(files.id) == record
    assert json.loads((tmp_path / "work" / f"{files.id}.json").read_text())["key"]["files"]["mask"][1][0] > 0
    write_volume(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "elsewhere.nii.gz")
    kept.clear()
    assert not (tmp_path / "work").exists()
    assert kept.get(files.id) is None
