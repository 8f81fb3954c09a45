"""Several processes learn what one learns, as copies (DDP) and with weights or the optimiser's state shared out among
them (FSDP, DeepSpeed)."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from voxmoe.errors import TrainingError
from voxmoe.imaging.torso import write_torsos
from voxmoe.training.any_recipe import load_any
from voxmoe.training.processes import Processes
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.reader_run import train_reader
from voxmoe.training.recipe import FitSettings, Recipe, RunRecipe, load_recipe
from voxmoe.training.run import train
from voxmoe.training.trainer import check_precision, last_checkpoint, shared_accumulation
from voxmoe.vqa.ct.collect import collect

CONFIGS = Path(__file__).parents[2] / "recipes" / "accelerate"
CHANGES = [
    "fit.max_steps=4",
    "fit.save_steps=2",
    "fit.precision=fp32",
    "fit.modality_dropout=0.3",
    "model.language.lora.dropout=0.2",
]
WARMED = [*CHANGES, "model.gaze={heads: 2, width: 8, hidden: 16}", "fit.warm_up={epochs: 2, studies: 1}"]


@pytest.fixture(scope="module")
def alone(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(load_recipe(tiny_recipe, [*CHANGES, f"out={tmp_path_factory.mktemp('alone')}"]))


@pytest.fixture(scope="module")
def reader_recipe(tiny_language: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a reader with task experts, both stages at once, on CT phantoms."""
    root = tmp_path_factory.mktemp("reader")
    write_torsos(root / "cohort", 3, 5, shape=(48, 48, 32))
    collect("phantom", [str(root / "cohort" / "truth.jsonl")], root / "volumes", root / "cohort" / "volumes")
    language = {"name": str(tiny_language), "lora": None}
    recipe = {
        "system": "tgh-moe",
        "name": "reader",
        "stage": "together",
        "data": str(root / "volumes"),
        "out": str(root / "alone"),
        "model": {
            "base": {"kind": "fresh", "language": language, "size": 16, "patch": 4, "hidden": 16, "layers": 3,
                     "heads": 2, "merge": 4},
            "pictures": {"size": 16, "depth": 4},
            "lora": {"rank": 2, "alpha": 4, "dropout": 0.2},
            "experts": {"blocks": 1, "experts": 2, "rank": 2},
        },
        "fit": {"max_steps": 4, "batch_size": 4, "accumulation": 2, "save_steps": 2, "precision": "fp32"},
    }  # fmt: skip
    path = root / "reader.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def warmed_alone(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(load_recipe(tiny_recipe, [*WARMED, f"out={tmp_path_factory.mktemp('warmed-alone')}"]))


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "voxmoe"]


DEEPSPEED_AT = Path(sys.prefix) / "deepspeed"
"""It lies apart (`make test` puts it there): wherever it can be imported, transformers imports it."""


