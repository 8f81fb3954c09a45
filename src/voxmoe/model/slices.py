"""Attention across the slices of a volume, with the weights of an attention within images.

The vision towers of transformers take images and leave what happens between queries, keys and values to a function that
a configuration names. A layer that spans slices has another function there, and nothing else: its maps, its norms and
its names stay. The function takes the slices of a volume together, turns queries and keys by the slice's index (rotary
position embedding), and attends to all slices or to a window of them.

Which slices make a volume is said for the time of one forward pass (`seeing`). A layer takes it up before it is
checkpointed, so that it is still known when the layer is computed again in the backward pass, in whichever thread.
Where nothing is said, every image is seen by itself, as before.

A batch may hold a volume several times, to be seen by other task experts each time. What comes before the first of them
is then computed once for each volume that differs (`see_alike`).

Shapes: V volume, S slice of all volumes, F slice of the volumes that differ, D slice of one volume, N token of a slice,
H head, C channel of a head, R = C / 2 pair of channels; B L, images and tokens as the tower lays them out, S N or 1
(S N).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from voxmoe.errors import WeightsError
from voxmoe.model.routing import Routing
from voxmoe.settings import Settings

_NAME = "voxmoe_slices"
"""Of the function, among those that transformers knows."""


class RopeSettings(Settings):
    """Rotary position embedding over the slice index. The slowest pair of channels turns once in at most 2 pi `base`
    slices: with 100, about as many as the deepest volumes have."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Of each head's pairs of channels, how many are turned."""
    base: float = Field(default=100.0, gt=1)


class SliceSettings(Settings):
    """How slices attend to one another."""

    rope: RopeSettings | None = RopeSettings()
    """None: the order of the slices is not seen."""
    window: PositiveInt | None = None
    """How many slices to either side a slice attends to; None: all of the volume."""


@dataclass(frozen=True)
class Volumes:
    """Which images of a batch, one after the other, are the slices of one volume, and where they lie in it."""

    depths: list[int]
    """Slices of each volume."""
    indices: Float[Tensor, " S"]
    segments: list[int] | None = None
    """Tokens of the parts of a slice that do not attend to one another, in their order; None: a slice is one part."""
    routing: Routing | None = None
    """To which task experts the volumes go; None: to none."""
    same: list[int] | None = None
    """Of each volume, which of those that differ it is, by their numbers 0, 1, ..; None: all differ."""

    def by_slice(self, values: Shaped[Tensor, "V *rest"]) -> Shaped[Tensor, "S *rest"]:
        """What is said of each volume, of each of its slices."""
        depths = torch.tensor(self.depths, device=values.device)
        return values.repeat_interleave(depths, dim=0, output_size=sum(self.depths))

    @property
    def offsets(self) -> Float[Tensor, " S"]:
        """Indices from each volume's first slice on. Attention depends on differences alone; these keep the angles
        small, and a volume of one slice unturned."""
        return torch.cat([indices - indices[0] for indices in torch.split(self.indices, self.depths)])

    @cached_property
    def first(self) -> Int[Tensor, " F"]:
        """The slices of the volumes that differ, where each is first."""
        assert self.same is not None
        slices = torch.split(torch.arange(len(self.indices), device=self.indices.device), self.depths)
        return torch.cat([slices[self.same.index(number)] for number in range(max(self.same) + 1)])

    @cached_property
    def again(self) -> Int[Tensor, " S"]:
        """Of every slice, which of the `first` it is."""
        assert self.same is not None
        slices = torch.split(torch.arange(len(self.first), device=self.indices.device), self.once.depths)
        return torch.cat([slices[number] for number in self.same])

    @cached_property
    def once(self) -> "Volumes":
        """The volumes that differ."""
        assert self.same is not None
        depths = [self.depths[self.same.index(number)] for number in range(max(self.same) + 1)]
        return replace(self, depths=depths, indices=self.indices[self.first], routing=None, same=None)


_VOLUMES: ContextVar[Volumes | None] = ContextVar("volumes", default=None)


@contextmanager
def seeing(volumes: Volumes | None) -> Iterator[None]:
    """Within, in this thread, towers take their images for the slices of these volumes."""
    before = _VOLUMES.set(volumes)
    try:
        yield
    finally:
        _VOLUMES.reset(before)


def volumes_seen() -> Volumes | None:
    """Those of the innermost `seeing` in this thread."""
    return _VOLUMES.get()


# ------------------------------------------------------------------------------------------------------------- rotary


