"""Every family made to read volumes: one slice is the image, differences of slices alone count, weights stay what they
are, volumes do not see one another."""

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from image_text import KINDS, LAYERS, PATCH, SIDE, make_model, make_volumes
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Idefics3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM, SiglipVisionModel

from voxmoe.errors import ImageError, StudyError, WeightsError
from voxmoe.model.adaptation import Adaptation, AdaptationSettings, adapt, adapt_tower
from voxmoe.model.language import LoraSettings, add_lora
from voxmoe.model.slices import RopeSettings, Volumes, seeing
from voxmoe.model.towers import Tower

ALL = AdaptationSettings(layers="all")
CLOSE = {"atol": 2e-4, "rtol": 2e-3}
"""Random weights are large: float32 differs by 1e-5 of values around 5."""

every_kind = pytest.mark.parametrize("name", KINDS)


def adapted(name: str, settings: AdaptationSettings | None = None, **changes: Any) -> Adaptation:
    return adapt(make_model(name, **changes), settings)


def by_themselves(name: str, volumes: Tensor, **changes: Any) -> Tensor:
    """What the model as it was makes of every slice, [B, D, T, O]."""
    images = KINDS[name].images(make_model(name, **changes), volumes.flatten(0, 1))
    return images.unflatten(0, volumes.shape[:2])


# ------------------------------------------------------------------------------------------------- what stays as it was


@every_kind
@pytest.mark.parametrize(
    ("settings", "implementation"),
    [({}, "sdpa"), ({"layers": "all", "window": 1, "pool": 3}, "sdpa"), ({"layers": "all", "rope": None}, "eager")],
)
@torch.no_grad()
def test_one_slice_is_the_image_wherever_it_lies(name: str, settings: dict[str, Any], implementation: str) -> None:
    volumes = make_volumes(name, 3, 1)
    reader = adapted(name, AdaptationSettings(**settings), attn_implementation=implementation)
    expected = by_themselves(name, volumes, attn_implementation=implementation)
    for indices in (None, torch.tensor([[0], [7], [-40]]), torch.tensor([[0.5], [300.0], [1e4]])):
        found = reader.features(volumes, indices)
        torch.testing.assert_close(found.tokens, expected, **CLOSE)
        assert found.present.all()


EXACT = {"atol": 1e-9, "rtol": 1e-9}
SETTINGS = [
    {},
    {"layers": "all"},
    {"layers": "all", "window": 2},
    {"layers": "all", "pool": 2},
    {"layers": "last-third", "window": 1, "pool": 3},
]


@every_kind
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@torch.no_grad()
def test_in_double_precision_one_slice_is_the_image_and_shifts_change_nothing(
    name: str, settings: dict[str, Any]
) -> None:
    volumes, original = make_volumes(name, 2, 4).double(), make_model(name).double()
    expected = KINDS[name].images(original, volumes[:, 0])[:, None]
    reader = adapt(make_model(name).double(), AdaptationSettings(**settings))
    found = reader.features(volumes[:, :1], torch.tensor([[9.0], [-2.0]])).tokens
    torch.testing.assert_close(found, expected, **EXACT)
    indices = torch.tensor([[0.0, 1.0, 3.0, 4.5], [2.0, 3.0, 4.0, 5.0]])
    seen = reader.features(volumes, indices).tokens
    moved = reader.features(volumes, indices + torch.tensor([[50.0], [-7.0]])).tokens
    torch.testing.assert_close(moved, seen, **EXACT)


@every_kind
@torch.no_grad()
def test_all_2d_sees_independent_images(name: str) -> None:
    volumes = make_volumes(name, 2, 4)
    found = adapted(name, AdaptationSettings(layers="none")).features(volumes)
    torch.testing.assert_close(found.tokens, by_themselves(name, volumes), **CLOSE)


@every_kind
@torch.no_grad()
def test_single_images_are_seen_as_before(name: str) -> None:
    """Before and after a volume, and after one that ended in an error."""
    reader, images = adapted(name, ALL), make_volumes(name, 1, 3)
    expected = by_themselves(name, images)[0]
    for disturb in ("nothing", "a volume", "an error"):
        if disturb == "a volume":
            reader.features(make_volumes(name, 2, 2))
        if disturb == "an error":
            with pytest.raises((RuntimeError, ValueError, ImageError)):
                reader.features(make_volumes(name, 1, 2)[..., :-1])
        torch.testing.assert_close(KINDS[name].images(reader.model, images[0]), expected, **CLOSE)


