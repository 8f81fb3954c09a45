"""The file of an evaluation's results: written whole or not at all, and read back."""

import json
from pathlib import Path
from typing import Any

from voxmoe.errors import ResultsError
from voxmoe.files import write_json

VERSION = 2
"""Of the form of the results. A file of another version is refused."""
SAID, SAID_VERSION = "said", 1
"""The kind of a record about what systems said about CTs (`voxmoe.evaluation.said`), and the version of its form."""

Record = dict[str, Any]


def save(path: Path, results: Record) -> None:
    write_json(path, results)


def load(path: Path, kind: str | None = None) -> Record:
    """Results of an evaluation, or those of a `kind` that stands in them; raises `ResultsError` if the file holds none,
    or of another version."""
    results = _read(path)
    if results.get("kind") != kind:
        raise ResultsError(
            f"{path}: holds results of {_called(results.get('kind'))}, and those of {_called(kind)} are needed here"
        )
    return results


def load_any(path: Path) -> Record:
    """Results of whatever kind; raises `ResultsError` as `load` does."""
    return _read(path)


def _called(kind: str | None) -> str:
    return "answers about CT" if kind == SAID else "an evaluation about MRI" if kind is None else repr(kind)


def _read(path: Path) -> Record:
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; voxmoe evaluate --out writes one") from None
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot be read ({error.strerror}); name a file that voxmoe evaluate --out wrote"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not JSON: {error}") from None
    if not isinstance(results, dict) or "methods" not in results or results.get("kind") not in (None, SAID):
        raise ResultsError(f"{path}: holds no results of an evaluation; voxmoe evaluate --out writes them")
    version = SAID_VERSION if results.get("kind") == SAID else VERSION
    if results.get("version") != version:
        raise ResultsError(
            f"{path}: results of version {results.get('version')}, this VoxMoE reads version {version}; evaluate again"
        )
    return results
