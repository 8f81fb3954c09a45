"""Where models compute, and in what type the processor multiplies faster."""

import torch


def best_device() -> torch.device:
    """The GPU if there is one that CUDA knows, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bf16 faster than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    # Intel's processors have AMX for it (which a virtual machine may hide) and are slow at it without: those that have
    # instructions for fp16, too, reached 155 GFLOP/s in bf16 and 240 in float32.
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and not has.get("avx512_fp16")))
