"""The file of an evaluation's results: written whole or not at all, and read back."""

import json
from pathlib import Path
from typing import Any

from voxmoe.errors import ResultsError
from voxmoe.files import write_json

VERSION = 2
"""Of the form of the results. A file of another version is refused."""

Record = dict[str, Any]


def save(path: Path, results: Record) -> None:
    write_json(path, results)


def load(path: Path) -> Record:
    """Results that `voxmoe evaluate --out` wrote; raises `ResultsError` if the file holds none, or of another
    version."""
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; voxmoe evaluate --out writes one") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not JSON: {error}") from None
    if not isinstance(results, dict) or "methods" not in results:
        raise ResultsError(f"{path}: holds no results of an evaluation; voxmoe evaluate --out writes them")
    if results.get("version") != VERSION:
        raise ResultsError(
            f"{path}: results of version {results.get('version')}, this VoxMoE reads version {VERSION}; evaluate again"
        )
    return results
