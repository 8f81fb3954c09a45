"""Writing leaves the old file or the new one, never a part; the home folder goes by the environment."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from voxmoe.errors import DatasetError
from voxmoe.files import atomic_path, home, inside, sha256, write_bytes, write_json


def test_writes_and_makes_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the ne" + (tmp_path / "missing").read_bytes())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_appears_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_json_is_readable_and_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": [1, 2.5], "a": "ödem"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text == '{\n  "b": [\n    1,\n    2.5\n  ],\n  "a": "ödem"\n}\n'
    assert json.loads(text) == {"b": [1, 2.5], "a": "ödem"}


def test_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    write_bytes(tmp_path / "x", content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("VOXMOE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "voxmoe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "voxmoe"


@pytest.mark.parametrize("name", ["", ".", "./", "a\0b"])
def test_what_names_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="names no file"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["..", "a/../../b", "/a", "a\\b", "C:/a", "C:a", "link", "link/b"])
def test_what_leaves_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match=r"leaves .*root"):
        inside(tmp_path / "root", name)


def test_what_stays_inside(tmp_path: Path) -> None:
    """The folder itself may be a link, and so may a file in it, as long as it stays there."""
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "b").symlink_to(tmp_path / "root" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert inside(tmp_path / "link", "./b/c") == tmp_path / "link" / "b" / "c"
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root" / "loop")
    with pytest.raises(DatasetError, match="leads nowhere"):
        inside(tmp_path / "root", "loop")
