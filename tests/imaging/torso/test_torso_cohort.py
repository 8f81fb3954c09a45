"""CT phantoms on disk: same seed, same bytes, whatever the processes; interrupted and taken up again; read back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from voxmoe.errors import DatasetError, JobsError
from voxmoe.files import sha256
from voxmoe.imaging.torso import cohort as module
from voxmoe.imaging.torso import draw_torso, mask_path, read_truths, volume_path, write_torsos
from voxmoe.imaging.volume import Volume, read_mask, read_raw

SMALL = (48, 48, 32)


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("torsos")
    write_torsos(out, 3, seed=7, shape=SMALL)
    return out


def test_what_is_written_is_what_is_drawn(written: Path) -> None:
    truths = list(read_truths(written))
    assert [truth.id for truth in truths] == [f"torso-{index:05d}" for index in range(3)]
    torso = draw_torso(7, 1, SMALL)
    assert truths[1] == torso.truth
    assert np.array_equal(read_raw(written / volume_path(torso.truth.id)).data, torso.hu)
    assert np.array_equal(read_mask(written / mask_path(torso.truth.id)).data, torso.labels)
    assert len(hashes(written)) == 7


def test_processes_do_not_change_a_byte(written: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    write_torsos(tmp_path, 3, 7, jobs=2, progress=lambda done, n: heard.append((done, n)), shape=SMALL)
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert hashes(tmp_path) == hashes(written)


def test_interrupted_run_is_taken_up_again(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write = module.write_volume

    def interrupted(volume: Volume, path: Path) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(path.name)
        write(volume, path)

    monkeypatch.setattr(module, "write_volume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_torsos(tmp_path, 3, 7, shape=SMALL)
    monkeypatch.undo()
    stray = tmp_path / "masks" / ".torso-00001.nii.gz.abc.tmp"
    stray.write_bytes(b"half")
    kept = tmp_path / volume_path("torso-00000")
    age = kept.stat().st_mtime_ns
    write_torsos(tmp_path, 3, 7, shape=SMALL)
    assert hashes(tmp_path) == hashes(written)
    assert kept.stat().st_mtime_ns == age, "a complete phantom is not written again"


def test_more_and_others(written: Path, tmp_path: Path) -> None:
    write_torsos(tmp_path, 1, 8, shape=SMALL)
    other = hashes(tmp_path)
    assert all(digest != hashes(written)[name] for name, digest in other.items())
    write_torsos(tmp_path, 3, 7, shape=SMALL)
    assert hashes(tmp_path) == hashes(written)


def test_a_smaller_cohort_does_not_remove_a_larger_one(written: Path, tmp_path: Path) -> None:
    out = shutil.copytree(written, tmp_path / "out")
    for interrupted in (False, True):
        if interrupted:
            module._take_up(out)
            (out / "truth.jsonl").unlink()
        before = hashes(out)
        with pytest.raises(DatasetError, match="holds 2 CT phantoms more than the 1 asked for; ask for 3 or more"):
            write_torsos(out, 1, 8, shape=SMALL)
        assert hashes(out) == before


def test_no_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobsError, match="jobs are 1 or more processes, or -1"):
        write_torsos(tmp_path / "out", 1, 8, jobs=0, shape=SMALL)
    assert not (tmp_path / "out").exists()


def test_missing_and_broken_truths_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file; `voxmoe phantom OUT --ct` writes it"):
        list(read_truths(tmp_path))
    (tmp_path / "truth.jsonl").write_text(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(DatasetError, match="line 1: not the truth"):
        list(read_truths(tmp_path))
