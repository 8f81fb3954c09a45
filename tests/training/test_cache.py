"""What is kept on disk: whole files alone count, and pruning removes what it says."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from voxmoe.training.cache import FEATURES, GRIDS, entries, key_of, mark_used, place, prune, usage
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors

DAY = 24 * 60 * 60


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path))
    return tmp_path


def keep(kind: str, name: str, size: int = 1000, days: float = 0) -> Path:
    """An entry of so many bytes that was last used so many days ago."""
    path = place(kind, key_of(name=name), ".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_tensors_come_back_as_they_were(folder: Path) -> None:
    tensors = {"tokens": torch.randn(2, 3), "half": torch.randn(4).half(), "present": torch.tensor([True, False])}
    write_tensors(folder / "x.safetensors", tensors, {"study": "a"})
    assert is_intact(folder / "x.safetensors")
    found = read_tensors(folder / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-7],
        lambda content: content[:40],
        lambda content: b"",
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: b"\xff" * len(content),
        lambda content: b"\x00" * 8 + content[8:],
    ],
    ids=["cut", "cut in the header", "empty", "a flipped bit", "noise", "no header"],
)
def test_what_is_damaged_does_not_count(folder: Path, damage: object) -> None:
    path = folder / "x.safetensors"
    write_tensors(path, {"tokens": torch.randn(5, 7)})
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert not is_intact(path)
    assert not is_intact(folder / "none.safetensors")


def test_readers_never_see_a_half_written_file(folder: Path) -> None:
    path, tensors = folder / "x.safetensors", {"tokens": torch.arange(50_000)}
    write_tensors(path, tensors)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_tensors(path, tensors)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        assert all(is_intact(path) and torch.equal(read_tensors(path)["tokens"], tensors["tokens"]) for _ in range(50))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [file.name for file in folder.iterdir()] == ["x.safetensors"]


def test_size_and_counts(folder: Path) -> None:
    keep(FEATURES, "a", 1000)
    keep(FEATURES, "b", 500)
    keep(GRIDS, "c", 70)
    (folder / "language" / "model").mkdir(parents=True)
    told = usage()
    assert told["folder"] == str(folder)
    assert told["kinds"]["features"]["files"] == 2
    assert told["kinds"]["features"]["bytes"] == 1500
    assert told["bytes"] == 1570


def test_the_unused_are_pruned_by_age() -> None:
    old, new = keep(FEATURES, "old", days=8), keep(GRIDS, "new", days=6)
    assert prune(older_than=7.0) == {"files": 1, "bytes": 1000}
    assert not old.exists()
    assert new.exists()


def test_what_was_read_counts_as_used() -> None:
    path = keep(FEATURES, "x", days=30)
    write_tensors(path, {"tokens": torch.zeros(1)})
    os.utime(path, (0, 0))
    assert is_intact(path)
    assert prune(older_than=1.0)["files"] == 0


def test_what_was_pruned_while_it_was_read_stays_away() -> None:
    path = keep(FEATURES, "x")
    prune(everything=True)
    mark_used(path)
    assert not path.exists()


def test_the_longest_unused_go_above_a_size() -> None:
    paths = [keep(FEATURES, str(days), 400_000, days) for days in range(5)]
    assert prune(max_size=0.001) == {"files": 3, "bytes": 1_200_000}
    assert [path.exists() for path in paths] == [True, True, False, False, False]


def test_everything_goes_and_so_do_strays(folder: Path) -> None:
    kept = keep(FEATURES, "x")
    fresh = kept.with_name(f".{kept.name}.abc.tmp")
    fresh.write_bytes(b"half")
    stray = kept.with_name(f".{kept.name}.def.tmp")
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    assert prune(older_than=1000.0)["files"] == 1
    assert kept.exists()
    assert fresh.exists()
    assert not stray.exists()
    (folder / "default-model").write_text("x")
    assert prune(everything=True)["files"] == 2
    assert not list(entries(FEATURES))
    assert (folder / "default-model").exists()


def test_keys_tell_apart_and_do_not_depend_on_order() -> None:
    assert key_of(a=1, b=[2, 3]) == key_of(b=[2, 3], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1), key_of(a="1")}) == 4
