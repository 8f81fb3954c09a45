"""Each benchmark on a small case: the form of its result, and that unequal outputs are not passed over."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from voxmoe.bench import BENCHES, adapters, bench_named, building, experts, findings, reading
from voxmoe.bench.cases import MaskCase, mask_cases
from voxmoe.bench.timing import time_in_turn
from voxmoe.errors import BenchError
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.volume import Volume, read_raw, write_volume
from voxmoe.model.experts import ExpertSettings
from voxmoe.vqa.protocol import PROTOCOLS


def case(seed: int = 0) -> MaskCase:
    """A core, satellites, scattered specks and an absent label, off the grid's centre."""
    mask = np.zeros((30, 26, 22), np.uint8)
    mask[4:14, 5:12, 6:13] = 2
    mask[6:10, 7:10, 8:11] = 3
    mask[20, 20:24, 3] = 2
    specks = np.random.default_rng(seed).random((8, 8, 8)) < 0.15
    mask[20:28, 4:12, 10:18][specks] = 1
    return MaskCase("small", Volume(mask, np.diag([1.0, 0.9, 2.5, 1.0])), profile_named("gli-2024"))


def check_form(result: dict[str, Any], name: str, cases: int, runs: int) -> None:
    assert (result["name"], result["cases"], result["runs"]) == (name, cases, runs)
    assert len(result["by_case"]) == cases
    low, high = result["ratio_range"]
    assert 0 < low <= result["ratio"] <= high
    assert result["ours_s"] > 0
    assert result["reference_s"] > 0


@pytest.mark.parametrize("name", ["paper-v2", "code-v3"])
def test_findings(name: str) -> None:
    protocol = PROTOCOLS[name]
    result = findings.bench_findings([case(), replace(case(1), name="another")], runs=2, protocol=protocol)
    check_form(result, "findings", cases=2, runs=2)
    assert result["protocol"] == protocol.name


