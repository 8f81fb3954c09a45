"""Language models: sources, fingerprints, LoRA targets of every family."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from voxmoe.errors import WeightsError
from voxmoe.model.language import (
    LORA_TARGETS,
    LanguageSettings,
    LoraSettings,
    add_lora,
    fingerprint,
    load_language_model,
)

TINY = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: list[tuple[Any, Any]] = [
    (LlamaConfig, LlamaForCausalLM),
    (Qwen2Config, Qwen2ForCausalLM),
    (Qwen3Config, Qwen3ForCausalLM),
    (Phi3Config, Phi3ForCausalLM),
]


@pytest.mark.parametrize(("config", "model_class"), FAMILIES)
def test_every_linear_map_of_every_layer_is_adapted_and_nothing_changes_at_first(config: Any, model_class: Any) -> None:
    torch.manual_seed(0)
    model = model_class(config(**TINY)).eval().requires_grad_(False)
    ids = torch.tensor([[3, 7, 11]])
    with torch.no_grad():
        before = model(ids).logits
        add_lora(model, LoraSettings(rank=2, alpha=4))
        torch.testing.assert_close(model(ids).logits, before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    targets = LORA_TARGETS[model.config.model_type]
    assert len(trained) == 2 * len(targets) * 2
    assert all(".lora_" in name for name in trained)
    plain = [
        name
        for name, module in model.base_model.layers.named_modules()
        if type(module) is torch.nn.Linear and "lora_" not in name
    ]
    assert len(plain) == 2 * len(targets)
    assert all(name.endswith(".base_layer") for name in plain)


def test_an_unmapped_family_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64))
    with pytest.raises(WeightsError, match="gpt2"):
        add_lora(model, LoraSettings())


def test_a_partial_match_is_refused() -> None:
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    model.model.layers[1].mlp.up_proj = torch.nn.Identity()
    with pytest.raises(WeightsError, match="up_proj matches 1 of 2 layers"):
        add_lora(model, LoraSettings())


def test_source_and_fingerprint_are_recorded(tiny_language: Path) -> None:
    model, settings = load_language_model(LanguageSettings(name=str(tiny_language)))
    assert settings.source == "folder"
    assert settings.fingerprint == fingerprint(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    add_lora(model, LoraSettings())
    assert fingerprint(model) == settings.fingerprint


def test_a_model_that_no_source_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nobody/nothing.*hub"):
        load_language_model(LanguageSettings(name="nobody/nothing"))
