"""Memory of a training step in words: what was measured, what is computed at full size, and what the paper says."""

from collections.abc import Mapping
from typing import Any

from voxmoe.evaluation.tables import Table

PAPER_GB = {"mpllm": "about 20", "llava-med": "more than 40", "m3d": "more than 40", "med3dvlm": "more than 40"}
"""The paper's peak of a training run on one GPU, in GB (mpLLM, section 4.3): with Phi-3-Mini, on BraTS data; its text
names mpLLM and the systems that concatenate."""
_MEASURED = ("image tokens", "a step adds", "saved for backward", "stands", "in all", "s a step")
_COMPUTED = ("tokens a sequence", "saved a layer", "in all layers", "key-value cache", "stands", "connector")


def headline(result: Mapping[str, Any]) -> str:
    low, high = result["ratio_range"]
    return (
        f"memory: a step of a concatenating baseline needs {result['ratio']:.1f} times the memory of one of mpLLM "
        f"({low:.1f} to {high:.1f}); in MB, and in brackets the share of it that mpLLM needs ({result['data']})"
    )


def memory_tables(result: Mapping[str, Any]) -> list[Table]:
    """One table a case, and one of what is computed at the size of Phi-3-Mini, beside what the paper says of it."""
    measured = [
        Table(case, _MEASURED, [[system, *_measured(found)] for system, found in systems.items()])
        for case, systems in result["by_case"].items()
    ]
    title = "at Phi-3-Mini's size, computed: a sample and what stands, bf16"
    rows = [[system, *_computed(found), PAPER_GB.get(system, "-")] for system, found in result["phi3"].items()]
    return [*measured, Table(title, (*_COMPUTED, "the paper's peak, GB"), rows)]


def _measured(found: Mapping[str, Any]) -> list[str]:
    step, saved, total = (
        f"{found[f'{what}_bytes'] / 1e6:,.0f} ({found[f'mpllm_share_of_{what}']:.0%})"
        for what in ("step", "saved", "total")
    )
    return [
        str(found["image_tokens"]),
        step,
        saved,
        f"{found['fixed_bytes'] / 1e6:,.0f}",
        total,
        f"{found['seconds']:.1f}",
    ]


def _computed(found: Mapping[str, Any]) -> list[str]:
    names = ("saved_bytes_a_layer", "saved_bytes", "kv_cache_bytes", "fixed_bytes")
    sizes = [f"{found[name] / 1e6:,.0f} MB" for name in names]
    return [str(found["sequence"]), *sizes, f"{found['connector_parameters'] / 1e6:.1f} M"]
