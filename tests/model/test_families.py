"""Every family of language models through the whole model: loss, gradients of adapters, generation, saving and loading;
in bf16, with checkpointing, with tied and untied embeddings, with and without BOS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from conftest import make_study
from voxmoe.errors import WeightsError
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.image_text import FreshBase
from voxmoe.model.language import LanguageSettings, LoraSettings, load_language_model, load_tokenizer
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.model.vision import VisionSettings
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.encoding import encode

VISION = VisionSettings(grid=(4, 8, 8), patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)
EXPERTS = ExpertSettings(modality_level=2, token_level=2, router_hidden=8)
LORA = LoraSettings(rank=2, alpha=4, dropout=0.0)
QUESTIONS = ["How large is ET?", "Where is the edema located and what shape has it?"]
BOS, EOS = 1, 2


@dataclass(frozen=True)
class Family:
    """A real class of models, and what its published models have: tied embeddings, BOS, a padding token."""

    config: Any
    model: Any
    tied: bool
    bos: bool
    padded: bool
    ends: int | list[int]
    """What stands in the generation configuration."""


FAMILIES = {
    "phi3": Family(Phi3Config, Phi3ForCausalLM, tied=False, bos=True, padded=True, ends=[EOS, 5, 7]),
    "llama": Family(LlamaConfig, LlamaForCausalLM, tied=False, bos=True, padded=False, ends=[5, EOS]),
    "smollm2": Family(LlamaConfig, LlamaForCausalLM, tied=True, bos=True, padded=True, ends=EOS),
    "qwen2": Family(Qwen2Config, Qwen2ForCausalLM, tied=True, bos=False, padded=True, ends=[EOS, 5]),
    "qwen3": Family(Qwen3Config, Qwen3ForCausalLM, tied=True, bos=False, padded=False, ends=EOS),
}


def write_language(folder: Path, family: Family, tiny_language: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A random two-layer model of the family with its own tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    if not family.bos:
        tokenizer.bos_token = None
    if not family.padded:
        tokenizer.pad_token = None
    config = family.config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=family.tied,
        bos_token_id=BOS,  # as published: also where the tokenizer has none
        eos_token_id=family.ends,
        pad_token_id=EOS if family.padded else None,
    )
    torch.manual_seed(0)
    model = family.model(config).to(dtype)
    model.generation_config.eos_token_id = family.ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_model(language: LanguageSettings, seed: int = 0) -> tuple[MpLLM, MpLLMProcessor]:
    """mpLLM on a language model, with adapters that do something."""
    torch.manual_seed(seed)
    model = MpLLM(MpLLMConfig.of(ModelSettings(vision=VISION, connector=EXPERTS, language=language)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval(), MpLLMProcessor(load_tokenizer(language), grid=VISION.grid)


def batch(processor: MpLLMProcessor) -> dict[str, Any]:
    encoded = encode(Kind.IN_SCOPE, {Task.VOLUME: ["<1%"], Task.REGION: ["frontal", "insula"]})
    targets = {name: torch.tensor([value] * 2) for name, value in encoded.items()}
    studies = [make_study(seed=1), make_study(seed=2)]
    return {**processor(QUESTIONS, studies, ["<1%", "in the frontal lobe"]), "targets": targets}


def gradients(model: MpLLM, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_whole_path(name: str, dtype: str, tiny_language: Path, tmp_path: Path) -> None:
    family = FAMILIES[name]
    folder = write_language(tmp_path / "language", family, tiny_language)
    model, processor = make_model(LanguageSettings(name=str(folder), lora=LORA, dtype=dtype))
    assert model.language_model.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    tied = model.language_model.get_output_embeddings().weight is model.language_model.get_input_embeddings().weight
    assert tied == family.tied
    inputs = batch(processor)
    loss, found = gradients(model, inputs)
    assert torch.isfinite(loss)
    adapters = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapters
    assert all(found[name].any() and found[name].dtype == torch.float32 for name in adapters)
    assert not [name for name in found if name.startswith("language_model.") and ".lora_" not in name]
    asked = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)])
    ids = model.generate(**asked, max_new_tokens=4)
    assert ids.shape[0] == 2
    assert len(processor.decode_answers(ids)) == 2
    model.save_pretrained(tmp_path / "model")
    loaded = MpLLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        expected, again = model(**asked), loaded(**asked)
    assert torch.equal(expected.logits, again.logits)
    assert torch.equal(loaded.generate(**asked, max_new_tokens=4), ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_weights_change_nothing_but_roundings(name: str, tiny_language: Path, tmp_path: Path) -> None:
    """Where the weights are bf16 numbers anyway, float32 and bf16 differ by the roundings between."""
    folder = write_language(tmp_path, FAMILIES[name], tiny_language, torch.bfloat16)
    losses, slopes = [], []
    for dtype in ("fp32", "bf16"):
        model, processor = make_model(LanguageSettings(name=str(folder), lora=LORA, dtype=dtype))
        with torch.autocast("cpu", torch.bfloat16):
            loss, found = gradients(model, batch(processor))
        losses.append(loss)
        slopes.append(torch.cat([found[name].flatten() for name in sorted(found)]))
    torch.testing.assert_close(losses[0], losses[1], rtol=5e-3, atol=0)
    assert torch.nn.functional.cosine_similarity(slopes[0], slopes[1], dim=0) > 0.999


def test_auto_holds_weights_as_they_are_stored_where_the_processor_knows_bf16(
    tiny_language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = set()
    for stored in (torch.bfloat16, torch.float32, torch.float16):
        folder = write_language(tmp_path / str(stored), FAMILIES["llama"], tiny_language, stored)
        for native in (True, False):
            monkeypatch.setattr("voxmoe.model.language.multiplies_bf16", lambda native=native: native)
            model, settings = load_language_model(LanguageSettings(name=str(folder)))
            assert model.dtype == (torch.bfloat16 if native and stored is torch.bfloat16 else torch.float32)
            if stored is torch.bfloat16:
                fingerprints.add(settings.fingerprint)
    assert len(fingerprints) == 1


def test_weights_are_held_in_single_precision_beside_products_in_it() -> None:
    assert LanguageSettings().in_single().dtype == "fp32"
    assert LanguageSettings(dtype="bf16").in_single().dtype == "bf16"
    assert FreshBase().in_single().language.dtype == "fp32"
    quantised = LanguageSettings(quantisation="nf4")
    assert quantised.in_single() == quantised
    with pytest.raises(ValidationError, match="quantisation nf4 computes in bf16, and dtype is fp32"):
        LanguageSettings(quantisation="nf4", dtype="fp32")


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_computes_layers_twice_and_the_same(name: str, tiny_language: Path, tmp_path: Path) -> None:
    folder = write_language(tmp_path, FAMILIES[name], tiny_language)
    results, passes = [], []
    for checkpointing in (False, True):
        lora = LORA.model_copy(update={"dropout": 0.3})
        language = LanguageSettings(name=str(folder), lora=lora, gradient_checkpointing=checkpointing)
        model, processor = make_model(language)
        model.train()
        count = _count_passes(model.language_model.base_model.layers[0].mlp)
        torch.manual_seed(7)
        results.append(gradients(model, batch(processor)))
        passes.append(count())
    assert passes == [2, 3], "the question alone, the sequence, and the sequence again in the backward pass"
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1].keys() == results[1][1].keys()
    for key, slope in results[0][1].items():
        torch.testing.assert_close(results[1][1][key], slope, atol=1e-7, rtol=1e-5)


def _count_passes(module: torch.nn.Module) -> Callable[[], int]:
    passes: list[None] = []
    module.register_forward_pre_hook(lambda *_: passes.append(None))
    return lambda: len(passes)


def test_an_answer_ends_at_the_token_that_closes_the_question(tiny_language: Path, tmp_path: Path) -> None:
    """Also where the language model's own settings do not name it."""
    folder = write_language(tmp_path, FAMILIES["llama"], tiny_language)
    model, processor = make_model(LanguageSettings(name=str(folder), lora=None))
    model.language_model.generation_config.eos_token_id = 9
    with torch.no_grad():
        model.language_model.lm_head.weight.zero_()
        model.language_model.lm_head.weight[EOS] = model(**processor(QUESTIONS[:1], [make_study()])).logits.new_zeros(
            32
        )
    steps = _forced(model, [10, EOS, 11, 12])
    ids = model.generate(**processor(QUESTIONS[:1], [make_study()]), max_new_tokens=4)
    assert ids[0].tolist() == [10, EOS]
    assert len(steps) == 2