@torch.no_grad()
def test_padding_within_single_images_is_still_masked() -> None:
    images, mask = torch.randn(2, 1, 3, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    mask[1, :, :, SIDE // 2 :] = False
    expected = make_model("idefics3").get_image_features(images, mask).pooler_output
    found = adapted("idefics3", ALL).model.get_image_features(images, mask).pooler_output
    torch.testing.assert_close(found, expected, **CLOSE)


@every_kind
def test_weights_keep_names_and_values_and_fit_before_and_after(name: str) -> None:
    original, other = make_model(name), make_model(name, seed=9)
    expected = {key: value.clone() for key, value in original.state_dict().items()}
    parameters = dict(original.named_parameters())
    model = adapt(original, ALL).model
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert all(parameter is parameters[key] for key, parameter in model.named_parameters())
    model.load_state_dict(other.state_dict(), strict=True)
    volumes = make_volumes(name, 1, 2)
    reader = adapt(other, ALL)
    with torch.no_grad():
        assert torch.equal(
            adapt(copy.deepcopy(make_model(name, seed=9)), ALL).features(volumes).tokens,
            reader.features(volumes).tokens,
        )
    make_model(name).load_state_dict(model.state_dict(), strict=True)


def test_an_adapted_model_is_saved_as_the_model_that_it_was(tmp_path: Path) -> None:
    model = adapted("idefics3", ALL).model
    model.save_pretrained(tmp_path)
    again = Idefics3ForConditionalGeneration.from_pretrained(tmp_path)
    volumes = make_volumes("idefics3", 1, 3)
    assert again.config.vision_config._attn_implementation == "sdpa"
    assert set(load_file(tmp_path / "model.safetensors")) <= set(model.state_dict())
    with torch.no_grad():
        images = KINDS["idefics3"].images(again.eval(), volumes[0])
    torch.testing.assert_close(images, by_themselves("idefics3", volumes)[0].detach(), **CLOSE)


# ------------------------------------------------------------------------------------------------------ what slices see


@every_kind
@torch.no_grad()
def test_slices_see_one_another_through_the_layers_that_span_them(name: str) -> None:
    """A change in one slice is seen in all; in all of its tokens where the layers see whole slices."""
    reader, volumes = adapted(name, ALL), make_volumes(name, 1, 4)
    changed = volumes.clone()
    changed[:, 2] += 1
    moved = (reader.features(changed).tokens - reader.features(volumes).tokens).abs().amax(dim=(0, 2, 3))
    assert (moved > 1e-2).all()


@every_kind
@torch.no_grad()
def test_a_constant_added_to_all_indices_changes_nothing(name: str) -> None:
    reader, volumes = adapted(name, ALL), make_volumes(name, 2, 4)
    indices = torch.tensor([[0.0, 1.0, 3.0, 4.5], [2.0, 3.0, 4.0, 5.0]])
    expected = reader.features(volumes, indices).tokens
    shifted = reader.features(volumes, indices + torch.tensor([[50.0], [-7.0]])).tokens
    torch.testing.assert_close(shifted, expected, **CLOSE)
    spread_out = reader.features(volumes, 2 * indices).tokens
    assert ((spread_out - expected).abs().amax(dim=(1, 2, 3)) > 1e-2).all()


@every_kind
@torch.no_grad()
def test_indices_are_counted_from_zero_unless_given(name: str) -> None:
    reader, volumes = adapted(name), make_volumes(name, 2, 3)
    given = reader.features(volumes, torch.arange(3).expand(2, 3)).tokens
    assert torch.equal(reader.features(volumes).tokens, given)


@every_kind
@torch.no_grad()
def test_the_order_of_the_slices_is_seen_by_their_indices_alone(name: str) -> None:
    """Slices that change places with their indices give the same; without rotation the indices are not seen."""
    volumes, order = make_volumes(name, 1, 4), torch.tensor([2, 0, 3, 1])
    for rope in (RopeSettings(), None):
        reader = adapted(name, AdaptationSettings(layers="all", rope=rope))
        expected = reader.features(volumes).tokens[:, order]
        torch.testing.assert_close(reader.features(volumes[:, order], order[None]).tokens, expected, **CLOSE)
        unordered = reader.features(volumes[:, order]).tokens
        assert torch.allclose(unordered, expected, **CLOSE) == (rope is None)


@every_kind
@torch.no_grad()
def test_volumes_of_a_batch_do_not_see_one_another(name: str) -> None:
    """Nor what stands where a volume has no slices."""
    reader, volumes = adapted(name, ALL), make_volumes(name, 3, 5)
    present = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False, True, True, False, True]])
    volumes[~present] = torch.nan
    together = reader.features(volumes, present=present)
    assert together.present.tolist() == [[True] * 5, [True] * 2 + [False] * 3, [True] * 3 + [False] * 2]
    for i, volume in enumerate(volumes):
        places = present[i].nonzero().flatten()
        alone = reader.features(volume[places][None], places[None]).tokens[0]
        torch.testing.assert_close(together.tokens[i, : len(places)], alone, **CLOSE)
        assert not together.tokens[i, len(places) :].any()