def environment_of(launcher: list[str]) -> dict[str, str]:
    """Only what is launched by DeepSpeed finds it."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_TORCH_DEVICE": "cpu"}
    if launcher is not DEEPSPEED:
        return alone
    found = os.pathsep.join(filter(None, [str(DEEPSPEED_AT), os.getenv("PYTHONPATH")]))
    return {**alone, "DS_ACCELERATOR": "cpu", "PYTHONPATH": found}


def launch(launcher: list[str], recipe: Path, changes: list[str], out: Path) -> None:
    command = [sys.executable, *launcher, "train", str(recipe), *changes, f"out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment_of(launcher))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count(f"model in {out}") == 1, "one process speaks"


def close(alone: Path, together: Path) -> None:
    """Equal up to the order in which numbers are added."""
    logs = []
    for folder in (alone, together):
        lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
        logs.append([(line["step"], line["loss"], line.get("grad_norm", 0.0)) for line in lines])
    assert len(logs[0]) == len(logs[1])
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    weights, others = (load_file(folder / "model.safetensors") for folder in (alone, together))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, atol=2e-6, rtol=1e-4, msg=name)
    assert json.loads((together / "manifest.json").read_text())["processes"] == 2
    assert not list(together.rglob("*.tmp"))
    assert not (together / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_by_torchrun(
    alone: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))  # nothing is kept yet: they compute it together
    launch(TORCHRUN, tiny_recipe, CHANGES, tmp_path / "out")
    close(alone, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_go_on_from_what_the_first_has_warmed_up(
    warmed_alone: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    launch(TORCHRUN, tiny_recipe, WARMED, tmp_path / "out")
    close(warmed_alone, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_teach_a_reader(reader_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = load_any(reader_recipe)
    assert isinstance(recipe, ReaderRecipe)
    train_reader(recipe)
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))
    launch(TORCHRUN, reader_recipe, [], tmp_path / "out")
    close(recipe.out, tmp_path / "out")


def by_accelerate(name: str) -> list[str]:
    """Two processes by a shipped config, on a CPU."""
    config = ("--config_file", str(CONFIGS / f"{name}.yaml"), "--num_processes", "2", "--main_process_port", "0")
    return ["-m", "accelerate.commands.launch", *config, str(Path(__file__).with_name(f"{name}_on_cpu.py"))]


FSDP = by_accelerate("fsdp")
DEEPSPEED = by_accelerate("deepspeed")
needs_deepspeed = pytest.mark.skipif(not DEEPSPEED_AT.is_dir(), reason="DeepSpeed is not there; make test installs it")


@pytest.mark.slow
@pytest.mark.parametrize(("one", "changes"), [("alone", CHANGES), ("warmed_alone", WARMED)])
def test_two_processes_by_the_fsdp_config(
    one: str, changes: list[str], tiny_recipe: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    launch(FSDP, tiny_recipe, changes, tmp_path / "out")
    close(request.getfixturevalue(one), tmp_path / "out")


@pytest.mark.slow
@needs_deepspeed
def test_two_processes_by_the_deepspeed_config(alone: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    launch(DEEPSPEED, tiny_recipe, CHANGES, tmp_path / "out")
    close(alone, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(TORCHRUN, id="torchrun"),
        pytest.param(FSDP, id="fsdp"),
        pytest.param(DEEPSPEED, id="deepspeed", marks=needs_deepspeed),
    ],
)
def test_two_processes_that_are_killed_go_on(
    launcher: list[str], alone: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, *launcher, "train", str(tiny_recipe), *CHANGES, f"out={out}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment_of(launcher), **quiet) as process:
        while last_checkpoint(out / "checkpoints") is None:
            assert process.poll() is None, "it was to be killed after its first checkpoint"
            time.sleep(0.002)
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
    assert not (out / "manifest.json").exists(), "it was to be killed before its end"
    launch(launcher, tiny_recipe, CHANGES, out)
    close(alone, out)


@pytest.mark.slow
def test_shared_weights_in_bf16_learn_as_one_process_does(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = [*CHANGES, "fit.precision=bf16"]
    one = train(load_recipe(tiny_recipe, [*changes, f"out={tmp_path / 'one'}"]))
    launch(FSDP, tiny_recipe, changes, tmp_path / "two")
    losses = [
        [json.loads(line)["loss"] for line in (folder / "training.jsonl").read_text().splitlines()]
        for folder in (one, tmp_path / "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, tmp_path / "two"))
    for name, tensor in weights.items():
        assert others[name].dtype == tensor.dtype, name
        assert torch.isfinite(others[name]).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["shared", "together"])
def test_two_processes_teach_a_reader_by_the_fsdp_config(stage: str, reader_recipe: Path, tmp_path: Path) -> None:
    changes = [f"stage={stage}", *(["model.experts=null"] if stage == "shared" else [])]
    recipe, _ = load_any(reader_recipe, [*changes, f"out={tmp_path / 'alone'}"])
    assert isinstance(recipe, ReaderRecipe)
    train_reader(recipe)
    launch(FSDP, reader_recipe, changes, tmp_path / "out")
    close(recipe.out, tmp_path / "out")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_are_accelerates(path: Path) -> None:
    config = load_config_from_file(str(path))
    kind = str(config.distributed_type).rpartition(".")[2]
    assert kind == {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}[path.stem]
    assert config.num_processes == 2
    assert f"recipes/accelerate/{path.name}" in path.read_text()
    assert set(yaml.safe_load(path.read_text())) <= {*vars(config)}


def test_deepspeed_does_not_round_what_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(TrainingError, match=r"add fit\.precision=fp32, or launch by recipes/accelerate/fsdp\.yaml"):
        check_precision(FitSettings(precision="bf16"))
    check_precision(FitSettings(precision="fp32"))


@pytest.mark.parametrize(("kind", "run"), [(Recipe, train), (ReaderRecipe, train_reader)])
def test_what_deepspeed_would_round_is_refused_before_anything_is_read(
    kind: type[RunRecipe], run: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    fit = FitSettings(precision="bf16")
    recipe = kind.model_construct(data=(tmp_path / "nowhere",), out=tmp_path / "out", start=None, fit=fit)
    with pytest.raises(TrainingError, match=r"add fit\.precision=fp32"):
        run(recipe)


class Three(Processes):
    """One of three."""

    def __init__(self) -> None:
        """Without a group."""

    @property
    def count(self) -> int:
        return 3


def test_a_step_is_shared_evenly_or_not_at_all() -> None:
    assert shared_accumulation(FitSettings(accumulation=9), Three()) == 3
    with pytest.raises(TrainingError, match=r"8 forward passes a step .* 3 processes; choose fit\.accumulation"):
        shared_accumulation(FitSettings(accumulation=8), Three())
