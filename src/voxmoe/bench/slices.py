"""What it costs to see the slices of a volume together: forward and backward of a SigLIP-like tower against depth.

Four ways: every slice by itself, the last third of the layers across all slices, the same within a window of slices,
and all layers across all slices. Weights are random, which changes neither time nor memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import SiglipVisionConfig, SiglipVisionModel

from voxmoe.bench.step import peak_of
from voxmoe.bench.timing import seconds_in_turn
from voxmoe.errors import BenchError
from voxmoe.model.adaptation import AdaptationSettings, adapt_tower
from voxmoe.model.slices import Volumes, seeing
from voxmoe.settings import Settings

WINDOW = 2
WAYS = {
    "all-2D": AdaptationSettings(layers="none"),
    "windowed": AdaptationSettings(window=WINDOW),
    "last-third": AdaptationSettings(),
    "all-3D": AdaptationSettings(layers="all"),
}
OURS, REFERENCE = "last-third", "all-3D"
_TOLERANCE = 1e-4
"""Of the largest difference beside the largest value."""


class Sizes(Settings):
    """Of the tower."""

    image: int = 112
    patch: int = 14
    width: int = 192
    heads: int = 3
    layers: int = 12
    inner: int = 768

    @property
    def tokens(self) -> int:
        """Of a slice."""
        return (self.image // self.patch) ** 2


def slices_attended(depth: int, window: int | None) -> int:
    """Pairs of a slice and a slice that it attends to: D^2, or with a window w < D, D (2 w + 1) - w (w + 1)."""
    reach = depth - 1 if window is None else min(window, depth - 1)
    return depth * (2 * reach + 1) - reach * (reach + 1)


def attention_flops(sizes: Sizes, depth: int, settings: AdaptationSettings) -> int:
    """Multiplications and additions of scores and of their sums over values, in a forward pass of one volume."""
    spanning = len(settings.spanning(sizes.layers))
    pairs = spanning * slices_attended(depth, settings.window) + (sizes.layers - spanning) * depth
    return 4 * pairs * sizes.tokens**2 * sizes.width


def make_tower(sizes: Sizes, settings: AdaptationSettings) -> SiglipVisionModel:
    torch.manual_seed(0)
    tower = SiglipVisionModel._from_config(
        SiglipVisionConfig(
            image_size=sizes.image,
            patch_size=sizes.patch,
            hidden_size=sizes.width,
            num_attention_heads=sizes.heads,
            num_hidden_layers=sizes.layers,
            intermediate_size=sizes.inner,
            vision_use_head=False,
        )
    ).train()
    adapt_tower(tower, settings)
    return tower


def _see(tower: Any, slices: Float[Tensor, "S C H W"]) -> Tensor:
    """All slices as one volume."""
    with seeing(Volumes([len(slices)], torch.arange(len(slices), dtype=torch.float32))):
        seen: Tensor = tower(slices).last_hidden_state
    return seen


def _step(tower: Any, slices: Float[Tensor, "S C H W"]) -> None:
    tower.zero_grad()
    torch.autograd.backward(_see(tower, slices).sum())


def _peak_bytes(work: Callable[[], None]) -> int:
    """The most that PyTorch's allocator held at a time beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    events = record.profiler.kineto_results.events()
    return peak_of([(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"])


def _check(sizes: Sizes, slices: Float[Tensor, "S C H W"]) -> None:
    """One slice is the image in every way, and a window as deep as the volume is none."""
    whole = AdaptationSettings(window=len(slices))
    pairs = [(whole, WAYS[OURS], slices)] + [(way, WAYS["all-2D"], slices[:1]) for way in WAYS.values()]
    with torch.no_grad():
        for ours, reference, seen in pairs:
            found, expected = (_see(make_tower(sizes, way), seen) for way in (ours, reference))
            difference = float((found - expected).abs().max() / expected.abs().max())
            if not difference < _TOLERANCE:
                raise BenchError(f"{ours} and {reference} differ on {len(seen)} slices by {difference:.1e}")


@dataclass(frozen=True)
class _Way:
    """What is measured of one way at one depth."""

    seconds: float
    peak_bytes: int
    attention_flops: int


def _measure(sizes: Sizes, slices: Float[Tensor, "S C H W"], runs: int) -> dict[str, _Way]:
    towers = {name: make_tower(sizes, settings) for name, settings in WAYS.items()}
    steps = {name: partial(_step, tower, slices) for name, tower in towers.items()}
    peaks = {name: _peak_bytes(step) for name, step in steps.items()}
    seconds = seconds_in_turn(steps, runs)
    return {
        name: _Way(seconds[name], peaks[name], attention_flops(sizes, len(slices), settings))
        for name, settings in WAYS.items()
    }


def bench_slices(sizes: Sizes | None = None, depths: Sequence[int] = (8, 16, 32, 64), runs: int = 3) -> dict[str, Any]:
    """Measure all ways at every depth. `ratio` is the time of all layers across slices over that of the last third, the
    median over the depths."""
    sizes = sizes or Sizes()
    volume = torch.randn(max(depths), 3, sizes.image, sizes.image, generator=torch.Generator().manual_seed(1))
    _check(sizes, volume[: min(depths)])
    by_depth = {depth: _measure(sizes, volume[:depth], runs) for depth in depths}
    ratios = [ways[REFERENCE].seconds / ways[OURS].seconds for ways in by_depth.values()]
    return {
        "name": "slices",
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ours_s": median(ways[OURS].seconds for ways in by_depth.values()),
        "reference_s": median(ways[REFERENCE].seconds for ways in by_depth.values()),
        "runs": runs,
        "cases": len(by_depth),
        "data": ", ".join(f"{name} {value}" for name, value in sizes.model_dump().items())
        + f"; a window of {WINDOW} slices to either side",
        "by_case": {str(depth): {name: asdict(way) for name, way in ways.items()} for depth, ways in by_depth.items()},
    }
