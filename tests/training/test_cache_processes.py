"""Several processes keep the same at once, are killed while they write, and something prunes: nothing is lost."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import keep_views
import pytest
import torch

from voxmoe.training.cache import GRIDS, entries, prune
from voxmoe.training.tensors import is_intact, read_tensors


def start(cohort: Path, home: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "VOXMOE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, keep_views.__file__, str(cohort)], env=environment)


def whole() -> list[Path]:
    return [entry.path for entry in entries(GRIDS) if entry.path.suffix == ".safetensors"]


@pytest.mark.slow
def test_killed_writers_and_a_pruning_leave_whole_entries_alone(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "undisturbed"))
    assert start(cohort, tmp_path / "undisturbed").wait() == 0
    wanted = {path.name: read_tensors(path) for path in whole()}
    home = tmp_path / "home"
    monkeypatch.setenv("VOXMOE_HOME", str(home))
    writers = [start(cohort, home) for _ in range(3)]
    try:
        for place, writer in enumerate(writers):
            while len(whole()) <= 2 * place:
                assert writer.poll() is None, "they were to be killed while they write"
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.05))
            writer.kill()
            writer.wait()
            kept = whole()
            assert kept
            assert all(is_intact(path) for path in kept)
            if place == 0:
                prune(everything=True)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert 0 < len(whole()) < len(wanted)
    last = [start(cohort, home) for _ in range(3)]
    assert [process.wait() for process in last] == [0, 0, 0]
    found = {path.name: read_tensors(path) for path in whole()}
    assert found.keys() == wanted.keys()
    for name, tensors in wanted.items():
        assert is_intact(next(path for path in whole() if path.name == name))
        assert all(torch.equal(found[name][each], tensor) for each, tensor in tensors.items())