@every_kind
@torch.no_grad()
def test_a_window_as_deep_as_the_volume_is_no_window(name: str) -> None:
    volumes = make_volumes(name, 2, 4)
    whole = adapted(name, ALL).features(volumes).tokens
    for window in (3, 4, 100):
        settings = AdaptationSettings(layers="all", window=window)
        assert torch.equal(adapted(name, settings).features(volumes).tokens, whole)
    assert not torch.allclose(adapted(name, AdaptationSettings(layers="all", window=1)).features(volumes).tokens, whole)


@every_kind
@torch.no_grad()
def test_a_layer_with_a_window_sees_no_further(name: str) -> None:
    last = KINDS[name].read - 1
    reader = adapted(name, AdaptationSettings(layers=(last - 1, last), window=1))
    volumes = make_volumes(name, 1, 7)
    changed = volumes.clone()
    changed[:, 1] += 1
    moved = (reader.features(changed).tokens - reader.features(volumes).tokens).abs().amax(dim=(0, 2, 3))
    assert (moved[:4] > 1e-4).all(), "two layers of a window of one reach two slices further"
    assert (moved[4:] == 0).all()


@torch.no_grad()
def test_windows_of_qwen_stay_windows() -> None:
    """Where no layer sees a whole slice, a change in one corner reaches the same corner of the other slices alone."""
    model = make_model("qwen2_5_vl")
    model.model.visual.fullatt_block_indexes = []
    reader, volumes = adapt(model, ALL), make_volumes("qwen2_5_vl", 1, 3)
    changed = volumes.clone()
    changed[:, 1, :, : 2 * PATCH, : 2 * PATCH] += 1
    moved = (reader.features(changed).tokens - reader.features(volumes).tokens).abs().amax(dim=(0, 3))
    assert (moved[:, 0] > 1e-3).all(), "a window is one token of the language model here"
    assert not moved[:, 1:].any()


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
@torch.no_grad()
def test_a_slice_of_zeros_is_a_slice(name: str) -> None:
    """These families' own way leaves such images out as padding."""
    reader, volumes = adapted(name, AdaptationSettings(layers="none")), make_volumes(name, 1, 3)
    volumes[:, 1] = 0
    almost = volumes.clone()
    almost[:, 1] = 1e-9
    assert len(KINDS[name].images(make_model(name), almost[0])) == 3
    torch.testing.assert_close(reader.features(volumes).tokens, reader.features(almost).tokens, **CLOSE)
    assert reader.features(volumes).present.all()


# -------------------------------------------------------------------------------------------------------------- pooling


@every_kind
@torch.no_grad()
def test_neighbouring_slices_are_averaged_before_the_projector(name: str) -> None:
    volumes = make_volumes(name, 2, 5)
    present = torch.ones(2, 5, dtype=torch.bool)
    present[1, 2:] = False
    seen: list[Tensor] = []
    results = []
    for pool in (1, 2):
        reader = adapted(name, AdaptationSettings(layers="all", pool=pool))
        hook = reader.projector.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        results.append(reader.features(volumes, present=present))
        hook.remove()
    one, two = results
    assert two.tokens.shape[1] == 3
    assert two.present.tolist() == [[True] * 3, [True, False, False]]
    inner = reader.model.base_model
    before = seen[-1] if name != "qwen2_5_vl" else seen[-1].unflatten(0, (4, -1))
    fine = seen[0] if name != "qwen2_5_vl" else seen[1].unflatten(0, (7, -1))
    averaged = torch.stack([fine[0:2].mean(0), fine[2:4].mean(0), fine[4], fine[5:7].mean(0)])
    torch.testing.assert_close(before, averaged, **CLOSE)
    assert one.tokens.shape[2:] == two.tokens.shape[2:]
    assert inner is reader.model.model


