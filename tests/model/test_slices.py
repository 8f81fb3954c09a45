"""Attention across slices: rotation, windows and segments against one dense mask, what it keeps, what it computes."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from voxmoe.bench.step import SavedBytes, peak_of
from voxmoe.model.slices import (
    RopeSettings,
    SliceSettings,
    Volumes,
    _attention,
    attend_slices,
    attend_volume,
    rotate,
    seeing,
    slice_angles,
)

SCALE = 0.7
ATTEND = _attention(SCALE, 0.0)


def heads(slices: int, tokens: int, seed: int = 0, channels: int = 6) -> list[Tensor]:
    """Queries, keys and values [S, N, H, C] that need gradients."""
    generator = torch.Generator().manual_seed(seed)
    shape = (slices, tokens, 2, channels)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).float().requires_grad_() for _ in ("q", "k", "v")
    ]


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """All scores, [S N, S N] a head, and those that are not allowed left out."""
    q, k, v = (x.flatten(0, 1).transpose(0, 1) for x in (q, k, v))
    scores = (SCALE * q @ k.mT).masked_fill(~allowed, float("-inf"))
    return (scores.softmax(dim=-1) @ v).transpose(0, 1)


def allowed_between(volumes: Volumes, tokens: int, window: int | None) -> Tensor:
    """Token by token: the same volume, slices within the window, the same segment."""
    volume = torch.cat([torch.full((depth,), i) for i, depth in enumerate(volumes.depths)])
    place = torch.cat([torch.arange(depth) for depth in volumes.depths])
    of_one = volumes.segments or [tokens]
    segment = torch.cat([torch.full((length,), i) for i, length in enumerate(of_one)])
    volume, place = volume.repeat_interleave(tokens), place.repeat_interleave(tokens)
    segment = segment.repeat(len(volumes.indices))
    near = (place[:, None] - place).abs() <= (len(place) if window is None else window)
    return near & (volume[:, None] == volume) & (segment[:, None] == segment)


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    return list(torch.autograd.grad((out * probe).sum(), of))


@settings(deadline=None, max_examples=60)
@given(
    depths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    segments=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    window=st.none() | st.integers(1, 9),
    seed=st.integers(0, 100),
)
def test_volumes_windows_and_segments_are_a_dense_mask(
    depths: list[int], segments: list[int], window: int | None, seed: int
) -> None:
    tokens = sum(segments)
    volumes = Volumes(depths, torch.zeros(sum(depths)), segments if len(segments) > 1 else None)
    q, k, v = heads(sum(depths), tokens, seed)
    seen = attend_slices(q, k, v, volumes, SliceSettings(rope=None, window=window), ATTEND)
    expected = dense(q, k, v, allowed_between(volumes, tokens, window)).reshape(seen.shape)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(gradients(seen, [q, k, v]), gradients(expected, [q, k, v]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [6, 7, 40])
def test_a_window_as_deep_as_the_volume_is_no_window(window: int) -> None:
    q, k, v = heads(7, 3)
    assert torch.equal(attend_volume(q, k, v, window, ATTEND), attend_volume(q, k, v, None, ATTEND))


def test_nothing_outside_of_the_window_is_seen() -> None:
    q, k, v = (x.detach() for x in heads(9, 3))
    before = attend_volume(q, k, v, 2, ATTEND)
    changed_k, changed_v = k.clone(), v.clone()
    changed_k[6], changed_v[6] = 50.0, torch.nan
    after = attend_volume(q, changed_k, changed_v, 2, ATTEND)
    reached = [not torch.equal(before[i], after[i]) for i in range(9)]
    assert reached == [4 <= i <= 8 for i in range(9)]


# ------------------------------------------------------------------------------------------------------------- rotary


def test_scores_depend_on_the_difference_of_two_slices_alone() -> None:
    q, k = (x.detach()[:1].expand(5, -1, -1, -1) for x in heads(1, 1, channels=8)[:2])
    rope = RopeSettings(share=0.75, base=20)
    indices = torch.tensor([0.0, 1.0, 2.5, 4.0, 7.0])

    def scores(shift: float) -> Tensor:
        angles = slice_angles(indices + shift, 8, rope)
        return torch.einsum("inhc,jnhc->hij", rotate(q, angles), rotate(k, angles))

    torch.testing.assert_close(scores(30.0), scores(0.0), atol=1e-5, rtol=1e-4)
    found = scores(0.0)
    assert not torch.allclose(found[:, 0, 1], found[:, 0, 2], atol=1e-3)
    torch.testing.assert_close(found[:, 1, 2], scores(1.5)[:, 1, 2], atol=1e-5, rtol=1e-4)
    plain = torch.einsum("inhc,jnhc->hij", q, k)
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), plain.diagonal(dim1=1, dim2=2), atol=1e-5, rtol=1e-4)


def test_rotation_by_complex_numbers() -> None:
    x = heads(4, 3, channels=8)[0].detach()
    angles = slice_angles(torch.arange(4.0), 8, RopeSettings(share=1.0, base=10))
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(()), angles)[:, None, None]
    torch.testing.assert_close(rotate(x, angles), torch.cat([turned.real, turned.imag], dim=-1))
    speeds = torch.tensor([10 ** -(i / 4) for i in range(4)])
    torch.testing.assert_close(angles[3], 3 * speeds)


@pytest.mark.parametrize(("share", "turned"), [(1.0, 8), (0.5, 4), (0.25, 2), (0.01, 1)])
def test_a_share_of_the_channels_is_turned_spread_evenly(share: float, turned: int) -> None:
    moves = slice_angles(torch.tensor([1.0]), 16, RopeSettings(share=share))[0] != 0
    assert moves.sum() == turned
    assert moves.nonzero().flatten().tolist() == list(range(0, 8, 8 // turned))[:turned]
    x = torch.randn(1, 2, 3, 16)
    out = rotate(x, slice_angles(torch.tensor([2.0]), 16, RopeSettings(share=share)))
    still = (~moves).repeat(2)
    assert torch.equal(out[..., still], x[..., still])
    assert (out[..., ~still] != x[..., ~still]).all()
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))


def test_both_rotations_of_qwen_commute() -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

    x = torch.randn(4, 3, 2, 8)
    places = torch.randn(3, 4).repeat(1, 2)
    angles = slice_angles(torch.arange(4.0), 8, RopeSettings())

    def within(x: Tensor) -> Tensor:
        return apply_rotary_pos_emb_vision(x, x, places.cos(), places.sin())[0]

    torch.testing.assert_close(rotate(within(x), angles), within(rotate(x, angles)))


def test_offsets_start_anew_with_every_volume() -> None:
    volumes = Volumes([2, 1, 3], torch.tensor([4.0, 6.0, 9.0, 1.0, 2.0, 0.5]))
    assert volumes.offsets.tolist() == [0, 2, 0, 0, 1, -0.5]


def test_half_precision_comes_out_as_it_went_in() -> None:
    q, k, v = (x.detach() for x in heads(5, 3))
    volumes, settings = Volumes([5], torch.arange(5.0)), SliceSettings(window=1)
    exact = attend_slices(q, k, v, volumes, settings, ATTEND)
    half = attend_slices(q.bfloat16(), k.bfloat16(), v.bfloat16(), volumes, settings, ATTEND)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.05)


def across(tokens: int, dtype: torch.dtype, window: int | None = None) -> tuple[Tensor, list[Tensor], int]:
    """What an attention module gets of two volumes while plain attention is asked for, the gradients, and the most
    numbers that are kept in one tensor for them."""
    from voxmoe.model.slices import _across_slices

    parts = [torch.cat([x] * 2).detach().to(dtype).transpose(1, 2).requires_grad_() for x in heads(4, tokens)]
    module = SimpleNamespace(slices=SliceSettings(window=window))
    sizes = [0]
    with sdpa_kernel(SDPBackend.MATH), seeing(Volumes([4, 4], torch.arange(8.0))):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            out, _ = _across_slices(module, *parts, None, SCALE)
        grads = gradients(out.float(), parts)
    return out, grads, max(sizes)


@pytest.mark.parametrize("window", [None, 1])
def test_long_attention_in_bf16_is_that_of_single_precision_and_keeps_no_scores(window: int | None) -> None:
    tokens = 256 if window is None else 342
    out, grads, kept = across(tokens, torch.bfloat16, window)
    expected, exact, _ = across(tokens, torch.float32, window)
    assert {x.dtype for x in (out, *grads)} == {torch.bfloat16}
    torch.testing.assert_close(out.float(), expected, atol=0.02, rtol=0.02)
    for found, wanted in zip(grads, exact, strict=True):
        assert (found.float() - wanted).norm() < 0.02 * wanted.norm()
    assert kept < 4 * tokens * 1024
    assert across(tokens // 2, torch.bfloat16, window)[2] >= tokens * tokens, (
        "short attention is left as it is asked for"
    )


# --------------------------------------------------------------------------------------------------------------- cost


def _cost(depth: int, window: int | None) -> tuple[int, int]:
    """Bytes kept for the backward pass, and the peak of forward and backward."""
    q, k, v = heads(depth, 32, channels=16)
    kept = SavedBytes([q, k, v])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        out = kept(lambda: attend_volume(q, k, v, window, ATTEND))
        out.sum().backward()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    events = record.profiler.kineto_results.events()
    return kept.total, peak_of([(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"])


def test_memory_grows_with_the_number_of_slices() -> None:
    """Affinely: twice as many slices more need twice as much more."""
    saved, peaks = zip(*(_cost(depth, 2) for depth in (24, 48, 96)), strict=True)
    for found in (saved, peaks):
        assert 0 < found[2] - found[1] <= 2.02 * (found[1] - found[0])
    one = 24 * 32 * 2 * 16 * 4
    assert saved[0] < 3 * one, "keys and values are not copied for every window: output, its sums, and the ends"


# ------------------------------------------------------------------------------------------------------------ context


def test_what_is_seen_ends_with_its_block_also_by_an_error() -> None:
    from voxmoe.model.slices import _VOLUMES

    outer, inner = Volumes([1], torch.zeros(1)), Volumes([2], torch.zeros(2))
    with seeing(outer):
        with pytest.raises(ZeroDivisionError), seeing(inner):
            raise ZeroDivisionError
        assert _VOLUMES.get() is outer
    assert _VOLUMES.get() is None


def test_another_thread_does_not_see_it() -> None:
    from voxmoe.model.slices import _VOLUMES

    found: list[Any] = []
    with seeing(Volumes([1], torch.zeros(1))):
        thread = threading.Thread(target=lambda: found.append(_VOLUMES.get()))
        thread.start()
        thread.join()
    assert found == [None]


@pytest.mark.parametrize("wrong", [{"window": 0}, {"rope": {"share": 0}}, {"rope": {"base": 1}}, {"reach": 2}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SliceSettings.model_validate(wrong)


def test_dropout_of_the_tower_is_kept() -> None:
    q, k, v = (x.detach() for x in heads(6, 3))
    torch.manual_seed(0)
    dropped = attend_volume(q, k, torch.ones_like(v), 1, _attention(SCALE, 0.5))
    assert not torch.allclose(dropped, torch.ones_like(dropped))
    assert torch.allclose(attend_volume(q, k, torch.ones_like(v), 1, ATTEND), torch.ones_like(dropped))


def test_oracle_knows_what_it_leaves_out() -> None:
    volumes = Volumes([3, 2], torch.zeros(5))
    allowed = allowed_between(volumes, 1, 1)
    assert allowed.int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    q, k, v = heads(5, 1)
    everything = F.scaled_dot_product_attention(
        *(x.flatten(0, 1).transpose(0, 1)[None] for x in (q, k, v)), scale=SCALE
    )
    torch.testing.assert_close(
        dense(q, k, v, torch.ones_like(allowed)), everything[0].transpose(0, 1), atol=1e-5, rtol=1e-4
    )
