"""The benchmark of slices: its formulae against counted operations, its form, and ways that should agree and do not."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from voxmoe.bench import slices
from voxmoe.bench.slices import WAYS, WINDOW, Sizes, attention_flops, bench_slices, make_tower, slices_attended
from voxmoe.cli import show
from voxmoe.errors import BenchError

SIZES = Sizes(image=16, patch=4, width=16, heads=2, layers=3, inner=24)


@pytest.mark.parametrize("window", [None, 1, 2, 5, 30])
def test_pairs_of_slices_one_by_one(window: int | None) -> None:
    for depth in range(1, 12):
        reach = depth if window is None else window
        counted = sum(abs(i - j) <= reach for i in range(depth) for j in range(depth))
        assert slices_attended(depth, window) == counted


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_attention_is_computed_within_the_window_alone(name: str, depth: int) -> None:
    tower = make_tower(SIZES, WAYS[name])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        slices._see(tower, torch.randn(depth, 3, SIZES.image, SIZES.image))
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    assert counted == attention_flops(SIZES, depth, WAYS[name])


def test_time_and_memory_by_depth(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench_slices(SIZES, depths=(2, 4 * WINDOW), runs=2)
    assert (result["name"], result["cases"], result["runs"]) == ("slices", 2, 2)
    low, high = result["ratio_range"]
    assert 0 < low <= result["ratio"] <= high
    for ways in result["by_case"].values():
        assert list(ways) == list(WAYS)
        assert all(way["seconds"] > 0 for way in ways.values())
    shallow, deep = result["by_case"].values()
    assert all(shallow[name]["peak_bytes"] < deep[name]["peak_bytes"] for name in WAYS)
    order = ("all-2D", "windowed", "last-third", "all-3D")
    flops = [deep[name]["attention_flops"] for name in order]
    assert flops == sorted(set(flops))
    show.bench(result)
    printed = capsys.readouterr().out
    assert "all layers across slices" in printed
    assert all(name in printed for name in WAYS)


def test_ways_that_differ_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    see, single = slices._see, []

    def otherwise(tower: Any, images: torch.Tensor) -> torch.Tensor:
        if len(images) == 1:
            single.append(tower)
        return see(tower, images) + 0.01 * len(single)

    monkeypatch.setattr(slices, "_see", otherwise)
    with pytest.raises(BenchError, match="differ on 1 slices"):
        bench_slices(SIZES, depths=(2,), runs=1)