def _forced(model: MpLLM, wanted: list[int]) -> list[int]:
    """Let the language model say these tokens, one after the other."""
    said: list[int] = []

    def force(module: Any, inputs: Any, logits: Tensor) -> Tensor:
        said.append(wanted[len(said)])
        return torch.nn.functional.one_hot(torch.tensor(said[-1]), logits.shape[-1]).float().expand_as(logits)

    model.language_model.get_output_embeddings().register_forward_hook(force)
    return said


def test_without_bos_the_sequence_starts_with_the_image(tiny_language: Path, tmp_path: Path) -> None:
    folder = write_language(tmp_path, FAMILIES["qwen2"], tiny_language)
    model, processor = make_model(LanguageSettings(name=str(folder)))
    asked = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)])
    question = {name: asked[name] for name in ("question_ids", "question_mask")}
    features = model.encode_images(asked["images"], asked["present"])
    embeds, mask = model._prompt(*question.values(), features)[:2]
    length = VISION.tokens + asked["question_ids"].shape[1]
    assert embeds.shape[:2] == mask.shape == (2, length)
    blind = MpLLM(MpLLMConfig.of(ModelSettings(vision=None, language=model.settings.language))).eval()
    assert blind(**question).logits.shape[:2] == (2, 1)
    assert blind.generate(**question, max_new_tokens=2).shape[0] == 2


def test_a_tokenizer_that_ends_no_text_is_refused(tiny_language: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="no end-of-sequence token"):
        load_tokenizer(LanguageSettings(name=str(tmp_path)))
