"""A frozen linear map and its low-rank adapter as one operation: y = x W' + s (x A') B'.

peft computes the same by four maps and passes over the outputs between them, and autograd undoes each by itself. Here
the matrix product that makes the adapter's share also adds it, forward and backward, and only the input and its
low-rank image are kept. Names, saving and loading of weights stay peft's.

Shapes: N rows, I input width, O output width, R rank.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

_CHANCES = 1 << 16
"""In so many steps a chance can be told."""


def draw_kept(like: Float[Tensor, "N I"], dropout: float) -> tuple[Bool[Tensor, "N I"], float]:
    """What dropout leaves, and the chance by which each number is left: the nearest in 65,536 steps.

    A CPU draws one random number after the other, which would take a fifth of a training step: each serves four times.
    """
    lost = round(dropout * _CHANCES)
    count = -(-like.numel() // 4)
    drawn = torch.empty(count, dtype=torch.int64, device=like.device).random_(-(2**63), None)
    parts = drawn.view(torch.int16)[: like.numel()]
    return (parts >= lost - _CHANCES // 2).view(like.shape), 1 - lost / _CHANCES


class _Adapted(torch.autograd.Function):
    """The map of the module's docstring, with dropout on what the adapter reads. `base` gets no gradient, nor do `down`
    and `up` where they are frozen; then nothing is kept for them."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "N I"],
        base: Float[Tensor, "O I"],
        bias: Float[Tensor, " O"] | None,
        down: Float[Tensor, "R I"],
        up: Float[Tensor, "O R"],
        scale: float,
        dropout: float,
    ) -> Float[Tensor, "N O"]:
        read, kept = rows, None
        if dropout:
            kept, left = draw_kept(rows, dropout)
            read, scale = rows * kept, scale / left
        low = read @ down.T
        _, _, _, learns_down, learns_up, _, _ = ctx.needs_input_grad
        ctx.save_for_backward(read if learns_down else None, kept, base, down, up, low if learns_up else None)
        ctx.scale = scale
        return F.linear(rows, base, bias).addmm_(low, up.T, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Float[Tensor, "N O"]) -> tuple[Tensor | None, ...]:
        read, kept, base, down, up, low = ctx.saved_tensors
        below = (above @ up).mul_(ctx.scale)
        rows = None
        if ctx.needs_input_grad[0]:
            rows = above @ base
            if kept is None:
                rows.addmm_(below, down)
            else:
                rows.add_((below @ down).mul_(kept))
        to_down = None if read is None else below.T @ read
        to_up = None if low is None else (above.T @ low).mul_(ctx.scale)
        return rows, None, None, to_down, to_up, None, None


class AdaptedLinear(LoraLinear):
    """peft's adapted linear map with one adapter, computed as one operation: in the type that autocast asks for, else
    in that of the base weights. An adapter that does not learn is read without dropout."""

    def forward(self, x: Float[Tensor, "*N I"], *args: Any, **kwargs: Any) -> Float[Tensor, "*N O"]:
        if self.disable_adapters or self.merged:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        (name,) = self.active_adapters
        base = self.base_layer
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
        dropout, learns = self.lora_dropout[name], self.lora_A[name].weight.requires_grad
        rows: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]).to(dtype),
            base.weight.to(dtype),
            None if base.bias is None else base.bias.to(dtype),
            self.lora_A[name].weight.to(dtype),
            self.lora_B[name].weight.to(dtype),
            self.scaling[name],
            dropout.p if self.training and learns and isinstance(dropout, nn.Dropout) else 0.0,
        )
        return rows.view(*x.shape[:-1], rows.shape[-1])


def settle_adapters(model: nn.Module) -> None:
    """Add what the adapters of a model have learnt to the maps that they adapt, for a model that only answers: the same
    function but for rounding, by one product a map.

    Maps that are not held in float32 keep their adapters, since their type would round away a part of what was learnt.
    The others are laid out input by input, which spares a CPU turning them for the few rows of a question.
    """
    for module in model.modules():
        if isinstance(module, AdaptedLinear) and module.base_layer.weight.dtype == torch.float32 and not module.merged:
            module.merge()
            weight = module.base_layer.weight
            weight.data = weight.data.T.contiguous().T
