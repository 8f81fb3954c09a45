"""How long attention takes on a CPU, forward and backward, by type and kernel: what `voxmoe.training.trainer` and
`voxmoe.model.slices` choose by. docs/benchmarks.md has the figures.

    OMP_NUM_THREADS=1 python benchmarks/attention_kernels.py
"""

import time

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = {"fused": SDPBackend.FLASH_ATTENTION, "plain": SDPBackend.MATH}
TURNS = 3


def pass_of(parts: list[Tensor], dtype: torch.dtype, kernel: SDPBackend) -> float:
    """Seconds of the processor for parts [4, H, N, 64], forward and backward."""
    q, k, v = (part.to(dtype).requires_grad_() for part in parts)
    with sdpa_kernel(kernel):
        started = time.process_time()
        out = F.scaled_dot_product_attention(q, k, v)
        out.backward(torch.ones_like(out))
        return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    ways = [
        (f"{name}, {str(dtype)[6:]}", dtype, kernel)
        for dtype in (torch.float32, torch.bfloat16)
        for name, kernel in KERNELS.items()
    ]
    print("heads", "tokens", *(name for name, *_ in ways), sep="\t")
    for heads in (3, 9):
        for tokens in (128, 256, 512, 1024, 2304):
            parts = [torch.randn(4, heads, tokens, 64) for _ in range(3)]
            turns = [[pass_of(parts, dtype, kernel) for _, dtype, kernel in ways] for _ in range(TURNS)]
            print(heads, tokens, *(f"{1000 * min(times):.1f} ms" for times in zip(*turns, strict=True)), sep="\t")


if __name__ == "__main__":
    main()
