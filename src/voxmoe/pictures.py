"""Pictures as files: of a known kind, written whole or not at all, and the same bytes for the same figure."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from voxmoe.errors import ImageError, MissingPackageError
from voxmoe.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT_OUT = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
"""The kinds of picture, and what each is written without: the version of what drew it, or the time."""


def kind_of(path: Path) -> str:
    """The kind of picture that a file is named as; raises `ImageError` for another than PNG, PDF and SVG."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _LEFT_OUT:
        raise ImageError(f"{path}: pictures are written as {', '.join(_LEFT_OUT)}; end the name with one")
    return kind


def check_picture(path: Path) -> None:
    """Say that a picture cannot be written before anything is done for it.

    Raises `ImageError` for another kind of file and `MissingPackageError` without matplotlib.
    """
    kind_of(path)
    if find_spec("matplotlib") is None:
        raise MissingPackageError("pictures need matplotlib: pip install 'voxmoe[report]'")


def new_figure(path: Path, width: float, height: float) -> "Figure":
    """An empty figure of so many inches for a file, which belongs to no window; raises as `check_picture` does."""
    check_picture(path)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure: "Figure", dpi: int) -> None:
    """Write a figure as the kind of picture that its file is named as; `dpi` counts for PNG."""
    from matplotlib import rc_context

    kind = kind_of(path)
    # An SVG names its parts by a salted hash; a fixed salt gives the same names again.
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "voxmoe"}):
        figure.savefig(temporary, format=kind, dpi=dpi, metadata={_LEFT_OUT[kind]: None})
