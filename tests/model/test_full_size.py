"""The recipe of a named model of 4B parameters, at its size: everything but the values of its weights."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from voxmoe.model.adaptation import adapt
from voxmoe.training.any_recipe import load_any
from voxmoe.training.reader_recipe import ReaderRecipe

RECIPES = Path(__file__).parents[2] / "recipes"
GEMMA_4B = Gemma3Config(
    text_config={
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
    },
    vision_config={
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    },
)
"""As the model's page has it."""


@pytest.mark.parametrize("name", ["ct-4b-shared", "ct-4b-experts", "ct-m3d-shared", "ct-m3d-experts"])
def test_every_parameter_of_a_4b_model_stays_and_little_is_added(name: str) -> None:
    recipe, _ = load_any(RECIPES / f"{name}.yaml")
    assert isinstance(recipe, ReaderRecipe)
    settings = recipe.model
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(GEMMA_4B)
        before = {key: parameter.shape for key, parameter in model.named_parameters()}
        adaptation = adapt(model, settings.adaptation, settings.experts)
    assert sum(map(torch.Size.numel, before.values())) == 4_300_079_472
    assert len(adaptation.attentions) == 9, "the last third of 27 layers"
    after = {key: parameter.shape for key, parameter in model.named_parameters()}
    kept = {key for key in before if after.get(key) == before[key]}
    added = sum(shape.numel() for key, shape in after.items() if key not in before)
    assert kept == set(before) or settings.experts is not None
    assert sum(map(torch.Size.numel, after.values())) == 4_300_079_472 + added
    assert (added > 0) == (settings.experts is not None)
    assert added < 0.01 * 4_300_079_472
