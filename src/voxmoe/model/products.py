"""The matrix products of the experts' equation, with backward passes that keep nothing but their inputs.

An expert has M + 1 linear maps: one a modality, and one that all modalities share. With gates that are scalars it is

    sum_m own_m W_m v_m + common_m W_M v_m

where `own` and `common` carry everything that scales a term. Summed over all experts, that is one of two products:

- gates of a study (`folded_product`): the maps of all experts fold into one matrix a modality and study. Folding costs
  2 N M K O multiplications a study, gating the inputs N T (M + 1) K O: folding is cheaper from three tokens on.
- gates of a token (`gated_product`): one product an expert, of the gated inputs side by side with its maps one below
  the other.

Autograd would keep the gated inputs and folded matrices of every expert; here they are made again in the backward
pass, which is cheap beside the products. Under autocast the products run in its type; folding, gating and sums stay in
the type of the inputs.

Shapes: B batch, T vision token, R row (a token of a study), N expert, M modality, K vision width, O language-model
width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def gated_inputs(
    tokens: Float[Tensor, "R M K"], own: Float[Tensor, "R M"], common: Float[Tensor, "R M"]
) -> Float[Tensor, "R MK"]:
    """What one expert's maps read, side by side: each modality's token by its gate, and the sum for the shared map."""
    rows, modalities, width = tokens.shape
    inputs = tokens.new_empty(rows, modalities + 1, width)
    torch.mul(tokens, own[:, :, None], out=inputs[:, :-1])
    torch.sum(tokens * common[:, :, None], dim=1, out=inputs[:, -1])
    return inputs.flatten(1)


def _product_type(tokens: Tensor) -> torch.dtype:
    device = tokens.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype


def _no_autocast(tensor: Tensor) -> torch.autocast:
    """Types are chosen here; also in a backward pass that is started under autocast."""
    return torch.autocast(tensor.device.type, enabled=False)


def _write_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, own: Tensor, common: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, own, common, maps)
        ctx.kind = kind = _product_type(tokens)
        out = tokens.new_zeros(len(tokens), maps.shape[-1])
        with _no_autocast(tokens):
            for n, expert in enumerate(maps):
                inputs = gated_inputs(tokens, own[:, n], common[:, n])
                out += inputs.to(kind) @ expert.flatten(0, 1).to(kind)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, own, common, maps = ctx.saved_tensors
        grad = grad.to(ctx.kind)
        d_tokens = torch.zeros_like(tokens) if ctx.needs_input_grad[0] else None
        d_own, d_common, d_maps = torch.empty_like(own), torch.empty_like(common), torch.empty_like(maps)
        with _no_autocast(tokens):
            for n, expert in enumerate(maps):
                inputs = gated_inputs(tokens, own[:, n], common[:, n])
                _write_product(d_maps[n].flatten(0, 1), inputs.to(ctx.kind).T, grad)
                d_inputs = (grad @ expert.flatten(0, 1).to(ctx.kind).T).to(tokens.dtype)
                d_each = d_inputs.view(len(tokens), -1, tokens.shape[-1])
                d_own[:, n] = (d_each[:, :-1] * tokens).sum(dim=-1)
                d_common[:, n] = (d_each[:, -1:] * tokens).sum(dim=-1)
                if d_tokens is not None:
                    d_tokens += d_each[:, :-1] * own[:, n, :, None] + d_each[:, -1:] * common[:, n, :, None]
        return d_tokens, d_own, d_common, d_maps


def _fold(own: Tensor, common: Tensor, maps: Tensor, m: int) -> Tensor:
    """The matrix of modality m for each study [B, K, O]."""
    folded = own[:, :, m] @ maps[:, m].flatten(1)
    folded.addmm_(common[:, :, m], maps[:, -1].flatten(1))
    return folded.view(len(own), *maps.shape[2:])


def _write_outer(out: Float[Tensor, "N W"], gates: Float[Tensor, "B N"], rows: Float[Tensor, "B W"]) -> None:
    """gates' rows into `out`; of a single study that is no matrix product but a scaling, which memory alone bounds."""
    if len(rows) == 1:
        torch.mul(gates[0, :, None], rows[0], out=out)
    else:
        torch.mm(gates.T, rows, out=out)


class _Folded(Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, own: Tensor, common: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, own, common, maps)
        ctx.kind = kind = _product_type(tokens)
        out = tokens.new_zeros(*tokens.shape[:2], maps.shape[-1])
        with _no_autocast(tokens):
            for m in range(tokens.shape[2]):
                out += tokens[:, :, m].to(kind) @ _fold(own, common, maps, m).to(kind)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, own, common, maps = ctx.saved_tensors
        grad = grad.to(ctx.kind)
        d_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        d_own, d_common, d_maps = torch.empty_like(own), torch.empty_like(common), torch.empty_like(maps)
        d_shared = d_maps[:, -1].flatten(1)
        with _no_autocast(tokens):
            for m in range(tokens.shape[2]):
                d_folded = (tokens[:, :, m].to(ctx.kind).mT @ grad).to(tokens.dtype).flatten(1)
                _write_outer(d_maps[:, m].flatten(1), own[:, :, m], d_folded)
                if m == 0:
                    _write_outer(d_shared, common[:, :, m], d_folded)
                else:
                    d_shared.addmm_(common[:, :, m].T, d_folded)
                d_own[:, :, m] = d_folded @ maps[:, m].flatten(1).T
                d_common[:, :, m] = d_folded @ maps[:, -1].flatten(1).T
                if d_tokens is not None:
                    d_tokens[:, :, m] = grad @ _fold(own, common, maps, m).to(ctx.kind).mT
        return d_tokens, d_own, d_common, d_maps


def gated_product(
    tokens: Float[Tensor, "R M K"],
    own: Float[Tensor, "R N M"],
    common: Float[Tensor, "R N M"],
    maps: Float[Tensor, "N M1 K O"],
) -> Float[Tensor, "R O"]:
    """The sum over experts whose gates differ from row to row."""
    out: Tensor = _Gated.apply(tokens, own, common, maps)  # type: ignore[no-untyped-call]
    return out


def folded_product(
    tokens: Float[Tensor, "B T M K"],
    own: Float[Tensor, "B N M"],
    common: Float[Tensor, "B N M"],
    maps: Float[Tensor, "N M1 K O"],
) -> Float[Tensor, "B T O"]:
    """The sum over experts whose gates are those of a study."""
    out: Tensor = _Folded.apply(tokens, own, common, maps)  # type: ignore[no-untyped-call]
    return out
