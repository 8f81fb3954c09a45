"""The benchmark of memory: what it counts against sums written out, its form, and a measurement that fails."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from voxmoe.bench import memory, step
from voxmoe.bench.memory import CONCATENATING, PHI3, SYSTEMS, Decoder, Work, arithmetic, bench_memory
from voxmoe.errors import BenchError
from voxmoe.model.connector import make_connector
from voxmoe.model.features import VisionFeatures
from voxmoe.model.language import LoraSettings, add_lora

TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work("llava-med", 1, False, TINY, str(tmp_path / "language"), str(tmp_path / "result.json"), wide=48)


@pytest.mark.parametrize(("hidden", "inner", "heads", "kv_heads", "rank"), [(64, 192, 4, 2, 16), (48, 80, 6, 6, 4)])
@pytest.mark.parametrize("fused", [False, True])
def test_a_layer_saves_what_the_arithmetic_says(
    fused: bool, hidden: int, inner: int, heads: int, kv_heads: int, rank: int
) -> None:
    config, model_class = (Phi3Config, Phi3ForCausalLM) if fused else (LlamaConfig, LlamaForCausalLM)
    totals = []
    for layers in (1, 2):
        sizes = {
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
        }
        model = model_class(config(**TINY | sizes)).requires_grad_(False).train()
        add_lora(model, LoraSettings(rank=rank))
        saved = step.SavedBytes([*model.parameters(), *model.buffers()])
        embeds = torch.randn(1, 24, hidden, requires_grad=True)
        keeping = saved(lambda: model.base_model(inputs_embeds=embeds, use_cache=False))  # noqa: B023
        totals.append(saved.total)
        del keeping
    decoder = Decoder(hidden, inner, 1, heads, hidden // heads * kv_heads, fused, parameters=0)
    assert totals[1] - totals[0] == 24 * decoder.saved_bytes(rank, 4)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * decoder.adapter_floats(rank)


def test_arithmetic_at_the_size_of_phi_3() -> None:
    ours, theirs = arithmetic(256, 1000), arithmetic(4 * 256, 10)
    assert (ours["sequence"], theirs["sequence"]) == (1 + 256 + 59, 1 + 1024 + 59)
    assert ours["kv_cache_bytes"] == 316 * 32 * 2 * 3072 * 2
    assert ours["saved_bytes"] / theirs["saved_bytes"] == pytest.approx(316 / 1084)
    assert ours["saved_bytes"] == 32 * ours["saved_bytes_a_layer"]
    assert PHI3.saved_bytes(16, 2) == 2 * (11 * 3072 + 4 * 8192 + 4 * 16 + 32 + 2) + 3 * 3072 + 8192
    assert ours["fixed_bytes"] - theirs["fixed_bytes"] == 12 * 990
    assert theirs["fixed_bytes"] == 2 * PHI3.parameters + 12 * (10 + 25_165_824)


def test_sizes_are_those_of_phi_3_mini() -> None:
    config = Phi3Config()  # whose defaults are Phi-3-Mini's
    assert (config.hidden_size, config.intermediate_size) == (PHI3.hidden, PHI3.inner)
    assert (config.num_hidden_layers, config.num_attention_heads) == (PHI3.layers, PHI3.heads)
    with torch.device("meta"):
        model = Phi3ForCausalLM(config)
        assert sum(p.numel() for p in model.parameters()) == PHI3.parameters
        model.requires_grad_(False)
        add_lora(model, LoraSettings(rank=16))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == PHI3.adapter_floats(16)


def test_saved_bytes_count_each_memory_once_and_nothing_that_stands() -> None:
    layer = torch.nn.Linear(3, 4)
    given = torch.randn(5, 3)
    saved = step.SavedBytes([*layer.parameters(), given])

    def forward() -> torch.Tensor:
        inner = layer(given)  # keeps `given` and the weight: both stand
        return (inner * inner).exp()  # keeps `inner` twice, and what exp gives

    assert saved(forward).shape == (5, 4)
    assert saved.total == 2 * 5 * 4 * 4


def test_the_peak_is_the_most_that_is_held_at_a_time() -> None:
    assert step.peak_of([(3, -10), (1, 10), (2, 5), (4, 7)]) == 15
    assert step.peak_of([]) == 0


@pytest.mark.parametrize(("system", "tokens"), [("llava-med", 1024), ("m3d", 1024), ("med3dvlm", 1024), ("radfm", 128)])
def test_image_tokens_of_the_published_sizes(system: str, tokens: int, work: Work) -> None:
    connector, vision = step.PARTS[system]
    with torch.device("meta"):
        given = step.make_batch(replace(work, system=system))
        names = given.keys() & {"tokens", "cls", "present", "low"}
        features = VisionFeatures(**{name: given[name] for name in names})
        fused = make_connector(connector, 4, vision, 48)(features)
    assert fused.tokens.shape == (1, tokens, 48)


@pytest.mark.parametrize("system", ["mpllm", "med3dvlm"])
def test_a_step_is_measured(system: str, work: Work) -> None:
    found = step.measure(replace(work, system=system))
    assert found["image_tokens"] == {"mpllm": 256, "med3dvlm": 1024}[system]
    assert 0 < found["saved_bytes"] < found["step_bytes"]
    assert found["seconds"] > 0
    frozen = 2 * 300 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32
    # Weights, and two numbers of Adam's for what learns; beside them, router's and heads' statistics, counts of steps.
    assert found["fixed_bytes"] == pytest.approx(4 * frozen + 12 * found["trained_parameters"], abs=2000)


def test_measured_bytes_do_not_vary_and_grow_with_the_batch(work: Work) -> None:
    first, again, twice = (step.measure(one) for one in (work, work, replace(work, batch=2)))
    for name in ("fixed_bytes", "step_bytes", "saved_bytes"):
        assert first[name] == again[name]
    assert twice["fixed_bytes"] == first["fixed_bytes"]
    assert twice["saved_bytes"] == pytest.approx(2 * first["saved_bytes"], rel=0.01)


def test_checkpointing_keeps_less(work: Work) -> None:
    work = replace(work, language=TINY | {"num_hidden_layers": 4})
    assert step.measure(replace(work, checkpointing=True))["saved_bytes"] < 0.5 * step.measure(work)["saved_bytes"]


@pytest.mark.slow
def test_a_measurement_is_a_process_of_its_own(work: Work) -> None:
    found = memory._measure(work)
    assert found == json.loads(Path(work.result).read_text())
    assert found["connector_parameters"] == (768 + 1) * 48


@pytest.mark.parametrize(
    ("code", "message"), [(1, "the measurement failed: MemoryError: too little"), (-9, "killed by signal 9")]
)
def test_a_measurement_that_fails_is_an_error(
    code: int, message: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], code, stderr="Traceback\n  somewhere\nMemoryError: too little\n")
    monkeypatch.setattr(memory.subprocess, "run", lambda *given, **how: failed)
    with pytest.raises(BenchError, match=f"llava-med, batch 1: .*{message}"):
        memory._measure(work)


def test_systems_take_turns_and_shares_are_ours_over_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def measured(work: Work) -> dict[str, Any]:
        asked.append((work.case, work.system))
        assert asdict(work)["language"] == memory.SMOLLM2
        factor = {"mpllm": 1, "radfm": 0.5}.get(work.system, 4) * work.batch
        sizes = {"fixed_bytes": 100, "step_bytes": 300 * factor, "saved_bytes": 200 * factor}
        counts = {"image_tokens": 256, "encoder_parameters": 7, "connector_parameters": 8}
        return sizes | counts | {"seconds": float(len(asked))}

    monkeypatch.setattr(memory, "_measure", measured)
    notes: list[str] = []
    result = bench_memory(cases=((1, False), (2, True)), runs=3, note=notes.append)
    assert asked == [
        (case, system) for case in ("batch 1", "batch 2, checkpointed") for _ in range(3) for system in SYSTEMS
    ]
    assert len(notes) == len(asked)
    assert (result["name"], result["ratio"], result["runs"], result["cases"]) == ("memory", 4, 3, 2)
    assert result["mpllm_share_of_step"] == 0.25
    first = result["by_case"]["batch 1"]
    assert first["m3d"]["total_bytes"] == 1300
    assert first["m3d"]["mpllm_share_of_total"] == 400 / 1300
    assert first["radfm"]["mpllm_share_of_saved"] == 2
    assert first["mpllm"]["seconds"] == result["ours_s"] == 1 + len(SYSTEMS)
    assert result["phi3"]["m3d"]["connector_parameters"] == 8
    assert set(CONCATENATING) < set(result["phi3"])


def test_the_table_is_printed(voxmoe: Any, monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    sizes = {"fixed_bytes": 10**8, "step_bytes": 10**9, "saved_bytes": 9 * 10**8, "seconds": 1.0}
    counts = {"image_tokens": 256, "encoder_parameters": 10**6, "connector_parameters": 10**6}
    monkeypatch.setattr(memory, "_measure", lambda work: sizes | counts)
    code, printed, progress = voxmoe("bench", "memory")
    assert code == 0
    assert "1.0 times the memory of one of mpLLM" in printed
    assert printed.count("med3dvlm") == 4
    assert "1,000 (100%)" in printed
    assert "batch 4, checkpointed, radfm: 1000 MB, 1.0 s" in progress
