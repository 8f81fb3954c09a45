"""The cache on disk: whole or not at all, found again, pruned by age and size."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from voxmoe.training.store import FeatureStore

KEYS = ["aa" + "0" * 62, "ab" + "1" * 62, "bc" + "2" * 62]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(tmp_path / "features")
    for age, key in enumerate(reversed(KEYS)):  # the first key was used last
        store.write(key, {"tokens": torch.full((1000,), float(age))})
        used = time.time() - 86_400 * (len(KEYS) - age)
        os.utime(store.path(key), (used, used))
    return store


def test_what_is_written_is_read(store: FeatureStore) -> None:
    assert KEYS[0] in store
    assert "ff" + "0" * 62 not in store
    assert torch.equal(store.read(KEYS[0])["tokens"], torch.full((1000,), 2.0))
    assert store.usage().files == 3
    assert store.usage().bytes == sum(store.path(key).stat().st_size for key in KEYS)


def test_a_damaged_entry_is_not_there_and_makes_room(store: FeatureStore) -> None:
    path = store.path(KEYS[0])
    path.write_bytes(path.read_bytes()[:100])
    assert KEYS[0] not in store
    assert not path.exists()


def test_looking_an_entry_up_counts_as_use(store: FeatureStore) -> None:
    assert KEYS[2] in store
    size = store.path(KEYS[2]).stat().st_size
    assert store.prune(max_bytes=size).files == 2
    assert store.path(KEYS[2]).exists()


def test_pruning_by_age_size_and_altogether(store: FeatureStore) -> None:
    size = store.path(KEYS[0]).stat().st_size
    assert store.prune(older_than_days=10.0).files == 0
    assert store.prune(older_than_days=2.5).files == 1
    assert not store.path(KEYS[2]).exists()
    assert store.prune(max_bytes=size).files == 1
    assert store.path(KEYS[0]).exists()
    assert store.prune().files == 1
    assert store.usage().files == 0


WRITER = """
import sys, torch
from pathlib import Path
from voxmoe.training.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    store.write("ab" + "0" * 62, {"tokens": torch.arange(500_000).float()})
"""


def test_concurrent_writers_and_kills_leave_whole_entries(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    store, read = FeatureStore(tmp_path), 0
    for writer in writers:
        for _ in range(10):
            if "ab" + "0" * 62 in store:
                assert torch.equal(store.read("ab" + "0" * 62)["tokens"], torch.arange(500_000).float())
                read += 1
            time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
    assert read
    assert store.usage().files == 1
