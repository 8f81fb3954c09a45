"""A run from its recipe: record, repetition, evaluation of what came out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxmoe.errors import DatasetError, MissingPackageError, QuestionError, TrainingError, WeightsError
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.training.recipe import load_recipe
from voxmoe.training.record import is_finished
from voxmoe.training.run import train
from voxmoe.training.trainer import last_checkpoint
from voxmoe.vqa.dataset import SPLITS, open_dataset


def test_a_run_leaves_its_record(tiny_model: Path, tiny_recipe: Path) -> None:
    lines = [json.loads(line) for line in (tiny_model / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "fit"] == [1, 2, 3, 4, 5, 6]
    assert len([line for line in lines if line["stage"] == "eye"]) == 2
    manifest = json.loads((tiny_model / "manifest.json").read_text())
    assert manifest["recipe"]["name"] == "tiny"
    (dataset,) = manifest["datasets"]
    assert set(dataset) == {"train.parquet", "validation.parquet", "test.parquet"}
    weights = (tiny_model / "model.safetensors").stat().st_size
    peaks = manifest["peak_bytes"]
    assert set(peaks) == {"machine", "gpu"}
    assert (peaks["gpu"] is None) != torch.cuda.is_available()
    if Path("/proc/self/status").is_file():
        assert weights < peaks["machine"] < 2**40
    assert is_finished(load_recipe(tiny_recipe))
    assert not is_finished(load_recipe(tiny_recipe, ["fit.max_steps=7"]))


def test_a_setting_that_is_newer_than_a_record_has_its_default_in_it(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["eye=null", "fit.max_steps=1", f"out={tmp_path}"])
    manifest = train(recipe) / "manifest.json"
    record = json.loads(manifest.read_text())
    del record["recipe"]["fit"]["balance"]
    manifest.write_text(json.dumps(record))
    assert is_finished(recipe)
    assert not is_finished(
        load_recipe(tiny_recipe, ["eye=null", "fit.max_steps=1", "fit.balance=true", f"out={tmp_path}"])
    )
    record["recipe"]["fit"]["unknown"] = 1
    manifest.write_text(json.dumps(record))
    assert not is_finished(recipe)


def test_the_same_recipe_gives_the_same_weights(tiny_model: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    again = train(load_recipe(tiny_recipe, [f"out={tmp_path}"]))
    first, second = (load_file(folder / "model.safetensors") for folder in (tiny_model, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_system_with_two_streams_is_trained_and_evaluated(tiny_recipe: Path, dataset: Path, tmp_path: Path) -> None:
    vision = "{kind: dcformer, grid: [16, 16, 16], channels: [4, 6, 8], blocks: [1, 1], kernels: [3, 3]}"
    connector = "{kind: med3dvlm, high_tokens: [4, 2], low_tokens: [6, 3]}"
    changes = [f"model.vision={vision}", f"model.connector={connector}", "fit.max_steps=2", f"out={tmp_path}"]
    results = evaluate(train(load_recipe(tiny_recipe, changes)), dataset)
    assert results["method"] == "Med3DVLM"
    assert results["method"] in results["methods"]


def test_a_run_starts_from_another_model(tiny_model: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    blind = train(
        load_recipe(tiny_recipe, ["model.vision=null", "eye=null", "fit.max_steps=2", f"out={tmp_path}/blind"])
    )
    changes = ["fit.max_steps=1", "fit.learning_rate=1e-9", "fit.expert_learning_rate=1e-9", f"out={tmp_path}/seeing"]
    recipe = load_recipe(tiny_recipe, [*changes, f"start={blind}"])
    first, second = (load_file(folder / "model.safetensors") for folder in (blind, train(recipe)))
    assert not any(name.startswith(("connector.", "vision.")) for name in first)
    for name, tensor in first.items():
        if not name.startswith("heads.standardise"):
            torch.testing.assert_close(second[name], tensor, atol=1e-7, rtol=0, msg=name)
    assert is_finished(recipe)
    shutil.copy(tiny_model / "model.safetensors", blind)
    assert not is_finished(recipe)  # the start is another one now


def test_a_part_that_was_trained_anew_makes_it_another_run(tiny_model: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    eye = shutil.copy(tiny_model / "model.safetensors", tmp_path / "eye.safetensors")
    changes = ["eye=null", "fit.max_steps=1", f"model.vision.weights={eye}", f"out={tmp_path}/run"]
    recipe = load_recipe(tiny_recipe, changes)
    train(recipe)
    assert is_finished(recipe)
    weights = load_file(eye)
    name = next(name for name in weights if name.startswith("vision."))
    save_file(weights | {name: weights[name] + 1}, eye)
    assert not is_finished(recipe)


def test_a_start_that_does_not_fit_is_named(tiny_model: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["model.vision=null", "eye=null", f"out={tmp_path}", f"start={tiny_model}"]
    with pytest.raises(WeightsError, match=r"not a start for this model.*unexpected .*connector\."):
        train(load_recipe(tiny_recipe, changes))
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        train(load_recipe(tiny_recipe, [f"out={tmp_path}", f"start={tmp_path}"]))


def losses_of(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "training.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tuned", [False, True])
def test_accumulated_small_batches_equal_one_large_batch(tiny_recipe: Path, tmp_path: Path, tuned: bool) -> None:
    changes = [
        f"fit.tune_encoder={str(tuned).lower()}",
        "fit.max_steps=3",
        "fit.precision=fp32",
        "fit.modality_dropout=0.3",
        "fit.balance=true",
        "eye=null",
        "model.language.lora.dropout=0",
    ]
    folders = []
    for batch, accumulation in ((8, 1), (1, 8)):
        out = tmp_path / f"{batch}x{accumulation}"
        sizes = [f"fit.batch_size={batch}", f"fit.accumulation={accumulation}", f"out={out}"]
        folders.append(train(load_recipe(tiny_recipe, [*changes, *sizes])))
    one, other = (losses_of(folder) for folder in folders)
    assert one == pytest.approx(other, rel=1e-5)
    assert json.loads((folders[0] / "config.json").read_text())["settings"]["language"]["dtype"] == "fp32"
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-6, rtol=1e-4, msg=name)


def test_a_tuned_encoder_starts_as_a_frozen_one_and_learns_at_a_rate_of_its_own(
    tiny_recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    """Images go through it in every pass, with the views and the modalities left out that a frozen one has."""
    shared = ["fit.max_steps=3", "fit.precision=fp32", "features=float32", "augment={variants: 2}"]
    rates = {"frozen": [], "still": ["fit.encoder_learning_rate=1e-30"], "tuned": ["fit.encoder_learning_rate=1e-2"]}
    folders = {}
    for name, changes in rates.items():
        tune = f"fit.tune_encoder={str(name != 'frozen').lower()}"
        folders[name] = train(load_recipe(tiny_recipe, [*shared, tune, *changes, f"out={tmp_path / name}"]))
    losses = {name: losses_of(folder)[2:] for name, folder in folders.items()}  # two steps of the eye come first
    assert losses["still"] == pytest.approx(losses["frozen"], rel=1e-5)
    assert losses["tuned"][0] == pytest.approx(losses["frozen"][0], rel=1e-5)
    assert losses["tuned"][1:] != pytest.approx(losses["frozen"][1:], rel=1e-5)
    weights = {name: load_file(folder / "model.safetensors") for name, folder in folders.items()}
    encoder = [name for name in weights["frozen"] if name.startswith("vision.")]
    assert all(torch.equal(weights["frozen"][name], weights["still"][name]) for name in encoder)
    assert not any(torch.equal(weights["frozen"][name], weights["tuned"][name]) for name in encoder)
    trained = [json.loads((folders[name] / "manifest.json").read_text())["trained_parameters"] for name in rates]
    assert trained[2] - trained[0] == sum(weights["tuned"][name].numel() for name in encoder)
    assert evaluate(folders["tuned"], dataset, split="train")["method"] == "mpLLM"


def test_views_and_balance_change_what_is_learned(tiny_recipe: Path, tmp_path: Path) -> None:
    losses = []
    for number, change in enumerate(("seed=0", "augment={variants: 3}", "fit.balance=true")):
        changes = ["eye=null", "fit.max_steps=2", "fit.precision=fp32", change, f"out={tmp_path / str(number)}"]
        losses.append(losses_of(train(load_recipe(tiny_recipe, changes)))[0])
    assert len(set(losses)) == 3


@pytest.mark.parametrize("what", ["loss", "norm of the gradient"])
def test_what_is_no_number_ends_the_run(
    tiny_recipe: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def spoilt(self: MpLLM, *arguments: Any, **named: Any) -> Any:
        nonlocal steps
        output = forward(self, *arguments, **named)
        steps += 1
        if steps == 6:  # two passes a step, so in the third
            factor = torch.tensor(torch.nan if what == "loss" else 1e38)
            output.loss = (
                output.loss * factor if what == "loss" else output.loss + factor * (output.loss - output.loss.detach())
            )
        return output

    forward = MpLLM.forward
    monkeypatch.setattr(MpLLM, "forward", spoilt)
    changes = ["eye=null", "fit.save_steps=1", "fit.precision=fp32", f"out={tmp_path}"]
    with pytest.raises(TrainingError, match=rf"the {what} became (nan|inf) at step 3.*fit\.learning_rate"):
        train(load_recipe(tiny_recipe, changes))
    assert len(losses_of(tmp_path)) == 2
    kept = last_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.name == "checkpoint-2"
    assert all(tensor.isfinite().all() for tensor in load_file(kept / "model.safetensors").values())


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_log_that_needs_a_package_says_which(
    tiny_recipe: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxmoe.training.trainer.find_spec", lambda package: None)
    with pytest.raises(MissingPackageError, match=f"pip install {name}"):
        train(load_recipe(tiny_recipe, [f"fit.report_to=[{name}]", f"out={tmp_path}"]))


def test_tensorboard_reads_the_losses(tiny_recipe: Path, tmp_path: Path) -> None:
    train(load_recipe(tiny_recipe, ["fit.report_to=[tensorboard]", "fit.max_steps=3", f"out={tmp_path}"]))
    (events,) = (tmp_path / "tensorboard").iterdir()
    board = EventAccumulator(str(events))
    board.Reload()
    shown = [(point.step, point.value) for point in board.Scalars("train/loss")]
    assert [step for step, _ in shown] == [1, 2, 3]
    assert [loss for _, loss in shown] == pytest.approx(losses_of(tmp_path)[-3:], rel=1e-3)


def test_an_over_long_question_is_named_before_anything_is_encoded(
    tiny_recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    table = pq.read_table(dataset / "data" / "train.parquet")
    rows = table.to_pylist()
    rows[4]["question"] = "where is it " * 100
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "data" / "data" / "train.parquet")
    stages: list[str] = []
    recipe = load_recipe(tiny_recipe, [f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"])
    with pytest.raises(QuestionError, match=rf"{rows[4]['id']}: the question has \d+ tokens"):
        train(recipe, lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"loading the language model"}


def test_images_that_are_gone_are_named(tiny_recipe: Path, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "moved"
    (other / "data").mkdir(parents=True)
    for split in (dataset / "data").iterdir():
        (other / "data" / split.name).write_bytes(split.read_bytes())
    manifest = json.loads((dataset / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "images": str(tmp_path / "nowhere")}))
    with pytest.raises(DatasetError, match=r"nowhere.*is gone"):
        train(load_recipe(tiny_recipe, [f"data={other}", f"out={tmp_path / 'out'}"]))


def test_no_dataset_is_named(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="voxmoe build"):
        train(load_recipe(tiny_recipe, [f"data={tmp_path}"]))


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another release, with other labels."""
    from voxmoe.imaging.layouts import profile_named
    from voxmoe.imaging.phantoms import write_cohort
    from voxmoe.vqa.dataset import build_dataset
    from voxmoe.vqa.protocol import PAPER_V2

    cohort, folder = tmp_path_factory.mktemp("other-cohort"), tmp_path_factory.mktemp("other-dataset")
    write_cohort(cohort, 3, profile_named("brats-2021"), seed=2, jobs=1, progress=None)
    build_dataset(cohort, folder, PAPER_V2)
    return folder


def test_a_model_of_two_datasets_knows_the_labels_of_both(
    tiny_recipe: Path, dataset: Path, other_dataset: Path, tmp_path: Path
) -> None:
    changes = [f"data=[{dataset}, {other_dataset}]", "eye=null", f"out={tmp_path / 'out'}"]
    out = train(load_recipe(tiny_recipe, changes))
    assert MpLLMConfig.from_pretrained(out).parsed.profiles == ("gli-2024", "brats-2021")
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["datasets"]) == 2
    for place in (dataset, other_dataset):
        found = evaluate(out, place, split="all")
        assert found["cross"] is None
        assert found["questions"] == sum(len(open_dataset(place).rows(split)) for split in SPLITS)
        majority, model = (found["methods"][name]["tasks"]["mean"]["value"] for name in ("majority class", "mpLLM"))
        assert 0 < majority <= 100
        assert 0 <= model <= 100


def test_two_studies_of_one_name_are_refused(tiny_recipe: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has a study called"):
        train(load_recipe(tiny_recipe, [f"data=[{dataset}, {dataset}]", "eye=null", f"out={tmp_path / 'out'}"]))
