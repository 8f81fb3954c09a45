"""Memory and time of one training step: mpLLM's fused sequence against baselines that concatenate the modalities.

Every measurement is a process of its own (`voxmoe.bench.step`), the systems in turn. Measured is what PyTorch's
allocator holds at the same time, which, unlike the resident size of the process, does not depend on how the C library
keeps what was freed. What stands between steps (weights, Adam's state) and what a step adds are told apart.

For the size of Phi-3-Mini, which does not fit here, tokens, saved activations and key-value caches are computed.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from voxmoe.errors import BenchError

OURS = "mpllm"
CONCATENATING = ("llava-med", "m3d", "med3dvlm")
"""They give the language model all tokens of every modality; RadFM resamples each to 32."""
SYSTEMS = (OURS, *CONCATENATING, "radfm")
QUESTION, ANSWER = 30, 29
"""Tokens of a question and an answer."""
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""SmolLM2-135M. Memory does not depend on the weights, so random ones do."""


@dataclass(frozen=True)
class Decoder:
    """Sizes of a language model on which its memory depends."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_width: int
    """Of the keys (or values) of all heads."""
    fused: bool
    """Whether query, key and value, and gate and up, are one linear map each."""
    parameters: int

    def saved_bytes(self, rank: int, size: int) -> int:
        """Bytes that autograd keeps of one token in one layer, with LoRA and its dropout on every linear map, for
        numbers of `size` bytes.

        Each adapter keeps its input after dropout, the dropout's mask (a byte each) and its inner values; attention
        keeps queries, keys, values, output and a number a head; the MLP keeps gate, its activation and up; the two
        norms keep their input, the normed values and a number each.
        """
        if self.fused:
            numbers = 8 * self.hidden + 3 * self.kv_width + 4 * self.inner + 4 * rank + self.heads + 2
            masks = 3 * self.hidden + self.inner
        else:
            numbers = 10 * self.hidden + 2 * self.kv_width + 4 * self.inner + 7 * rank + self.heads + 2
            masks = 6 * self.hidden + self.inner
        return size * numbers + masks

    def adapter_floats(self, rank: int) -> int:
        """Numbers of the adapters on every linear map of every layer: in and out of each, times their rank."""
        ends = (6 if self.fused else 9) * self.hidden + 2 * self.kv_width + 3 * self.inner
        return self.layers * rank * ends

    def cached_floats(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_width


PHI3 = Decoder(hidden=3072, inner=8192, layers=32, heads=32, kv_width=3072, fused=True, parameters=3_821_079_552)
RANK = 16


@dataclass(frozen=True)
class Work:
    """One measurement: which system, how, with which language model, and the files that it shares and writes."""

    system: str
    batch: int
    checkpointing: bool
    language: dict[str, Any]
    folder: str
    """Where the language model is kept between measurements."""
    result: str
    wide: int = PHI3.hidden
    """The width for which the connector's parameters are counted, too."""

    @property
    def case(self) -> str:
        return f"batch {self.batch}" + (", checkpointed" if self.checkpointing else "")


def _measure(work: Work) -> dict[str, Any]:
    command = [sys.executable, "-m", "voxmoe.bench.step", json.dumps(asdict(work))]
    # At this threshold the GNU C library gives freed tensors back; left to itself it raises it and keeps them.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode < 0:
        raise BenchError(
            f"{work.system}, {work.case}: the measurement was killed by signal {-done.returncode}, as systems do that "
            "run out of memory: it takes up to 11 GB"
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise BenchError(f"{work.system}, {work.case}: the measurement failed: {''.join(last)}")
    found: dict[str, Any] = json.loads(Path(work.result).read_text())
    return found


def arithmetic(image_tokens: int, connector_parameters: int, decoder: Decoder = PHI3) -> dict[str, Any]:
    """Tokens of a sequence and what they cost in the language model, at 2 bytes a number (bf16); and what stands
    between steps: the language model at 2 bytes a number, what learns at 12 (fp32 and two numbers of Adam's)."""
    sequence = 1 + image_tokens + QUESTION + ANSWER
    layer = sequence * decoder.saved_bytes(RANK, 2)
    return {
        "image_tokens": image_tokens,
        "connector_parameters": connector_parameters,
        "fixed_bytes": 2 * decoder.parameters + 12 * (connector_parameters + decoder.adapter_floats(RANK)),
        "sequence": sequence,
        "saved_bytes_a_layer": layer,
        "saved_bytes": layer * decoder.layers,
        "kv_cache_bytes": 2 * sequence * decoder.cached_floats(),
    }


def _with_shares(systems: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each with the peak of everything and what share of its peaks mpLLM needs."""
    for found in systems.values():
        found["total_bytes"] = found["fixed_bytes"] + found["step_bytes"]
    ours = systems[OURS]
    for found in systems.values():
        for what in ("step", "total", "saved"):
            found[f"mpllm_share_of_{what}"] = ours[f"{what}_bytes"] / found[f"{what}_bytes"]
    return systems


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def bench_memory(
    language: dict[str, Any] | None = None,
    cases: Sequence[tuple[int, bool]] = ((1, False), (4, False), (4, True)),
    runs: int = 1,
    note: Callable[[str], None] = _note,
) -> dict[str, Any]:
    """Measure all systems at every case: a batch size, and whether activations are checkpointed.

    `ratio` is a concatenating baseline's peak of a step over ours, the median over those baselines and the cases
    without checkpointing.
    """
    by_case: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="voxmoe-") as folder:
        for batch, checkpointing in cases:
            measured: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
            for _ in range(runs):
                for system in SYSTEMS:
                    work = Work(
                        system, batch, checkpointing, language or SMOLLM2, f"{folder}/language", f"{folder}/result.json"
                    )
                    found = _measure(work)
                    note(f"{work.case}, {system}: {found['step_bytes'] / 1e6:.0f} MB, {found['seconds']:.1f} s")
                    measured[system].append(found)
            by_case[work.case] = _with_shares(
                {
                    system: found[0] | {"seconds": median(one["seconds"] for one in found)}
                    for system, found in measured.items()
                }
            )
    plain = [systems for case, systems in by_case.items() if "checkpointed" not in case]
    ratios = [1 / systems[system]["mpllm_share_of_step"] for systems in plain for system in CONCATENATING]
    return {
        "name": "memory",
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "mpllm_share_of_step": max(1 / ratio for ratio in ratios),
        "ours_s": median(systems[OURS]["seconds"] for systems in plain),
        "reference_s": median(systems[system]["seconds"] for systems in plain for system in CONCATENATING),
        "runs": runs,
        "cases": len(by_case),
        "data": "random tensors; "
        + ("the given language model" if language else "a language model of SmolLM2-135M's size with random weights"),
        "question_tokens": QUESTION,
        "answer_tokens": ANSWER,
        "by_case": by_case,
        "phi3": {
            system: arithmetic(found["image_tokens"], found["connector_parameters"])
            | {"encoder_parameters": found["encoder_parameters"]}
            for system, found in next(iter(by_case.values())).items()
        },
    }
