"""The gaze: attention from the question to the fused tokens, and a model whose heads look through it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.chart import ChartSettings
from voxmoe.model.concatenation import LlavaMedSettings, M3DSettings, Med3DVLMSettings, RadFMSettings
from voxmoe.model.connector import ConnectorSettings, make_connector
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.encoder import EncoderSettings
from voxmoe.model.experts import ExpertSettings, SingleSettings
from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.gaze import Gaze, GazeSettings
from voxmoe.model.grounding import GroundingSettings
from voxmoe.model.language import LanguageSettings, LoraSettings, load_tokenizer
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.model.pyramid import PyramidSettings
from voxmoe.model.vision import VisionSettings

B, S, O, M = 5, 7, 12, 4  # noqa: E741
SMALL = GazeSettings(heads=2, width=6, hidden=10, dropout=0.5)
VIT = VisionSettings(grid=(4, 8, 8), patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)
TWO = DCFormerSettings(grid=(16, 16, 16), channels=(4, 6, 8), blocks=(1, 1), kernels=(3, 3))
PYRAMID = PyramidSettings(grid=(32, 32, 32), channels=(8, 8, 16, 16), layers=1, heads=2)
EXPERTS = ExpertSettings(modality_level=2, token_level=2, router_hidden=8)
SYSTEMS: dict[str, tuple[ConnectorSettings, EncoderSettings]] = {
    "prompt in weights": (EXPERTS, VIT),
    "softmax gates": (EXPERTS.model_copy(update={"gate": "softmax"}), VIT),
    "modality level alone": (EXPERTS.model_copy(update={"token_level": 0}), VIT),
    "prompt in gates": (EXPERTS.model_copy(update={"prompt": "gates"}), VIT),
    "prompt nowhere": (EXPERTS.model_copy(update={"prompt": "nowhere"}), VIT),
    "single": (SingleSettings(), VIT),
    "llava-med": (LlavaMedSettings(), VIT),
    "m3d": (M3DSettings(), VIT),
    "radfm": (RadFMSettings(latents=3, layers=2, heads=2, head_width=4), VIT),
    "med3dvlm": (Med3DVLMSettings(high_tokens=(4, 2), low_tokens=(6, 3)), TWO),
}
OWNER = torch.tensor([2, 0, 3, 0, 2, 2])
"""Of six questions the study, neither in order nor with a question about each."""
QUESTIONS = [
    "How large is ET?",
    "Where is the edema located and what shape has it?",
    "Is it spread?",
    "Where is ET?",
    "What?",
    "How large is the edema?",
]


def drawn(vision: EncoderSettings, charted: bool = False) -> VisionFeatures:
    """Features of four studies, of which two lack modalities."""
    generator = torch.Generator().manual_seed(4)
    present = torch.tensor([[True] * 4, [False, False, True, False], [True, True, False, True], [True] * 4])
    shapes = [(4, M, vision.tokens, vision.hidden), (4, M, vision.hidden)]
    tokens, cls = (torch.randn(shape, generator=generator) for shape in shapes)
    low = torch.randn(4, M, TWO.low_tokens, TWO.low_hidden, generator=generator) if vision is TWO else None
    chart = torch.rand(4, vision.tokens, 5 * 64, generator=generator) if charted else None
    return VisionFeatures(tokens, cls, present, low, chart)


# ---------------------------------------------------------------------------------------------------------- the gaze


@pytest.fixture
def gaze() -> Gaze:
    torch.manual_seed(0)
    gaze = Gaze(SMALL, O).eval()
    gaze.standardise.measure(torch.randn(20, O) * 3 + 1)
    return gaze


@pytest.fixture
def asked() -> torch.Tensor:
    return torch.randn(B, O, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture
def fused() -> Fused:
    """Of tokens that are there in one place at least."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(B, S, generator=generator) < 0.6
    mask[:, 2] = True
    mask[0] = torch.arange(S) == 2
    return Fused(torch.randn(B, S, O, generator=generator), mask)


def test_weights_sum_to_one_over_the_tokens_that_are_there(gaze: Gaze, asked: torch.Tensor, fused: Fused) -> None:
    weights = gaze.weights(asked, fused)
    assert weights.shape == (B, SMALL.heads, S)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(B, SMALL.heads))
    there = fused.mask[:, None].expand_as(weights)
    assert (weights[~there] == 0).all()
    assert (weights[there] > 0).all()
    assert (weights[0, :, 2] == 1).all()


