"""The cache of what the frozen encoder sees: one safetensors file a study and variant, named by what decided it.

Safe under concurrent writers and kills: a file appears whole or not at all, two writers of one name write the same
bytes, and a file that cannot be read is computed again.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from voxmoe.files import home, write_bytes

_SUFFIX = ".safetensors"
_DAY_S = 86_400


@dataclass(frozen=True)
class Usage:
    """How much there is in a cache."""

    files: int
    bytes: int


class FeatureStore:
    """Named tensors by key (hex digits) below a folder, by default `features` in VoxMoE's home."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "features"

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}{_SUFFIX}"

    def __contains__(self, key: str) -> bool:
        """Whether there is a readable entry, which counts as used now."""
        path = self.path(key)
        try:
            load_file(path)
            os.utime(path)
        except FileNotFoundError:
            return False
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
            return False
        return True

    def read(self, key: str) -> dict[str, Tensor]:
        """The tensors, mapped from the file rather than copied."""
        return load_file(self.path(key))

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        write_bytes(self.path(key), save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each entry was last used, its size, and its place."""
        for path in self.root.glob(f"*/*{_SUFFIX}"):
            try:
                state = path.stat()
            except FileNotFoundError:  # another process prunes too
                continue
            yield state.st_mtime, state.st_size, path

    def usage(self) -> Usage:
        sizes = [size for _, size, _ in self._entries()]
        return Usage(len(sizes), sum(sizes))

    def prune(self, *, older_than_days: float | None = None, max_bytes: int | None = None) -> Usage:
        """Remove what was not used for so many days, then the longest unused until `max_bytes` are kept.

        Without limits everything goes. Returns what was removed.
        """
        entries = sorted(self._entries())
        everything = older_than_days is None and max_bytes is None
        limit = time.time() - older_than_days * _DAY_S if older_than_days is not None else 0.0
        kept = sum(size for used, size, _ in entries if used >= limit)
        removed = []
        for used, size, path in entries:
            old = used < limit
            if everything or old or (max_bytes is not None and kept > max_bytes):
                path.unlink(missing_ok=True)
                removed.append(size)
                kept -= 0 if old else size
        return Usage(len(removed), sum(removed))
