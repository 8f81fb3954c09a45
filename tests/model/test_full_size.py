"""The recipes of named models of 4B parameters, at their size: everything but the values of their weights."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Phi3Config, Phi3ForCausalLM

from voxmoe.model.adaptation import adapt
from voxmoe.model.language import LanguageSettings
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.training.any_recipe import load_any
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.recipe import Recipe

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


@pytest.mark.parametrize("name", ["gli", "met", "goat"])
def test_mpllm_of_the_paper_has_the_paper_s_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = load_any(RECIPES / f"{name}.yaml")
    assert isinstance(recipe, Recipe)
    vision = recipe.model.vision
    assert vision is not None
    assert vision.weights == "GoodBaiBai88/M3D-CLIP"

    def phi_3_mini(settings: LanguageSettings) -> tuple[Phi3ForCausalLM, LanguageSettings]:
        assert settings.name == "microsoft/Phi-3-mini-4k-instruct"
        return Phi3ForCausalLM(Phi3Config()).requires_grad_(False), settings  # its defaults are those of this model

    monkeypatch.setattr("voxmoe.model.mpllm.load_language_model", phi_3_mini)
    with torch.device("meta"):
        model = MpLLM(
            MpLLMConfig.of(recipe.model.model_copy(update={"vision": vision.model_copy(update={"weights": None})}))
        )
    language = {key: part for key, part in model.language_model.named_parameters() if ".lora_" not in key}
    adapters = [part for key, part in model.language_model.named_parameters() if ".lora_" in key]
    assert sum(part.numel() for part in language.values()) == 3_821_079_552
    rank = 16
    of_a_layer = (3072 + 9216) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072)  # qkv, o, gate and up, down
    assert sum(part.numel() for part in adapters) == 32 * rank * of_a_layer
    assert all(part.requires_grad for part in adapters)
    assert not any(part.requires_grad for part in language.values())
    assert model.settings.vision is not None
    assert (model.vision.settings.tokens, model.vision.settings.hidden) == (256, 768)
    levels = model.connector.projector.levels
    assert {kind: tuple(level.maps.shape) for kind, level in levels.items()} == {
        "modality": (8, 5, 768, 3072),
        "token": (8, 5, 768, 3072),
    }
