"""The matrix products of the experts' equation, with backward passes that keep nothing but their inputs.

An expert has M + 1 linear maps: one a modality, and one that all modalities share. With gates g that are scalars and
the expert's weight pi it is

    pi sum_m  g_m W_m v_m + (1 - g_m) W v_m  =  pi W (sum_m v_m) + sum_m  pi g_m (W_m - W) v_m

Summed over all experts, that is one of two products:

- gates of a study (`folded_product`): the maps of all experts fold into one matrix a modality and study. Folding costs
  2 N M K O multiplications a study, gating the inputs N T (M + 1) K O: folding is cheaper from three tokens on.
- gates of a token (`gated_product`), by the right-hand form: what no gate scales folds into one matrix a study, and
  each map of a modality, less the shared one, is one product of gated inputs. That is M N + 1 products where the
  left-hand form has (M + 1) N.

Autograd would keep the gated inputs and folded matrices of every expert; here they are made again in the backward
pass, which is cheap beside the products. Under autocast the products run in its type; folding, gating and sums stay in
the type of the inputs.

Shapes: B batch, T vision token, R row (a token of a study), N expert, M modality, K vision width, O language-model
width.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_COLUMNS = 384
"""Of a difference of maps at a time: 5 MB at the paper's size, which lies in a processor's last cache."""


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


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    if out.dtype == left.dtype:
        out.addmm_(left, right)
    else:
        out += left @ right


def _write_outer(out: Float[Tensor, "N W"], gates: Float[Tensor, "B N"], rows: Float[Tensor, "B W"]) -> None:
    """gates' rows into `out`; of a single study that is no matrix product but a scaling, which memory alone bounds."""
    if len(rows) == 1:
        torch.mul(gates[0, :, None], rows[0], out=out)
    else:
        torch.mm(gates.T, rows, out=out)


def _apart(maps: Float[Tensor, "M1 K O"]) -> Iterator[tuple[slice, Float[Tensor, "MK C"]]]:
    """How an expert's own maps, one below the other, differ from its shared one, some columns at a time. They overwrite
    those before, so that what a product reads is still in the processor's cache."""
    own, width, out = len(maps) - 1, *maps.shape[1:]
    space = maps.new_empty(own * width * min(out, _COLUMNS))
    for first in range(0, out, _COLUMNS):
        columns = slice(first, min(first + _COLUMNS, out))
        apart = space[: own * width * (columns.stop - first)].view(own, width, -1)
        torch.sub(maps[:-1, :, columns], maps[-1, :, columns], out=apart)
        yield columns, apart.flatten(0, 1)


def _fold_shared(weights: Float[Tensor, "B N"], maps: Float[Tensor, "N M1 K O"]) -> Float[Tensor, "B K O"]:
    """The shared maps of all experts as one for each study."""
    return (weights @ maps[:, -1].flatten(1)).view(-1, *maps.shape[2:])


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gates: Tensor, weights: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, gates, weights, maps)
        ctx.kind = kind = _product_type(tokens)
        rows, factors = tokens.flatten(0, 1), (gates * weights[:, None, :, None]).flatten(0, 1)
        with _no_autocast(tokens):
            out = (tokens.sum(dim=2).to(kind) @ _fold_shared(weights, maps).to(kind)).to(tokens.dtype)
            for n, expert in enumerate(maps):
                inputs = (rows * factors[:, n, :, None]).flatten(1).to(kind)
                for columns, apart in _apart(expert):
                    _add_product(out.flatten(0, 1)[:, columns], inputs, apart.to(kind))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, gates, weights, maps = ctx.saved_tensors
        rows, factors = tokens.flatten(0, 1), (gates * weights[:, None, :, None]).flatten(0, 1)
        grad = grad.to(ctx.kind)
        row_grads = grad.flatten(0, 1)
        d_tokens = torch.zeros_like(tokens) if ctx.needs_input_grad[0] else None
        d_factors, d_maps = torch.empty_like(factors), torch.empty_like(maps)
        with _no_autocast(tokens):
            d_folded = (tokens.sum(dim=2).to(ctx.kind).mT @ grad).to(tokens.dtype).flatten(1)
            d_weights = d_folded @ maps[:, -1].flatten(1).T
            _write_outer(d_maps[:, -1].flatten(1), weights, d_folded)
            if d_tokens is not None:
                d_tokens += (grad @ _fold_shared(weights, maps).to(ctx.kind).mT)[:, :, None]
            apart = torch.empty_like(maps[0, 0])
            for n, m in product(range(len(maps)), range(rows.shape[1])):
                gate = factors[:, n, m, None]
                _write_product(d_maps[n, m], (rows[:, m] * gate).to(ctx.kind).T, row_grads)
                d_maps[n, -1] -= d_maps[n, m]
                torch.sub(maps[n, m], maps[n, -1], out=apart)
                d_inputs = (row_grads @ apart.to(ctx.kind).T).to(tokens.dtype)
                torch.linalg.vecdot(d_inputs, rows[:, m], out=d_factors[:, n, m])
                if d_tokens is not None:
                    d_tokens.flatten(0, 1)[:, m] += d_inputs * gate
        d_factors = d_factors.view_as(gates)
        d_weights += (d_factors * gates).sum(dim=(1, 3))
        return d_tokens, d_factors * weights[:, None, :, None], d_weights, d_maps


def _fold(own: Tensor, common: Tensor, maps: Tensor, m: int) -> Tensor:
    """The matrix of modality m for each study [B, K, O]."""
    folded = own[:, :, m] @ maps[:, m].flatten(1)
    folded.addmm_(common[:, :, m], maps[:, -1].flatten(1))
    return folded.view(len(own), *maps.shape[2:])


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
    tokens: Float[Tensor, "B T M K"],
    gates: Float[Tensor, "B T N M"],
    weights: Float[Tensor, "B N"],
    maps: Float[Tensor, "N M1 K O"],
) -> Float[Tensor, "B T O"]:
    """The sum over experts whose gates differ from token to token."""
    out: Tensor = _Gated.apply(tokens, gates, weights, maps)  # type: ignore[no-untyped-call]
    return out


def folded_product(
    tokens: Float[Tensor, "B T M K"],
    own: Float[Tensor, "B N M"],
    common: Float[Tensor, "B N M"],
    maps: Float[Tensor, "N M1 K O"],
) -> Float[Tensor, "B T O"]:
    """The sum over experts whose gates are those of a study; `own` and `common` are pi g and pi (1 - g)."""
    out: Tensor = _Folded.apply(tokens, own, common, maps)  # type: ignore[no-untyped-call]
    return out