def slice_angles(offsets: Float[Tensor, " S"], channels: int, rope: RopeSettings) -> Float[Tensor, "S R"]:
    """By how much each pair of channels is turned in each slice; pairs that are not turned have the angle 0.

    The turned ones are spread evenly, as a tower with a rotary embedding of its own (Qwen2.5-VL) has height in the
    first half of the pairs and width in the second.
    """
    pairs = channels // 2
    turned = max(1, round(rope.share * pairs))
    count = torch.arange(turned, device=offsets.device)
    speeds = offsets.new_zeros(pairs)
    speeds[count * pairs // turned] = rope.base ** -(count / turned).to(speeds.dtype)
    return offsets[:, None] * speeds


def rotate(x: Float[Tensor, "S N H C"], angles: Float[Tensor, "S R"]) -> Float[Tensor, "S N H C"]:
    """Turn the pairs (i, i + C/2). These are the planes in which the towers' own rotary embeddings turn, so that both
    commute and scores depend on differences of slices and of places within a slice."""
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


# ---------------------------------------------------------------------------------------------------------- attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries [.., Q, H, C], keys and values [.., K, H, C] -> [.., Q, H, C]."""


def _attention(scale: float, dropout: float) -> Attend:
    """PyTorch's attention. Its kernels that keep no scores want four axes, so there is always one in front."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale).transpose(1, 2)

    return attend


def _together(x: Float[Tensor, "D N H C"]) -> Float[Tensor, "1 L H C"]:
    return x.flatten(0, 1)[None]


def _windows(x: Float[Tensor, "D N H C"], width: int) -> Float[Tensor, "W L H C"]:
    """The tokens of every `width` neighbouring slices: a view, so that only one copy of them is kept."""
    return x.unfold(0, width, 1).movedim(-1, 1).flatten(1, 2)


def attend_volume(
    q: Float[Tensor, "D N H C"],
    k: Float[Tensor, "D N H C"],
    v: Float[Tensor, "D N H C"],
    window: int | None,
    attend: Attend,
) -> Float[Tensor, "D N H C"]:
    """The tokens of one volume attend to those of all its slices, or of `window` slices to either side and their own.

    With a window, the slices that have all of it are computed in one, those at the ends one by one: no scores outside
    of the window are computed, and nothing grows with more than the number of slices.
    """
    depth = len(q)
    if window is None or window >= depth - 1:
        return attend(_together(q), _together(k), _together(v)).view_as(q)

    def near(i: int) -> Tensor:
        seen = slice(max(0, i - window), i + window + 1)
        return attend(q[i : i + 1], _together(k[seen]), _together(v[seen]))

    width = 2 * window + 1
    if depth < width:
        return torch.cat([near(i) for i in range(depth)])
    inner = attend(q[window : depth - window], _windows(k, width), _windows(v, width))
    return torch.cat([*map(near, range(window)), inner, *map(near, range(depth - window, depth))])


def _split(x: Float[Tensor, "S N H C"], segments: list[int], depths: list[int]) -> Iterator[Sequence[Tensor]]:
    """For every segment, its tokens in each volume."""
    for part in torch.split(x, segments, dim=1):
        yield torch.split(part.contiguous(), depths)


def attend_slices(
    q: Float[Tensor, "S N H C"],
    k: Float[Tensor, "S N H C"],
    v: Float[Tensor, "S N H C"],
    volumes: Volumes,
    settings: SliceSettings,
    attend: Attend,
) -> Float[Tensor, "S N H C"]:
    """Every volume by itself, and every segment of its slices by itself."""
    if settings.rope is not None:
        angles = slice_angles(volumes.offsets, q.shape[-1], settings.rope)
        q, k = rotate(q, angles), rotate(k, angles)
    segments = volumes.segments or [q.shape[1]]
    parts = (_split(x, segments, volumes.depths) for x in (q, k, v))
    seen = []
    for queries, keys, values in zip(*parts, strict=True):
        by_volume = zip(queries, keys, values, strict=True)
        seen.append(torch.cat([attend_volume(q, k, v, settings.window, attend) for q, k, v in by_volume]))
    return torch.cat(seen, dim=1)


_LONG = 1024
"""Keys of a query from which on attention in bf16 on a CPU is computed in float32."""


def _too_long_for_bf16(q: Float[Tensor, "S N H C"], volumes: Volumes, window: int | None) -> bool:
    """Whether a CPU gets attention done sooner in float32. In bf16 PyTorch's kernel that keeps no scores is slow at the
    backward pass, and the plain one (`voxmoe.training.trainer`) writes and reads all scores
    (benchmarks/attention_kernels.py)."""
    deepest = max(volumes.depths)
    slices = deepest if window is None else min(deepest, 2 * window + 1)
    keys = slices * max(volumes.segments or [q.shape[1]])
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and keys >= _LONG


@contextmanager
def _in_single() -> Iterator[None]:
    with torch.autocast("cpu", enabled=False), sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        yield


def _across_slices(
    module: Any,
    query: Float[Tensor, "B H L C"],
    key: Float[Tensor, "B H L C"],
    value: Float[Tensor, "B H L C"],
    attention_mask: Any,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Float[Tensor, "B L H C"], Any]:
    """What an attention module of transformers calls. A mask says which patches of an image are padding: volumes have
    none."""
    volumes = _VOLUMES.get()
    if volumes is None:
        within = ALL_ATTENTION_FUNCTIONS.get(module.within_images, sdpa_attention_forward)
        out, weights = within(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
        return out, weights
    count, heads, channels = len(volumes.indices), query.shape[1], query.shape[3]
    q, k, v = (x.transpose(1, 2).reshape(count, -1, heads, channels) for x in (query, key, value))
    attend = _attention(scaling, dropout)
    if _too_long_for_bf16(q, volumes, module.slices.window):
        with _in_single():
            seen = attend_slices(q.float(), k.float(), v.float(), volumes, module.slices, attend).to(query.dtype)
    else:
        seen = attend_slices(q, k, v, volumes, module.slices, attend)
    return seen.reshape(query.transpose(1, 2).shape), None


AttentionInterface.register(_NAME, _across_slices)


# -------------------------------------------------------------------------------------------- volumes that are the same

See = Callable[[Volumes, tuple[Any, ...], dict[str, Any]], Any]
"""A forward pass with these volumes and arguments."""


def _picked(said: Any, slices: Int[Tensor, " F"], count: int, length: int) -> Any:
    """What is said of the first axis of `length`, `count` slices one after the other, of some of these; what is said of
    something else as it is."""
    if isinstance(said, tuple):
        return tuple(_picked(each, slices, count, length) for each in said)
    if not isinstance(said, Tensor) or said.shape[:1] != (length,):
        return said
    return said.reshape(count, -1, *said.shape[1:]).index_select(0, slices).flatten(0, 1)


def _cuts(cuts: Int[Tensor, " C"], fewer: int, count: int) -> Int[Tensor, " C1"]:
    """Qwen2.5-VL's `cu_seqlens` (`voxmoe.model.towers`) for `fewer` of `count` slices."""
    end = (cuts[-1:].long() * fewer // count).to(cuts.dtype)
    return torch.cat([cuts[cuts < end], end])


def _see_once(see: See, volumes: Volumes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `see` makes of the volumes, from the volumes that differ."""
    count, fewer = len(volumes.indices), len(volumes.first)
    length = len(args[0] if args else kwargs["hidden_states"])
    args = _picked(args, volumes.first, count, length)
    kwargs = {name: _picked(said, volumes.first, count, length) for name, said in kwargs.items()}
    if "cu_seqlens" in kwargs:
        kwargs["cu_seqlens"] = _cuts(kwargs["cu_seqlens"], fewer, count)
    return _picked(see(volumes.once, args, kwargs), volumes.again, fewer, length * fewer // count)


class _Alike(nn.Module):
    """Mixed into the class of a part of a layer: it sees a volume once, however often a batch holds it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        volumes = _VOLUMES.get()
        if volumes is None or volumes.same is None:
            return super().forward(*args, **kwargs)
        return _see_once(self._see, volumes, args, kwargs)

    def _see(self, volumes: Volumes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with seeing(volumes):
            return super().forward(*args, **kwargs)


# ------------------------------------------------------------------------------------------------------------- layers

Arrange = Callable[[Volumes, dict[str, Any]], tuple[Volumes, dict[str, Any]]]
"""What a tower has to change in the arguments of a layer, so that its attention is called once with all slices."""


class _Keeping(GradientCheckpointingLayer):
    """Mixed into the class of a layer. What it sees is an argument of its forward pass, and so kept by a checkpoint."""

    arrange: Arrange | None = None
    alike = False
    """Whether it sees a volume once, however often a batch holds it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, volumes=_VOLUMES.get(), **kwargs)

    def forward(self, *args: Any, volumes: Volumes | None, **kwargs: Any) -> Any:
        if self.alike and volumes is not None and volumes.same is not None:
            return _see_once(self._see, volumes, args, kwargs)
        return self._see(volumes, args, kwargs)

    def _see(self, volumes: Volumes | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if volumes is not None and self.arrange is not None:
            volumes, kwargs = self.arrange(volumes, kwargs)
        with seeing(volumes):
            return super().forward(*args, **kwargs)


def keep_volumes(layer: Any, arrange: Arrange | None = None) -> None:
    """Let the parts of a layer know the volumes of its forward pass whenever it is computed, in place; a layer that
    does so already stays as it is."""
    if isinstance(layer, _Keeping):
        return
    kind = type(layer)
    # The name stays: by it, FSDP finds the layers that it wraps.
    layer.__class__ = type(kind.__name__, (_Keeping, kind), {})
    layer.arrange = arrange


def see_alike(layer: Any) -> None:
    """Let a layer before all task experts see a volume once, however often a batch holds it, in place."""
    keep_volumes(layer)
    layer.alike = True


def attend_alike(attention: Any) -> None:
    """Let the attention of the first layer with task experts do so: it comes before them. In place."""
    kind = type(attention)
    attention.__class__ = type(kind.__name__, (_Alike, kind), {})


def span_slices(layer: Any, attention: Any, settings: SliceSettings, arrange: Arrange | None = None) -> None:
    """Let the layer's attention module span the slices of volumes, in place; raises `WeightsError` if the layer is
    adapted already."""
    if isinstance(layer, _Keeping):
        raise WeightsError(f"this {type(layer).__name__} is adapted already: adapt a model once, freshly loaded")
    keep_volumes(layer, arrange)
    attention.slices = settings
    attention.within_images = attention.config._attn_implementation
    attention.config = copy.copy(attention.config)
    attention.config._attn_implementation = _NAME
