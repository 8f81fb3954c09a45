"""The model where none is named: the user's own first, then the shipped one, and a warning where the own is gone."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from voxmoe import default, hub
from voxmoe.default import choice, default_model, model_at, shipped_model
from voxmoe.errors import WeightsError
from voxmoe.training.run import make_default

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(default, "SHIPPED", tmp_path / "package" / "pocket")


def ship() -> Path:
    default.SHIPPED.mkdir(parents=True)
    (default.SHIPPED / "model.safetensors").write_bytes(b"weights")
    return default.SHIPPED


def own(folder: Path) -> Path:
    folder.mkdir()
    make_default(folder)
    return folder


def test_the_shipped_model_is_the_default_until_another_is_made_it(tmp_path: Path) -> None:
    shipped = ship()
    assert default_model() == shipped
    mine = own(tmp_path / "mine")
    assert default_model() == mine
    assert choice().source == "made the default"


def test_a_default_that_is_gone_is_replaced_by_the_shipped_one_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped, mine = ship(), own(tmp_path / "mine")
    mine.rmdir()
    with caplog.at_level(logging.WARNING):
        assert default_model() == shipped
    [record] = caplog.records
    assert str(mine) in record.getMessage()
    assert "no longer there" in record.getMessage()
    mine.mkdir()
    assert default_model() == mine, "it counts again as soon as it is back"


def test_without_any_model_it_is_said_what_is_missing(tmp_path: Path) -> None:
    assert shipped_model() is None
    with pytest.raises(WeightsError, match=r"none was made the default; .* --default"):
        default_model()
    own(tmp_path / "mine").rmdir()
    with pytest.raises(WeightsError, match=r"mine, which was made the default model, is no longer there"):
        default_model()


def test_a_folder_without_weights_is_not_shipped() -> None:
    (ship() / "model.safetensors").unlink()
    assert shipped_model() is None


def test_the_shipped_model_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("pocket")
    with pytest.raises(WeightsError, match="brings no model along"):
        model_at(folder)
    folder.mkdir()
    assert model_at(folder) == folder
    folder.rmdir()
    shipped, mine = ship(), own(tmp_path / "mine")
    assert model_at(None) == mine
    assert model_at(Path("pocket")) == shipped
    assert model_at(Path("elsewhere")) == Path("elsewhere")
    folder.mkdir()
    with pytest.raises(WeightsError, match="name the one that is meant in full"):
        model_at(folder)
    assert model_at(folder.resolve()) == folder.resolve()


def test_info_tells_the_default_and_where_it_is_from(voxmoe: Run, tmp_path: Path) -> None:
    def told() -> dict[str, str | None]:
        found: dict[str, str | None] = json.loads(voxmoe("info", "--json")[1])["default_model"]
        return found

    assert told() == {"folder": None, "source": "none", "gone": None}
    shipped = ship()
    assert told() == {"folder": str(shipped), "source": "shipped with the package", "gone": None}
    mine = own(tmp_path / "mine")
    assert f"{mine} (made the default)" in voxmoe("info")[1]
    mine.rmdir()
    assert told() == {"folder": str(shipped), "source": "shipped with the package", "gone": str(mine)}
    assert f"{mine}, which was made the default, is no longer there" in voxmoe("info")[1]


def test_a_model_on_the_hub_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(name: str, ignore_patterns: list[str]) -> str:
        asked.append((name, set(ignore_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert model_at(Path("hf:someone/their-model")) == tmp_path
    assert asked == [("someone/their-model", {"*.bin", "*.pt", "*.pth", "*.ckpt"})]

    def fails(name: str, ignore_patterns: list[str]) -> str:
        raise OSError("connection lost")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(WeightsError, match="someone/their-model: cannot be fetched from the hub: connection lost"):
        model_at(Path("hf:someone/their-model"))
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(WeightsError, match="someone/their-model: the hub does not answer"):
        model_at(Path("hf:someone/their-model"))
    with pytest.raises(WeightsError, match="no name that a model on the hub can have"):
        model_at(Path("hf:not a name"))