TINY = {
    "vocab_size": 32,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def test_adapters() -> None:
    result = adapters.bench_adapters(runs=1, language=TINY)
    check_form(result, "adapters", cases=2, runs=1)
    assert list(result["by_case"]) == ["dropout 0", "dropout 0.1"]


def test_adapters_that_differ_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = adapters.AdaptedLinear.forward
    monkeypatch.setattr(adapters.AdaptedLinear, "forward", lambda self, x: 1.01 * scaled(self, x))
    with pytest.raises(BenchError, match="ours is off by"):
        adapters.bench_adapters(runs=1, language=TINY)


def test_findings_that_differ_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings.reference(case(), PROTOCOLS["paper-v2"])
    assert found.keys() == {"NETC", "SNFH", "ET"}
    numbers = tuple(1.002 * number for number in found["ET"].numbers)
    monkeypatch.setattr(findings, "reference", lambda *_: found | {"ET": replace(found["ET"], numbers=numbers)})
    with pytest.raises(BenchError, match="small, ET: ours found"):
        findings.bench_findings([case()], runs=1)
    monkeypatch.setattr(findings, "reference", lambda *_: {"ET": found["ET"]})
    with pytest.raises(BenchError, match="the reference None"):
        findings.bench_findings([case()], runs=1)


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_reading(axes: str, tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    data = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    write_volume(Volume(data, np.diag([1.0, 2.0, 3.0, 1.0]), axes=axes), path)
    check_form(reading.bench_reading([path], runs=2), "reading", cases=1, runs=2)


def test_reading_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.nii.gz"
    write_volume(case().mask, path)
    shifted = read_raw(path)
    monkeypatch.setattr(reading, "read_raw", lambda _: replace(shifted, data=shifted.data + np.uint8(1)))
    with pytest.raises(BenchError, match=r"image.nii.gz: read otherwise than by nibabel"):
        reading.bench_reading([path], runs=1)


def test_a_build(cohort: Path) -> None:
    result = building.bench_build(cohort, runs=1)
    check_form(result, "build", cases=1, runs=1)
    assert result["studies"] == 4
    assert result["build_over_reading"] == pytest.approx(1 / result["ratio"])
    gli = result["gli"]
    assert gli["build_s"] == pytest.approx(1621 * result["ours_s"] / 4)
    assert gli["build_s"] == pytest.approx(gli["reading_s"] + gli["beyond_reading_s"])


def test_a_build_that_leaves_studies_out_is_an_error(cohort: Path, tmp_path: Path) -> None:
    for study in sorted(path for path in cohort.iterdir() if path.is_dir())[:2]:
        shutil.copytree(study, tmp_path / study.name)
    next(tmp_path.glob("*/*-seg.nii.gz")).unlink()
    with pytest.raises(BenchError, match="1 studies cannot be used"):
        building.bench_build(tmp_path, runs=1)


SIZES = experts.Sizes(
    experts=ExpertSettings(modality_level=3, token_level=2, router_hidden=8),
    batch=2,
    modalities=3,
    tokens=6,
    width=8,
    out=8,
)


def test_experts() -> None:
    result = experts.bench_experts(SIZES, runs=2)
    check_form(result, "experts", cases=3, runs=2)
    assert list(result["by_case"]) == ["forward", "further question", "forward and backward"]
    saved = result["saved_activations"]
    assert 0 < saved["ours_mb"] < saved["reference_mb"]


NARROW = experts.Sizes(experts=ExpertSettings(router_hidden=8), width=96, out=384)
"""The paper's numbers of experts, modalities and tokens, with maps of an eighth of the width."""


def _multiplications(work: Callable[[], object]) -> int:
    def in_place(_: Any, left: torch.Size, right: torch.Size, **others: Any) -> int:
        return 2 * left[0] * left[1] * right[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        work()
    return int(counter.get_total_flops())


def test_the_algebra_multiplies_less_than_the_sum_and_keeps_less() -> None:
    setup = experts._setup(NARROW)
    forward = _multiplications(setup.term_by_term) / _multiplications(setup.forward)
    steps = [partial(setup.train, way) for way in (setup.term_by_term, setup.forward)]
    both = _multiplications(steps[0]) / _multiplications(steps[1])
    assert forward == pytest.approx(3.35, abs=0.05)
    assert both == pytest.approx(2.35, abs=0.05)
    ours = experts.saved_bytes(setup.forward, setup.connector.parameters())
    parameters = [*setup.reference.parameters(), *setup.connector.parameters()]
    assert ours <= 0.1 * experts.saved_bytes(setup.term_by_term, parameters)


def test_experts_that_differ_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    copy, term_by_term = experts._copy, experts._Expert.forward

    def copy_and_change(ours: Any, reference: Any) -> None:
        copy(ours, reference)
        with torch.no_grad():
            reference.experts[1].shared.weight += 0.1

    def with_another_gradient(self: Any, tokens: torch.Tensor, routed: torch.Tensor) -> torch.Tensor:
        gates = self.outer(torch.relu(self.inner(routed)))
        return term_by_term(self, tokens, routed) + gates.sum() - gates.sum().detach()

    with monkeypatch.context() as patch:
        patch.setattr(experts, "_copy", copy_and_change)
        with pytest.raises(BenchError, match="outputs: ours is off by"):
            experts.bench_experts(SIZES, runs=1)
    monkeypatch.setattr(experts._Expert, "forward", with_another_gradient)
    with pytest.raises(BenchError, match="gradient: ours is off by"):
        experts.bench_experts(SIZES, runs=1)


def test_the_two_sides_take_turns() -> None:
    turns: list[str] = []
    timing = time_in_turn("x", lambda: turns.append("ours"), lambda: turns.append("reference"), runs=3)
    assert turns == ["reference", "ours"] * 3
    assert timing.ratio == timing.reference_s / timing.ours_s


def test_phantoms_stand_in_for_real_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOXMOE_REAL_DATA", raising=False)
    monkeypatch.setattr("voxmoe.bench.cases.PHANTOMS", 1)
    data, (drawn,) = mask_cases()
    assert data == "phantoms"
    assert drawn.mask.data.any()


@pytest.mark.real
def test_real_masks_and_their_profiles(real_data: Path) -> None:
    data, cases = mask_cases()
    assert data == "real masks"
    assert {case.profile.name for case in cases} == {"gli-2024", "gli-2023", "brats-2021"}
    assert len(cases) == 20


def test_benchmarks_by_name() -> None:
    assert {name: bench_named(name) for name in BENCHES} == BENCHES
    with pytest.raises(BenchError, match=f"no benchmark is called 'speed'; there are {', '.join(BENCHES)}"):
        bench_named("speed")