def test_it_is_scaled_dot_product_attention(gaze: Gaze, asked: torch.Tensor, fused: Fused) -> None:
    known = (asked - gaze.standardise.mean) / gaze.standardise.deviation
    query, keys, values = (
        part.view(B, -1, SMALL.heads, SMALL.width // SMALL.heads).transpose(1, 2)
        for part in (gaze.query(known), gaze.keys(fused.tokens), gaze.values(fused.tokens))
    )
    seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=fused.mask[:, None, None])[:, :, 0]
    expected = gaze.network(torch.cat([seen.flatten(1), known], dim=1))
    torch.testing.assert_close(gaze(asked, fused), expected)
    torch.nn.init.normal_(gaze.share)
    read = torch.randn(B, O)
    torch.testing.assert_close(gaze(asked, fused, read), expected + gaze.share * read)


def test_what_all_keys_have_in_common_moves_no_weight(gaze: Gaze, asked: torch.Tensor, fused: Fused) -> None:
    before = gaze.weights(asked, fused)
    torch.nn.init.normal_(gaze.keys.bias)
    torch.testing.assert_close(gaze.weights(asked, fused), before)
    assert [name for name, p in gaze.named_parameters() if not p.requires_grad] == ["keys.bias"]


def test_what_stands_where_nothing_is_changes_nothing(gaze: Gaze, asked: torch.Tensor, fused: Fused) -> None:
    other = fused.tokens.where(fused.mask[:, :, None], torch.tensor(1e4))
    torch.testing.assert_close(gaze(asked, replace(fused, tokens=other)), gaze(asked, fused))


def test_autocast_keeps_the_weights_in_single_precision(gaze: Gaze, asked: torch.Tensor, fused: Fused) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        weights, out = gaze.weights(asked, fused), gaze(asked, fused)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, gaze.weights(asked, fused), atol=2e-2, rtol=0)
    torch.testing.assert_close(out.float(), gaze(asked, fused), atol=5e-2, rtol=5e-2)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValidationError, match="width 10 is not a multiple of heads 4"):
        GazeSettings(heads=4, width=10)
    with pytest.raises(ValidationError, match="less than 1"):
        GazeSettings(dropout=1.0)
    with pytest.raises(ValidationError, match="set vision, or leave gaze out"):
        ModelSettings(vision=None, gaze=GazeSettings())


# -------------------------------------------------------------------------------- many questions about a few studies


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", SYSTEMS)
def test_studies_are_fused_once_for_all_questions_as_for_each(name: str, times: int) -> None:
    """In what comes out, and in the gradient of every weight; with few and with many questions a study."""
    settings, vision = SYSTEMS[name]
    owner = OWNER.repeat(times)
    torch.manual_seed(3)
    connector = make_connector(settings, M, vision, O).double()
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    seen = VisionFeatures(
        **{key: part.double() if part.is_floating_point() else part for key, part in drawn(vision).inputs().items()}
    )
    prompt = torch.randn(len(owner), O, dtype=torch.double)
    together = connector.for_questions(seen, owner, prompt)
    wanted = torch.randn_like(together.tokens)
    (together.tokens * wanted).sum().backward()
    found = {key: parameter.grad for key, parameter in connector.named_parameters()}
    connector.zero_grad()
    for row, study in enumerate(owner.tolist()):
        alone = connector(seen.take(torch.tensor([study])), prompt[row : row + 1])
        torch.testing.assert_close(together.tokens[row], alone.tokens[0], atol=1e-9, rtol=1e-9)
        assert torch.equal(together.mask[row], alone.mask[0])
        if alone.weights is not None:
            torch.testing.assert_close(together.weights[row], alone.weights[0])
        (alone.tokens * wanted[row : row + 1]).sum().backward()
    assert {key for key, grad in found.items() if grad is not None} == {
        key for key, parameter in connector.named_parameters() if parameter.grad is not None
    }
    for key, parameter in connector.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[key], parameter.grad, atol=1e-9, rtol=1e-7, msg=key)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", SYSTEMS)
def test_questions_are_fused_under_autocast(name: str, times: int) -> None:
    settings, vision = SYSTEMS[name]
    owner = OWNER.repeat(times)
    torch.manual_seed(3)
    connector, prompt = make_connector(settings, M, vision, O), torch.randn(len(owner), O)
    expected = connector.for_questions(drawn(vision), owner, prompt).tokens
    with torch.autocast("cpu", torch.bfloat16):
        found = connector.for_questions(drawn(vision), owner, prompt).tokens
    found.sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_features_are_taken_with_all_that_they_hold() -> None:
    seen = drawn(PYRAMID, charted=True)
    taken = seen.take(OWNER).inputs()
    assert taken.keys() == seen.inputs().keys()
    assert all(torch.equal(tensor, seen.inputs()[name][OWNER]) for name, tensor in taken.items())


