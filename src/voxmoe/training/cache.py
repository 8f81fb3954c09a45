"""What is computed once and kept: one file an entry in VoxMoE's own folder, named by a key of all that decided it.

Any number of processes may read and write at the same time: a file appears whole or not at all, and two processes that
compute the same write the same. Nothing here is needed: what is deleted is computed again.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmoe.files import home

FEATURES = "features"
GRIDS = "grids"
EYES = "eyes"
DIGESTS = "digests"
PICTURES = "pictures"
HEARD = "heard"
KINDS = {
    FEATURES: "what encoders see of studies",
    GRIDS: "studies on a model's grid, to train its encoder",
    EYES: "pretrained encoders",
    PICTURES: "slices of CTs as readers take them",
    HEARD: "what language models make of the questions that a warm-up asks",
    DIGESTS: "what image files hold, by their size and time of change",
}

_DAY = 24 * 60 * 60
_GIGABYTE = 1e9
_STRAY_AFTER = _DAY
"""Seconds after which a half-written file belongs to no process any more."""


def key_of(**decided: Any) -> str:
    """The name of what these values (as JSON) decide."""
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def code_digest(modules: Iterable[str]) -> str:
    """Hash of the source files of modules: what they compute counts as changed when they change."""
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        digest.update(Path(str(sys.modules[name].__file__)).read_bytes())
    return digest.hexdigest()


def place(kind: str, key: str, suffix: str) -> Path:
    """The file of an entry, whether it is there or not."""
    return home() / kind / key[:2] / f"{key}{suffix}"


def mark_used(path: Path) -> None:
    """Let `prune` know that an entry was of use now; one that it has removed stays away."""
    with suppress(FileNotFoundError):
        os.utime(path)


@dataclass(frozen=True)
class Entry:
    path: Path
    bytes: int
    used: float
    """When it was last of use, in seconds since the epoch."""


def entries(kind: str) -> Iterator[Entry]:
    """All entries of a kind, files that a killed process left half-written included."""
    for path in sorted((home() / kind).glob("??/*")):
        try:
            status = path.stat()
        except FileNotFoundError:  # pruned by another process
            continue
        yield Entry(path, status.st_size, status.st_mtime)


def usage() -> dict[str, Any]:
    """Where the cache lies, and number and bytes of the entries of each kind."""
    kinds = {}
    for kind, what in KINDS.items():
        sizes = [entry.bytes for entry in entries(kind)]
        kinds[kind] = {"what": what, "files": len(sizes), "bytes": sum(sizes)}
    return {"folder": str(home()), "kinds": kinds, "bytes": sum(kind["bytes"] for kind in kinds.values())}


def _doomed(
    found: list[Entry], older_than: float | None, max_size: float | None, everything: bool, now: float
) -> Iterator[Entry]:
    """The entries to remove: `found` is sorted from the last used to the longest unused."""
    kept = 0
    for entry in found:
        kept += entry.bytes
        stray = entry.path.name.endswith(".tmp") and now - entry.used > _STRAY_AFTER
        old = older_than is not None and now - entry.used > older_than * _DAY
        above = max_size is not None and kept > max_size * _GIGABYTE
        if everything or stray or old or above:
            kept -= entry.bytes
            yield entry


def prune(older_than: float | None = None, max_size: float | None = None, everything: bool = False) -> dict[str, int]:
    """Remove entries and return how many and how many bytes: those unused for `older_than` days, the longest unused
    until `max_size` GB are left, or all. What killed processes left half-written goes in any case."""
    found = sorted((entry for kind in KINDS for entry in entries(kind)), key=lambda entry: -entry.used)
    removed = list(_doomed(found, older_than, max_size, everything, time.time()))
    for entry in removed:
        entry.path.unlink(missing_ok=True)
    return {"files": len(removed), "bytes": sum(entry.bytes for entry in removed)}
