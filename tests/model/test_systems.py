"""mpLLM and every baseline in the same frame: saved and loaded, missing modalities, what learns."""

from pathlib import Path

import pytest
import torch

from conftest import make_study
from voxmoe.model.concatenation import LlavaMedSettings, M3DSettings, Med3DVLMSettings, RadFMSettings
from voxmoe.model.connector import ConnectorSettings
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.encoder import EncoderSettings
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.language import LanguageSettings, LoraSettings, load_tokenizer
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.model.vision import VisionSettings
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.encoding import encode

VIT = VisionSettings(grid=(4, 8, 8), patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)
TWO = DCFormerSettings(grid=(16, 16, 16), channels=(4, 6, 8), blocks=(1, 1), kernels=(3, 3), layer_scale=0.1)
SYSTEMS: dict[str, tuple[ConnectorSettings, EncoderSettings]] = {
    "mpllm": (ExpertSettings(modality_level=2, token_level=2, router_hidden=8), VIT),
    "llava-med": (LlavaMedSettings(), VIT),
    "m3d": (M3DSettings(), VIT),
    "radfm": (RadFMSettings(latents=3, layers=2, heads=2, head_width=4), VIT),
    "med3dvlm": (Med3DVLMSettings(high_tokens=(4, 2), low_tokens=(6, 3)), TWO),
    "mpllm on dcformer": (ExpertSettings(modality_level=1, token_level=1, router_hidden=8), TWO),
}
QUESTIONS = ["How large is ET?", "Where is the edema located and what shape has it?"]
STUDIES = [make_study(seed=1), make_study(seed=2)]


@pytest.fixture(params=SYSTEMS, scope="module")
def model(request: pytest.FixtureRequest, tiny_language: Path) -> MpLLM:
    connector, vision = SYSTEMS[request.param]
    language = LanguageSettings(name=str(tiny_language), lora=LoraSettings(rank=2))
    torch.manual_seed(0)
    model = MpLLM(MpLLMConfig.of(ModelSettings(vision=vision, connector=connector, language=language))).eval()
    model.vision.requires_grad_(False)
    return model


@pytest.fixture
def processor(model: MpLLM) -> MpLLMProcessor:
    assert model.settings.vision is not None
    return MpLLMProcessor(load_tokenizer(model.settings.language), grid=model.settings.vision.grid)


def test_saved_and_loaded_is_the_same_model(model: MpLLM, processor: MpLLMProcessor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = MpLLM.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, loaded.own_state()[name]) for name, tensor in model.own_state().items())
    batch = processor(QUESTIONS, STUDIES, ["<1%", "frontal"])
    with torch.no_grad():
        expected, found = model(**batch), loaded(**batch)
    # Not bit for bit: where a weight lies in memory decides the order in which a convolution sums.
    torch.testing.assert_close(expected.logits, found.logits, atol=1e-6, rtol=1e-5)
    for name, logits in expected.heads.items():
        torch.testing.assert_close(found.heads[name], logits, atol=1e-6, rtol=1e-5)
    asked = {name: batch[name] for name in ("question_ids", "question_mask", "images", "present")}
    assert torch.equal(model.generate(**asked, max_new_tokens=3), loaded.generate(**asked, max_new_tokens=3))


def test_features_computed_before_give_what_images_give(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, STUDIES)
    batch["present"][1, 2] = False
    with torch.no_grad():
        features = model.encode_images(batch["images"], batch["present"])
        cached = model(batch["question_ids"], batch["question_mask"], **features.inputs())
        torch.testing.assert_close(cached.logits, model(**batch).logits)


def test_what_stands_in_a_missing_modality_changes_nothing(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, STUDIES)
    batch["present"][0, 1] = batch["present"][0, 3] = False
    with torch.no_grad():
        expected = model(**batch)
        features = model.encode_images(batch["images"], batch["present"]).inputs()
        for name in features.keys() - {"present"}:
            features[name][~batch["present"]] = torch.randn_like(features[name][~batch["present"]])
        found = model(batch["question_ids"], batch["question_mask"], **features)
    torch.testing.assert_close(expected.logits, found.logits)
    for name, logits in expected.heads.items():
        torch.testing.assert_close(found.heads[name], logits)


def test_what_is_present_is_seen_alike_whatever_is_missing(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, STUDIES)
    with torch.no_grad():
        whole = model.encode_images(batch["images"], batch["present"])
        batch["present"][0, 1] = batch["present"][1, 0] = False
        part = model.encode_images(batch["images"], batch["present"])
        for name, tensor in part.inputs().items():
            expected = whole.inputs()[name][batch["present"]]
            torch.testing.assert_close(tensor[batch["present"]], expected, atol=1e-5, rtol=1e-4)
        if not model.connector.reads_prompt:
            fused, all_fused = model.connector(part), model.connector(whole)
            torch.testing.assert_close(fused.tokens[fused.mask], all_fused.tokens[fused.mask], atol=1e-5, rtol=1e-4)


def test_gradients_reach_connector_heads_and_adapters_alone(model: MpLLM, processor: MpLLMProcessor) -> None:
    encoded = encode(Kind.IN_SCOPE, {Task.VOLUME: ["<1%"], Task.REGION: ["frontal", "insula"]})
    batch = processor(QUESTIONS, STUDIES, ["<1%", "frontal"])
    model.zero_grad()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.vision.state_dict().items()}
    model(**batch, targets={name: torch.tensor([value] * 2) for name, value in encoded.items()}).loss.backward()
    model.eval()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(("connector.", "heads.")) or ".lora_" in name
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.vision.state_dict().items())


def test_two_streams_are_asked_for_where_one_is_given() -> None:
    with pytest.raises(ValueError, match=r"set vision\.kind to dcformer"):
        ModelSettings(vision=VIT, connector=Med3DVLMSettings())
    ModelSettings(vision=None, connector=Med3DVLMSettings())
