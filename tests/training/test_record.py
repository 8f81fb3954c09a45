"""What a run is known again by, and what is said before another one takes its place."""

import logging
from pathlib import Path
from typing import Any

import pytest

from voxmoe.files import write_json
from voxmoe.model import consensus
from voxmoe.training.processes import Processes
from voxmoe.training.recipe import Recipe
from voxmoe.training.record import begin, checkpoints, is_finished, terms


class One(Processes):
    """Alone."""

    def __init__(self) -> None:
        """Without a group."""

    @property
    def rank(self) -> int:
        return 0

    def wait(self) -> None:
        """There is nobody else."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "dataset" / "data").mkdir(parents=True)
    (tmp_path / "dataset" / "data" / "train.parquet").write_bytes(b"questions")
    return tmp_path / "dataset"


def recipe_of(data: Path, **changes: Any) -> Recipe:
    tree = {"name": "one", "data": str(data), "out": str(data.parent / "out"), **changes}
    return Recipe.model_validate(tree)


def interrupted(recipe: Recipe) -> Path:
    """Leave a checkpoint, as a run that was interrupted does."""
    begin(recipe, One())
    place = checkpoints(recipe) / "checkpoint-3" / "complete"
    place.parent.mkdir()
    place.write_bytes(b"")
    return place


@pytest.mark.parametrize(
    "changes", [{"name": "other"}, {"fit": {"save_steps": 7}}, {"fit": {"report_to": ["tensorboard"]}}]
)
def test_what_changes_no_number_keeps_what_was_done(
    data: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(data)
    kept = interrupted(recipe)
    begin(recipe_of(data, **changes), One())
    assert kept.is_file()
    write_json(recipe.out / "manifest.json", terms(recipe))
    assert is_finished(recipe_of(data, **changes))
    assert not caplog.records


def test_what_differs_is_told_before_checkpoints_go(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = interrupted(recipe_of(data))
    there: list[bool] = []

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            there.append(kept.is_file())

    logger, handler = logging.getLogger("voxmoe"), Asking()
    logger.addHandler(handler)
    try:
        begin(recipe_of(data, seed=5, eye={"epochs": 3}, fit={"learning_rate": 0.001, "save_steps": 9}), One())
    finally:
        logger.removeHandler(handler)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    told = record.getMessage()
    out = recipe_of(data).out
    assert told.startswith(
        f"{out}: this run replaces the checkpoints of another one, from which it differs in seed 0 -> 5"
    )
    assert "fit.learning_rate 0.0002 -> 0.001" in told
    assert "eye null -> {" in told
    assert "save_steps" not in told
    assert told.endswith("give each run that is to be kept an out= of its own")
    assert there == [True]
    assert not kept.exists()


def test_a_finished_model_is_replaced_aloud(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(data)
    write_json(recipe.out / "manifest.json", terms(recipe))
    (recipe.out / consensus.FILE).write_bytes(b"votes")
    (data / "data" / "train.parquet").write_bytes(b"other questions")
    begin(recipe, One())
    assert "replaces the model of another one, from which it differs in what lies in data;" in caplog.text
    assert not (recipe.out / "manifest.json").exists()
    assert not (recipe.out / consensus.FILE).exists()


def test_a_recipe_of_another_system_is_told(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(data)
    write_json(recipe.out / "manifest.json", {"recipe": {"system": "other"}})
    begin(recipe, One())
    assert "differs in its recipe, which this version cannot read" in caplog.text


def test_a_new_folder_is_no_reason_to_speak(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(recipe_of(data), One())
    assert not caplog.records


@pytest.mark.parametrize("damaged", [b"", b'{"recipe":', b"\xff", b"3"])
def test_a_damaged_record_is_that_of_another_run(damaged: bytes, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(data)
    kept = interrupted(recipe)
    (checkpoints(recipe) / "run.json").write_bytes(damaged)
    (recipe.out / "manifest.json").write_bytes(damaged)
    assert not is_finished(recipe)
    begin(recipe, One())
    assert "replaces the checkpoints of another one, from which it differs in its record, as" in caplog.text
    assert "replaces the model of another one, from which it differs in its record, as" in caplog.text
    assert not kept.exists()
    assert not (recipe.out / "manifest.json").exists()
