"""Language models: sources, fingerprints, LoRA targets of every family."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
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

from voxmoe.errors import MissingPackageError, WeightsError
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
    (GemmaConfig, GemmaForCausalLM),
    (Gemma2Config, Gemma2ForCausalLM),
    (Gemma3TextConfig, Gemma3ForCausalLM),
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


@pytest.mark.parametrize(("config", "model_class"), FAMILIES)
def test_the_first_layers_alone_give_what_they_give_in_the_whole(config: Any, model_class: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = model_class(config(**TINY)).eval()
    whole.save_pretrained(tmp_path)
    part, settings = load_language_model(LanguageSettings(name=str(tmp_path), layers=1, lora=None))
    ids = torch.tensor([[3, 7, 11]])
    states = whole(ids, output_hidden_states=True).hidden_states
    found = part.base_model(ids).last_hidden_state
    torch.testing.assert_close(found, whole.base_model.norm(states[1]))
    assert len(part.base_model.layers) == part.config.num_hidden_layers == 1
    assert settings.fingerprint == fingerprint(whole)
    assert part.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > 3
    with pytest.raises(WeightsError, match="layers=3, but the language model has 2"):
        load_language_model(LanguageSettings(name=str(tmp_path), layers=3))


@pytest.mark.parametrize(("config", "model_class"), FAMILIES)
@torch.no_grad()
def test_chosen_layers_follow_one_another(config: Any, model_class: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = model_class(config(**{**TINY, "num_hidden_layers": 3})).eval()
    whole.save_pretrained(tmp_path)
    part, _ = load_language_model(LanguageSettings(name=str(tmp_path), layers=(0, 2), lora=None))
    whole.base_model.layers[1].forward = lambda hidden, **_: hidden
    ids = torch.tensor([[3, 7, 11]])
    torch.testing.assert_close(part(ids, use_cache=False).logits, whole(ids, use_cache=False).logits)
    said = part.generate(ids, max_new_tokens=4, do_sample=False)
    read = part(said, use_cache=False).logits[:, 2:-1].argmax(dim=-1)
    assert said[:, 3:].tolist() == read.tolist(), "the cache has a place for each"
    with pytest.raises(WeightsError, match=r"layers=\[0, 3\], but the language model has 3"):
        load_language_model(LanguageSettings(name=str(tmp_path), layers=(0, 3)))


@pytest.mark.parametrize("layers", [(), (1, 1), (2, 0)])
def test_numbers_of_layers_that_do_not_ascend_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="have to ascend, each once"):
        LanguageSettings(layers=layers)


def test_an_unmapped_family_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64))
    with pytest.raises(WeightsError, match="gpt2"):
        add_lora(model, LoraSettings())


def test_a_partial_match_is_refused() -> None:
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    model.model.layers[1].mlp.up_proj = torch.nn.Identity()
    with pytest.raises(WeightsError, match="up_proj matches 1 of 2 layers"):
        add_lora(model, LoraSettings())


@pytest.mark.parametrize(
    ("counts", "match"),
    [((0, 0), "up_proj matches 0 of 2 layers .* layer 0 has 0"), ((2, 0), "0 of 2 .* layer 0 has 2")],
)
def test_a_map_that_is_nowhere_or_twice_in_a_layer_is_refused(counts: tuple[int, int], match: str) -> None:
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    for layer, count in zip(model.model.layers, counts, strict=True):
        if count == 2:
            layer.self_attn.up_proj = torch.nn.Linear(2, 2)
        else:
            layer.mlp.up_proj = torch.nn.Identity()
    with pytest.raises(WeightsError, match=match):
        add_lora(model, LoraSettings())
    assert not any("lora" in name for name, _ in model.named_parameters())


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


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone.*: no such folder"):
        load_language_model(LanguageSettings(name=str(tmp_path / "gone")))


def test_quantisation_needs_its_package_and_a_gpu(tiny_language: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LanguageSettings(name=str(tiny_language), quantisation="nf4")
    monkeypatch.setattr("voxmoe.model.language.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install voxmoe\[quantise\]"):
        load_language_model(settings)
    monkeypatch.setattr("voxmoe.model.language.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WeightsError, match="needs an NVIDIA GPU"):
        load_language_model(settings)


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_what_is_quantised_is_said_to_transformers(
    quantisation: Any, tiny_language: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, Any] = {}

    def load(place: str, **kwargs: Any) -> Any:
        said.update(kwargs)
        return LlamaForCausalLM(LlamaConfig(**TINY))

    monkeypatch.setattr("voxmoe.model.language.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr("voxmoe.model.language.AutoModelForCausalLM.from_pretrained", load)
    load_language_model(LanguageSettings(name=str(tiny_language), quantisation=quantisation))
    kind = said["quantization_config"]
    assert (kind.load_in_4bit, kind.load_in_8bit) == (quantisation == "nf4", quantisation == "int8")
    assert kind.bnb_4bit_quant_type == "nf4" or quantisation == "int8"
    assert said["device_map"] == {"": 3}


def test_a_fingerprint_is_of_the_weights_and_not_of_the_type_that_holds_them() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).to(torch.bfloat16)
    held = fingerprint(model)
    assert fingerprint(model.float()) == held
    packed = model.model.layers[-1].mlp.up_proj
    packed.weight = torch.nn.Parameter(torch.arange(512, dtype=torch.uint8).reshape(32, 16), requires_grad=False)
    quantised = fingerprint(model)
    assert quantised != held
    packed.weight += 1
    assert fingerprint(model) != quantised
