"""The warm-up: what learns in it, what does not, and a run that was killed before, in and after it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from voxmoe.errors import RecipeError, TrainingError
from voxmoe.model.mpllm import MpLLM
from voxmoe.training import run as run_module
from voxmoe.training import warm_up as warm_up_module
from voxmoe.training.recipe import Recipe, load_recipe
from voxmoe.training.run import WARM, train
from voxmoe.training.tensors import read_tensors
from voxmoe.training.trainer import COMPLETE
from voxmoe.training.warm_up import PARTS

EPOCHS = 8
CHANGES = [
    "model.gaze={heads: 2, width: 8, hidden: 16}",
    f"fit.warm_up={{epochs: {EPOCHS}, studies: 1, learning_rate: 1.0e-2}}",
    "eye=null",
    "augment={variants: 2}",
    "fit.modality_dropout=0.3",
    "fit.precision=fp32",
    "model.loss={text: 0}",
    "fit.max_steps=4",
    "fit.save_steps=2",
    "model.language.lora.dropout=0.2",
]


def recipe_of(tiny_recipe: Path, out: Path, *changes: str) -> Recipe:
    return load_recipe(tiny_recipe, [*CHANGES, *changes, f"out={out}"])


class StopHereError(Exception):
    """Stands for the end of a process."""


def stopped_at(recipe: Recipe, stage: str, step: int) -> list[str]:
    """Train until a step of a stage and stop there; the stages that were gone through, in their order."""
    stages: list[str] = []

    def report(name: str, done: int, total: int) -> None:
        stages.append(name.split(" (")[0])
        if stages[-1] == stage and done == step:
            raise StopHereError

    with pytest.raises(StopHereError):
        train(recipe, report)
    return list(dict.fromkeys(stages))


def losses_of(folder: Path, stage: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["stage"] == stage]
    assert [line["step"] for line in own] == list(range(1, len(own) + 1))
    return [line["loss"] for line in own]


def same(first: Path, second: Path) -> None:
    assert (first / "training.jsonl").read_text() == (second / "training.jsonl").read_text()
    weights, others = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture(scope="module")
def undisturbed(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe_of(tiny_recipe, tmp_path_factory.mktemp("undisturbed")))


def test_the_loss_falls_and_stands_in_the_log_before_the_fit(undisturbed: Path) -> None:
    losses = losses_of(undisturbed, "warm-up")
    an_epoch = len(losses) // EPOCHS
    assert len(losses) == an_epoch * EPOCHS
    assert an_epoch > 1
    first, last = (sum(part) / an_epoch for part in (losses[:an_epoch], losses[-an_epoch:]))
    assert last < 0.9 * first
    lines = (undisturbed / "training.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["warm-up"] * len(losses) + ["fit"] * 4
    assert losses_of(undisturbed, "fit")[0] < first


def test_all_parts_learn_but_the_language_model_and_the_encoder(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, torch.Tensor] = {}

    def remembered(model: MpLLM, *rest: object) -> list[float]:
        before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        losses = warm_up(model, *rest)
        after = model.state_dict()
        moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
        learning = {name for name, p in model.named_parameters() if p.requires_grad and name.partition(".")[0] in PARTS}
        assert moved == learning - {"gaze.share"}
        assert not model.training
        return losses

    warm_up = run_module.warm_up
    monkeypatch.setattr(run_module, "warm_up", remembered)
    stopped_at(recipe_of(tiny_recipe, tmp_path), "fitting", 1)
    kept = read_tensors(tmp_path / "checkpoints" / WARM)
    assert {name.partition(".")[0] for name in kept} == {"connector", "gaze", "heads", "losses"}
    assert before


def test_the_same_seed_gives_the_same_and_another_another(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    same(undisturbed, train(recipe_of(tiny_recipe, tmp_path / "again")))
    stopped_at(recipe_of(tiny_recipe, tmp_path / "other", "seed=1"), "fitting", 1)
    assert losses_of(undisturbed, "warm-up")[0] != losses_of(tmp_path / "other", "warm-up")[0]


@pytest.mark.parametrize(
    ("stage", "step"), [("warming up", 3), ("fitting", 1), ("fitting", 3)], ids=["in it", "after it", "in the fit"]
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    undisturbed: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path)
    assert stopped_at(recipe, stage, step)[-1] == stage
    if stage == "fitting":
        assert (tmp_path / "checkpoints" / "checkpoint-2" / COMPLETE).is_file() == (step == 3)
        monkeypatch.setattr(run_module, "warm_up", None)  # is not done again
    train(recipe)
    same(undisturbed, tmp_path)


def test_questions_are_read_once_for_all_models_with_one_start(
    undisturbed: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert undisturbed.is_dir()
    monkeypatch.setattr(warm_up_module, "_listen", None)  # is not done again
    stopped_at(recipe_of(tiny_recipe, tmp_path / "one", "model.connector={kind: single}"), "fitting", 1)
    with pytest.raises(TypeError):  # of other adapters
        train(recipe_of(tiny_recipe, tmp_path / "two", "seed=2"))


def test_what_another_recipe_has_warmed_up_is_not_taken(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    other = recipe_of(tiny_recipe, tmp_path, "fit.warm_up.learning_rate=1.0e-4")
    assert "warming up" in stopped_at(other, "fitting", 1)
    train(recipe_of(tiny_recipe, tmp_path))
    same(undisturbed, tmp_path)


def test_a_damaged_file_is_made_again(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path)
    stopped_at(recipe, "fitting", 3)
    kept = tmp_path / "checkpoints" / WARM
    kept.write_bytes(kept.read_bytes()[:-4] + b"lost")
    train(recipe)
    same(undisturbed, tmp_path)


def test_what_a_start_has_learnt_to_read_has_no_share_before_the_fit(
    undisturbed: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    assert load_file(undisturbed / "model.safetensors")["gaze.share"].any()
    stopped_at(recipe_of(tiny_recipe, tmp_path / "one", f"start={undisturbed}"), "fitting", 1)
    kept = read_tensors(tmp_path / "one" / "checkpoints" / WARM)
    assert not kept["gaze.share"].any()
    assert losses_of(tmp_path / "one", "warm-up")[0] < losses_of(undisturbed, "warm-up")[0]


def test_a_text_only_model_is_a_start(tiny_recipe: Path, tmp_path: Path) -> None:
    blind = ["model.vision=null", "model.gaze=null", "fit.warm_up=null", "augment=null", "fit.max_steps=1"]
    start = train(recipe_of(tiny_recipe, tmp_path / "blind", *blind))
    out = train(recipe_of(tiny_recipe, tmp_path / "seeing", f"start={start}"))
    assert len(losses_of(out, "fit")) == 4


def test_bf16_learns_what_fp32_does(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["fit.precision=bf16", "fit.max_steps=1"]
    losses = losses_of(train(recipe_of(tiny_recipe, tmp_path, *changes)), "warm-up")
    expected = losses_of(undisturbed, "warm-up")
    assert losses[:4] == pytest.approx(expected[:4], rel=0.02)
    assert losses[-1] < losses[0]


def test_answers_are_balanced_as_in_the_fit(undisturbed: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    stopped_at(recipe_of(tiny_recipe, tmp_path, "fit.balance=true"), "fitting", 1)
    assert losses_of(tmp_path, "warm-up")[0] != pytest.approx(losses_of(undisturbed, "warm-up")[0])


def test_a_chart_beside_the_gaze_learns_too(tiny_recipe: Path, seeing_recipe: list[str], tmp_path: Path) -> None:
    changes = ["model.chart={hidden: 8}", "fit.modality_dropout=0", "augment={variants: 2, modality_dropout: 0.5}"]
    stopped_at(recipe_of(tiny_recipe, tmp_path, *seeing_recipe, *changes), "fitting", 1)
    assert any(name.startswith("chart.") for name in read_tensors(tmp_path / "checkpoints" / WARM))


@pytest.mark.parametrize("what", ["loss", "norm of the gradient"])
def test_what_is_no_number_ends_it(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    said: list[object] = []

    def spoilt(self: MpLLM, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        said.append(None)
        if len(said) < 3:
            return say(self, *arguments)
        factor = torch.tensor(torch.nan if what == "loss" else 1e38)
        return {
            name: logits * factor if what == "loss" else logits + factor * (logits - logits.detach()) * 1e4
            for name, logits in say(self, *arguments).items()
        }

    say = MpLLM.say_at_sight
    monkeypatch.setattr(MpLLM, "say_at_sight", spoilt)
    with pytest.raises(TrainingError, match=rf"the {what} of the warm-up became (nan|inf) at step 3; lower fit\.warm"):
        train(recipe_of(tiny_recipe, tmp_path))
    assert not (tmp_path / "checkpoints" / WARM).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.gaze=null",
            r"fit\.warm_up teaches heads that look at the tokens themselves: set model\.gaze, or leave",
        ),
        ("fit.tune_encoder=true", r"fit\.warm_up sees each study in many epochs.*set fit\.tune_encoder=false"),
        ("fit.warm_up.epochs=0", r"fit\.warm_up\.epochs"),
    ],
)
def test_what_it_cannot_teach_is_refused(tiny_recipe: Path, tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(tiny_recipe, tmp_path, change)