# --------------------------------------------------------------------------------------------------------- the model


def make_model(language: Path, connector: ConnectorSettings, vision: EncoderSettings, charted: bool = False) -> MpLLM:
    """A model with a gaze, whose adapters and statistics are not those that it starts with."""
    grounding = GroundingSettings(channels=(8, 8, 16, 16)) if charted else None
    settings = ModelSettings(
        vision=vision,
        grounding=grounding,
        chart=ChartSettings(hidden=8) if charted else None,
        gaze=SMALL,
        connector=connector,
        language=LanguageSettings(name=str(language), lora=LoraSettings(rank=2)),
    )
    torch.manual_seed(0)
    model = MpLLM(MpLLMConfig.of(settings)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.calibrate([{**texts(model), **drawn(vision, charted).take(OWNER).inputs()}])
    return model


def texts(model: MpLLM) -> dict[str, torch.Tensor]:
    return dict(MpLLMProcessor(load_tokenizer(model.settings.language))(QUESTIONS))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, logits in one.items():
        torch.testing.assert_close(other[name], logits, atol=1e-5, rtol=1e-5, msg=name)


CASES = {**{name: (*system, False) for name, system in SYSTEMS.items()}, "chart": (EXPERTS, PYRAMID, True)}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_before_the_language_model_has_a_share_the_heads_say_what_they_say_at_sight(
    case: str, tiny_language: Path
) -> None:
    connector, vision, charted = CASES[case]
    model = make_model(tiny_language, connector, vision, charted)
    seen, asked = drawn(vision, charted), texts(model)
    said = model.say_at_sight(seen, OWNER, model.listen(**asked)["prompt"])
    features = seen.take(OWNER)
    same(said, model(**asked, **features.inputs()).heads)
    same(said, model(**asked, **model.look(features), **model.listen(**asked)).heads)
    model.gaze.share.fill_(0.5)
    reading = model(**asked, **features.inputs()).heads
    assert all(not torch.allclose(reading[name], said[name], atol=1e-3) for name in said)


@torch.no_grad()
def test_each_head_reads_the_study_that_is_asked_about(tiny_language: Path) -> None:
    model = make_model(tiny_language, EXPERTS, VIT)
    asked = model.listen(**texts(model))["prompt"]
    seen = drawn(VIT)
    said = model.say_at_sight(seen, OWNER, asked)
    seen.tokens[3] += 1
    other = model.say_at_sight(seen, OWNER, asked)
    for name, logits in said.items():
        changed = (logits != other[name]).any(dim=1)
        assert torch.equal(changed, OWNER == 3)


def test_what_learns_in_a_fit_is_connector_gaze_heads_and_adapters(tiny_language: Path) -> None:
    model = make_model(tiny_language, EXPERTS, VIT).train()
    model.vision.requires_grad_(False)
    heads = model(**texts(model), **drawn(VIT).take(OWNER).inputs()).heads
    sum(logits.square().sum() for logits in heads.values()).backward()
    learning = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, grad in learning.items() if grad is None]  # copies in processes would wait for it
    silent = {name.partition(".")[0] for name, grad in learning.items() if not grad.any()}
    assert silent == {"language_model"}  # which has no share yet


@torch.no_grad()
def test_saved_and_loaded_is_the_same_model(tiny_language: Path, tmp_path: Path) -> None:
    model = make_model(tiny_language, EXPERTS, VIT)
    torch.nn.init.normal_(model.gaze.share)
    model.save_pretrained(tmp_path)
    loaded = MpLLM.from_pretrained(tmp_path)
    assert loaded.settings.gaze == SMALL
    features = drawn(VIT).take(OWNER).inputs()
    same(model(**texts(model), **features).heads, loaded(**texts(model), **features).heads)


def test_features_without_their_chart_are_refused(tiny_language: Path) -> None:
    model = make_model(tiny_language, EXPERTS, PYRAMID, charted=True)
    asked = model.listen(**texts(model))["prompt"]
    with pytest.raises(ValueError, match="give `chart`"):
        model.say_at_sight(drawn(PYRAMID), OWNER, asked)
