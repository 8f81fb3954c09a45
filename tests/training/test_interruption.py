"""A run that is killed goes on, and ends as if nothing had happened: the same losses, the same weights."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from voxmoe.training import run as run_module
from voxmoe.training.recipe import Recipe, load_recipe
from voxmoe.training.record import is_finished
from voxmoe.training.run import train
from voxmoe.training.trainer import COMPLETE, last_checkpoint

# Dropout, missing modalities, views, accumulation and an epoch's end: everything that is drawn.
CHANGES = [
    "fit.max_steps=12",
    "fit.save_steps=3",
    "fit.modality_dropout=0.3",
    "model.language.lora.dropout=0.2",
    "augment={variants: 2}",
]


def recipe_of(tiny_recipe: Path, out: Path) -> Recipe:
    return load_recipe(tiny_recipe, [*CHANGES, f"out={out}"])


@pytest.fixture(scope="module")
def undisturbed(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe_of(tiny_recipe, tmp_path_factory.mktemp("undisturbed")))


def same(first: Path, second: Path) -> None:
    assert (first / "training.jsonl").read_text() == (second / "training.jsonl").read_text()
    weights, others = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def steps_of(out: Path) -> int:
    log = out / "training.jsonl"
    return log.read_text().count('"fit"') if log.is_file() else 0


def run_until(tiny_recipe: Path, out: Path, moment: Callable[[], bool]) -> None:
    """Start the command in a process of its own and kill it at a moment."""
    command = [sys.executable, "-m", "voxmoe", "train", str(tiny_recipe), *CHANGES, f"out={out}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not moment():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path)
    first, second = random.randint(0, 2), random.randint(4, 10)
    run_until(tiny_recipe, tmp_path, lambda: (tmp_path / "training.jsonl").is_file() and steps_of(tmp_path) >= first)
    assert not is_finished(recipe)
    run_until(tiny_recipe, tmp_path, lambda: steps_of(tmp_path) >= second)
    kept = last_checkpoint(tmp_path / "checkpoints")
    assert kept is not None, f"killed after steps {first} and {second}"
    train(recipe)
    same(undisturbed, tmp_path)
    assert is_finished(recipe)
    assert not (tmp_path / "checkpoints").exists()


class StopHereError(Exception):
    """Stands for the end of a process."""


def stopped_at(recipe: Recipe, step: int) -> None:
    """Train until a step and stop there."""

    def report(stage: str, done: int, total: int) -> None:
        if stage.startswith("fitting") and done == step:
            raise StopHereError

    with pytest.raises(StopHereError):
        train(recipe, report)


def test_a_checkpoint_that_is_not_whole_does_not_count(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path)
    stopped_at(recipe, 8)
    folder = tmp_path / "checkpoints"
    assert last_checkpoint(folder) == folder / "checkpoint-6"
    (folder / "checkpoint-6" / COMPLETE).unlink()
    (folder / "checkpoint-6" / "optimizer.pt").write_bytes(b"half")
    assert last_checkpoint(folder) == folder / "checkpoint-3"
    train(recipe)
    same(undisturbed, tmp_path)


PYRAMID = "{kind: pyramid, grid: [16, 16, 16], channels: [8, 8, 8, 8], layers: 1, heads: 2}"


@pytest.mark.parametrize("changes", [[], [f"model.vision={PYRAMID}"]], ids=["vit", "pyramid"])
def test_a_run_that_tunes_its_encoder_goes_on_with_it(tiny_recipe: Path, tmp_path: Path, changes: list[str]) -> None:
    tuned = [*CHANGES, *changes, "fit.tune_encoder=true", "fit.max_steps=4"]
    whole = train(load_recipe(tiny_recipe, [*tuned, f"out={tmp_path / 'whole'}"]))
    recipe = load_recipe(tiny_recipe, [*tuned, f"out={tmp_path / 'stopped'}"])
    stopped_at(recipe, 4)
    kept = load_file(tmp_path / "stopped" / "checkpoints" / "checkpoint-3" / "model.safetensors")
    ended = load_file(whole / "model.safetensors")
    assert kept.keys() == ended.keys()
    moved = {name for name in kept if not torch.equal(kept[name], ended[name])}
    assert {name for name in kept if name.startswith("vision.")} <= moved
    train(recipe)
    same(whole, tmp_path / "stopped")


def test_a_checkpoint_leaves_a_frozen_encoder_out(tiny_recipe: Path, tmp_path: Path) -> None:
    stopped_at(recipe_of(tiny_recipe, tmp_path), 4)
    kept = load_file(tmp_path / "checkpoints" / "checkpoint-3" / "model.safetensors")
    assert not [name for name in kept if name.startswith("vision.")]


def test_what_was_done_is_not_done_again(
    undisturbed: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path)
    stopped_at(recipe, 4)
    monkeypatch.setattr(run_module, "train_eye", None)
    monkeypatch.setattr(run_module, "_calibrate", None)
    stages: list[tuple[str, int]] = []
    train(recipe, lambda stage, done, total: stages.append((stage.split(" (")[0], done)))
    assert ("fitting", 4) in stages
    assert ("fitting", 3) not in stages
    same(undisturbed, tmp_path)


def test_a_run_goes_on_under_another_name_with_other_checkpoints(
    undisturbed: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    stopped_at(recipe_of(tiny_recipe, tmp_path), 4)
    other = load_recipe(tiny_recipe, [*CHANGES, f"out={tmp_path}", "name=other", "fit.save_steps=4"])
    stages: list[tuple[str, int]] = []
    folder = tmp_path / "checkpoints"

    def report(stage: str, done: int, total: int) -> None:
        stages.append((stage.split(" (")[0], done))
        if stages[-1] == ("fitting", 9):
            assert last_checkpoint(folder) == folder / "checkpoint-8"

    train(other, report)
    assert ("fitting", 4) in stages
    assert ("fitting", 3) not in stages
    same(undisturbed, tmp_path)


def test_another_recipe_starts_anew(tiny_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopped_at(recipe_of(tiny_recipe, tmp_path), 4)
    other = load_recipe(tiny_recipe, [*CHANGES, f"out={tmp_path}", "seed=1", "fit.max_steps=2"])
    train(other)
    assert f"{tmp_path}: this run replaces the checkpoints of another one" in caplog.text
    assert [json.loads(line)["step"] for line in (tmp_path / "training.jsonl").read_text().splitlines()][-2:] == [1, 2]
    assert is_finished(other)


def test_an_interrupted_run_says_how_it_goes_on(
    voxmoe: Callable[..., tuple[int, str, str]], tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "training_rows", interrupted)
    code, _, err = voxmoe("train", tiny_recipe, *CHANGES, f"out={tmp_path}")
    assert code == 130
    assert "the same command goes on from the last checkpoint" in err
