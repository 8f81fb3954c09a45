"""A run from its recipe: its record and its repetition."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from voxmoe.errors import DatasetError
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import is_finished, train


def test_a_run_leaves_its_record(tiny_model: Path, tiny_recipe: Path) -> None:
    lines = [json.loads(line) for line in (tiny_model / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "fit"] == [1, 2, 3, 4, 5, 6]
    assert len([line for line in lines if line["stage"] == "eye"]) == 2
    manifest = json.loads((tiny_model / "manifest.json").read_text())
    assert manifest["recipe"]["name"] == "tiny"
    assert set(manifest["dataset"]) == {"train.parquet", "validation.parquet", "test.parquet"}
    assert is_finished(load_recipe(tiny_recipe))
    assert not is_finished(load_recipe(tiny_recipe, ["fit.max_steps=7"]))


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
    assert list(results["methods"]) == ["majority class", "mpLLM"]


def test_accumulated_small_batches_equal_one_large_batch(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = [
        "fit.max_steps=2",
        "fit.precision=fp32",
        "fit.modality_dropout=0",
        "eye=null",
        "model.language.lora.dropout=0",
    ]
    losses = []
    for batch, accumulation in ((8, 1), (1, 8)):
        out = tmp_path / f"{batch}x{accumulation}"
        sizes = [f"fit.batch_size={batch}", f"fit.accumulation={accumulation}", f"out={out}"]
        train(load_recipe(tiny_recipe, [*changes, *sizes]))
        losses.append([json.loads(line)["loss"] for line in (out / "training.jsonl").read_text().splitlines()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_no_dataset_is_named(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="voxmoe build"):
        train(load_recipe(tiny_recipe, [f"data={tmp_path}"]))