@torch.no_grad()
def test_features_as_a_part_of_the_sequence() -> None:
    volumes, present = make_volumes("llava", 2, 3), torch.tensor([[True, True, True], [True, False, False]])
    found = adapted("llava").features(volumes, present=present)
    fused = found.fused
    tokens = (SIDE // PATCH) ** 2
    assert fused.tokens.shape == (2, 3 * tokens, 12)
    assert torch.equal(fused.tokens[0, tokens : 2 * tokens], found.tokens[0, 1])
    assert fused.mask.sum(dim=1).tolist() == [3 * tokens, tokens]
    assert fused.mask[1, :tokens].all()


# ------------------------------------------------------------------------------------------------------------- learning


def probed(tokens: Tensor) -> Tensor:
    return (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))).sum()


def reached(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


@every_kind
@pytest.mark.parametrize("layers", ["none", "last-third", "all"])
def test_a_gradient_reaches_every_weight_of_the_layers_that_are_read(name: str, layers: Any) -> None:
    kind, reader = KINDS[name], adapted(name, AdaptationSettings(layers=layers))
    probed(reader.features(make_volumes(name, 1, 3)).tokens).backward()
    expected = {key for key, _ in reader.tower.named_parameters() if not key.startswith(kind.unread)}
    # Within a slice a bias of the keys adds the same to all of a query's scores; rotation over slices makes it count.
    idle = set() if layers == "all" else {key for key in expected if key.endswith("k_proj.bias")}
    assert reached(reader.tower) >= expected - idle
    assert not reached(reader.tower) - expected
    assert reached(reader.projector) == {key for key, _ in reader.projector.named_parameters()}


@every_kind
def test_the_first_stage_trains_attention_across_slices_projector_and_adapters(name: str) -> None:
    kind, reader = KINDS[name], adapted(name)
    model = reader.model
    add_lora(model.get_decoder(), LoraSettings(rank=2, alpha=4, dropout=0.0))
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.3)
    learning = reader.learn_shared()
    spanning = range(kind.read - -(-kind.read // 3), kind.read)
    places = [f"model.{kind.tower}.{kind.attention.format(layer)}." for layer in spanning]
    places.append(f"model.{kind.projector}.")
    expected = [key for key, _ in model.named_parameters() if key.startswith(tuple(places)) or ".lora_" in key]
    assert learning == expected
    assert all(any(key.startswith(place) for key in learning) for place in places)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sequence = reader.features(make_volumes(name, 2, 3)).fused.tokens
    probed(model.get_decoder()(inputs_embeds=sequence, use_cache=False).last_hidden_state).backward()
    assert reached(model) == set(learning)
    optimiser.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed <= set(learning)
    assert changed >= {key for key in learning if key.endswith("weight")}


# -------------------------------------------------------------------------------------- checkpoints, threads, precision


@every_kind
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_computed_again_with_the_same_slices(name: str, reentrant: bool) -> None:
    """Also if meanwhile another volume is seen, and if the backward pass runs in another thread."""
    volumes, found = make_volumes(name, 2, 3), []
    for checkpointed in (False, True):
        reader = adapted(name, ALL)
        model = reader.model.train()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        passes: list[None] = []
        reader.attentions[-1].register_forward_pre_hook(lambda *_, passes=passes: passes.append(None))
        pixels = volumes.clone().requires_grad_()
        loss = probed(reader.features(pixels).tokens)
        assert len(passes) == 1
        with seeing(Volumes([5], torch.arange(5.0))):
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        assert len(passes) == 1 + checkpointed
        found.append((loss.detach(), pixels.grad, {key: p.grad for key, p in model.named_parameters()}))
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1], **CLOSE)
    for key, gradient in found[0][2].items():
        if gradient is not None:
            torch.testing.assert_close(found[1][2][key], gradient, atol=2e-3, rtol=2e-3, msg=key)


