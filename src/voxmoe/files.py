"""Writing that leaves nothing half-written, hashes of files, and where VoxMoE keeps what it computes once."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from voxmoe.errors import DatasetError, MissingPackageError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place on success and is removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def packaged(package: str, file: str) -> Path:
    """A file inside an installed package, which is found but not imported; raises `MissingPackageError`."""
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / file if folders else None
    if path is None or not path.is_file():
        raise MissingPackageError(
            f"{file} is not there: the package {package}, which brings it, is missing or incomplete; "
            f"pip install --force-reinstall {package}"
        )
    return path


def home() -> Path:
    """The folder for what is computed once and used again: `VOXMOE_HOME`, or `voxmoe` in the user's cache."""
    if named := os.environ.get("VOXMOE_HOME"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "voxmoe"


def inside(root: Path, name: str) -> Path:
    """The file that a path relative to `root` names; raises `DatasetError` if it leaves `root`, by a link too."""
    relative = PurePosixPath(name)
    if not relative.parts or "\0" in name:
        raise DatasetError(f"{name!r}: names no file; a path relative to {root} is needed")
    if relative.is_absolute() or PureWindowsPath(name).drive or "\\" in name or ".." in relative.parts:
        raise DatasetError(f"{name}: leaves {root}; a path relative to it, with / and without .., is needed")
    place = root / relative
    try:
        target = place.resolve()
    except (OSError, RuntimeError):
        raise DatasetError(f"{name}: is a link in {root} that leads nowhere; put the file itself there") from None
    if not target.is_relative_to(root.resolve()):
        raise DatasetError(f"{name}: is a link that leaves {root} (to {target}); put the file itself there")
    return place
