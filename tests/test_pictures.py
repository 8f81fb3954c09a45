"""Pictures: the same figure in the same bytes, nothing half-written, and what is in the way said before it is drawn."""

import sys
from pathlib import Path

import pytest

from voxmoe.errors import ImageError, MissingPackageError
from voxmoe.pictures import check_picture, new_figure, save_figure

BEGINNINGS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def draw(path: Path) -> bytes:
    figure = new_figure(path, 2, 1)
    figure.add_subplot().contour([[0, 1], [1, 0]])
    save_figure(path, figure, dpi=50)
    return path.read_bytes()


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_figure_is_the_same_bytes_again(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(tmp_path / f"first.{kind.upper()}")
    assert first.startswith(BEGINNINGS[kind])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")  # another day
    assert draw(tmp_path / f"again.{kind}") == first
    assert len(list(tmp_path.iterdir())) == 2


def test_a_picture_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    figure = new_figure(path, 2, 1)
    figure.text(0.5, 0.5, "$\\undefined$")
    with pytest.raises(ValueError, match="undefined"):
        save_figure(path, figure, dpi=50)
    assert not list(tmp_path.iterdir())


def test_what_no_picture_can_be_written_to_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("figure.doc", "figure"):
        with pytest.raises(ImageError, match=r"png, pdf, svg"):
            check_picture(tmp_path / name)
    check_picture(tmp_path / "figure.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for refuse in (check_picture, lambda path: new_figure(path, 2, 1)):
        with pytest.raises(MissingPackageError, match=r"voxmoe\[report\]"):
            refuse(tmp_path / "figure.png")