@pytest.mark.parametrize("name", ["paligemma", "qwen2_5_vl"])
@torch.no_grad()
def test_threads_see_their_own_volumes(name: str) -> None:
    reader = adapted(name, ALL)
    batches = [make_volumes(name, 1 + i % 2, 1 + i, seed=i) for i in range(4)]
    expected = [reader.features(batch).tokens for batch in batches]
    found: dict[int, list[Tensor]] = {i: [] for i in range(4)}

    def look(i: int) -> None:
        with torch.no_grad():
            found[i].extend(reader.features(batches[i]).tokens for _ in range(3))

    threads = [threading.Thread(target=look, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, tokens in enumerate(expected):
        assert len(found[i]) == 3
        assert all(torch.allclose(again, tokens, **CLOSE) for again in found[i])


@every_kind
@torch.no_grad()
def test_in_half_precision(name: str) -> None:
    reader = adapt(make_model(name).bfloat16(), ALL)
    assert reader.features(make_volumes(name, 1, 3)).tokens.dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------------- settings and errors


@pytest.mark.parametrize(
    ("layers", "count", "spanning"),
    [
        ("none", 6, ()),
        ("all", 3, (0, 1, 2)),
        ("last-third", 27, tuple(range(18, 27))),
        ("last-third", 32, tuple(range(21, 32))),
        ("last-third", 23, tuple(range(15, 23))),
        ("last-third", 1, (0,)),
        ((5, 1, 5), 6, (1, 5)),
        ((), 6, ()),
    ],
)
def test_which_layers_span_slices(layers: Any, count: int, spanning: tuple[int, ...]) -> None:
    assert AdaptationSettings(layers=layers).spanning(count) == spanning


@every_kind
def test_the_last_third_is_that_of_the_layers_that_are_read(name: str) -> None:
    kind, reader = KINDS[name], adapted(name)
    expected = [
        reader.tower.get_submodule(kind.attention.format(layer))
        for layer in range(kind.read - -(-kind.read // 3), kind.read)
    ]
    assert list(reader.attentions) == expected


def test_a_tower_alone() -> None:
    """Within `seeing`, it takes the slices of volumes as its images."""
    model = make_model("paligemma")
    expected = adapt(copy.deepcopy(model)).tower
    tower = model.model.vision_tower
    assert isinstance(tower, SiglipVisionModel)
    assert len(adapt_tower(tower, AdaptationSettings())) == LAYERS // 3
    slices = make_volumes("paligemma", 1, 5)[0]
    with torch.no_grad(), seeing(Volumes([2, 3], torch.arange(5.0))):
        assert torch.equal(tower(slices).last_hidden_state, expected(slices).last_hidden_state)


def test_what_is_not_known_is_named() -> None:
    llama = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(WeightsError, match=r"LlamaForCausalLM has model_type 'llama'; known are gemma3, .*qwen2_5_vl"):
        adapt(llama)
    with pytest.raises(WeightsError, match=r"LlamaForCausalLM has model_type 'llama'; known are clip_vision_model"):
        adapt_tower(llama, AdaptationSettings())


def test_a_path_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llava")
    del model.model.multi_modal_projector
    with pytest.raises(WeightsError, match=r"llava: LlavaModel has no module 'multi_modal_projector'"):
        adapt(model)
    elsewhere = {"clip_vision_model": Tower("encoder.layers", "attention")}
    monkeypatch.setattr("voxmoe.model.adaptation.TOWERS", elsewhere)
    with pytest.raises(WeightsError, match=r"clip_vision_model: CLIPEncoderLayer has no module 'attention'"):
        adapt(make_model("llava"))


def test_layers_that_are_not_read_cannot_span_slices() -> None:
    with pytest.raises(WeightsError, match=r"layers \[2, 5\] are to span slices, but features come from layers 0 to 4"):
        adapted("llava", AdaptationSettings(layers=(2, 5)))


def test_a_model_is_adapted_once() -> None:
    reader = adapted("idefics3")
    with pytest.raises(WeightsError, match="is adapted already"):
        adapt(reader.model)


def test_a_volume_without_slices_is_refused() -> None:
    present = torch.tensor([[True, True], [False, False]])
    with pytest.raises(StudyError, match="volume 1 of a batch of 2 has no slices"):
        adapted("idefics3").features(make_volumes("idefics3", 2, 2), present=present)


def test_slices_that_cannot_be_cut_into_patches_are_refused() -> None:
    with pytest.raises(ImageError, match="24 x 12 pixels; this model takes multiples of 8"):
        adapted("qwen2_5_vl").features(make_volumes("qwen2_5_vl", 1, 2)[..., :12])


@pytest.mark.parametrize("wrong", [{"layers": "first-third"}, {"layers": [-1]}, {"pool": 0}, {"depth": 3}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AdaptationSettings.model_validate(wrong)
