"""Code that is another than before, for keys that it decides."""

from pathlib import Path
from types import ModuleType

import pytest


def change_code(module: ModuleType, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the source of a module have one more line, without loading it."""
    other = folder / "changed.py"
    other.write_bytes(Path(str(module.__file__)).read_bytes() + b"# changed\n")
    patch.setattr(module, "__file__", str(other))
