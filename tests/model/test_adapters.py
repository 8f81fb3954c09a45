"""The adapted linear map: peft's own as the oracle, in outputs and gradients."""

import math

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from voxmoe.model.adapters import AdaptedLinear, draw_kept, settle_adapters

RANK, IN, OUT = 3, 7, 5


def pair(bias: bool = False, dropout: float = 0.0) -> tuple[AdaptedLinear, LoraLinear]:
    """Ours and peft's with the same weights, none of them zero."""
    torch.manual_seed(0)
    base = nn.Linear(IN, OUT, bias=bias).requires_grad_(False)
    config = LoraConfig(r=RANK, lora_alpha=6, lora_dropout=dropout)
    ours, theirs = (kind(base, "default", config, r=RANK, lora_alpha=6) for kind in (AdaptedLinear, LoraLinear))
    nn.init.normal_(ours.lora_B["default"].weight)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def run(layer: LoraLinear, given: Tensor) -> dict[str, Tensor]:
    x = given.clone().requires_grad_()
    y = layer(x)
    torch.autograd.backward(y.float().pow(2).sum())
    assert x.grad is not None
    down, up = layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad
    assert down is not None
    assert up is not None
    return {"y": y, "x": x.grad, "down": down, "up": up}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(IN,), (4, IN), (2, 3, IN)])
def test_outputs_and_gradients_are_those_of_peft(bias: bool, shape: tuple[int, ...]) -> None:
    ours, theirs = pair(bias)
    x = torch.randn(shape)
    torch.testing.assert_close(run(ours, x), run(theirs, x))


@pytest.mark.parametrize("learns", [(False, False), (True, False), (False, True)])
def test_a_frozen_adapter_passes_the_same_gradient_on_and_keeps_nothing(learns: tuple[bool, bool]) -> None:
    ours, theirs = pair()
    x = torch.randn(4, IN)
    expected = run(theirs, x)
    weights = {"down": ours.lora_A["default"].weight, "up": ours.lora_B["default"].weight}
    for weight, learning in zip(weights.values(), learns, strict=True):
        weight.requires_grad_(learning)
    given, kept = x.clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        y = ours(given)
    torch.autograd.backward(y.pow(2).sum())
    torch.testing.assert_close({"y": y, "x": given.grad}, {key: expected[key] for key in ("y", "x")})
    for (name, weight), learning in zip(weights.items(), learns, strict=True):
        torch.testing.assert_close(weight.grad, expected[name] if learning else None)
    assert (torch.Size([4, IN]) in kept, torch.Size([4, RANK]) in kept) == learns


def test_a_gradient_is_that_of_finite_differences() -> None:
    ours, _ = pair(bias=True)
    ours.double()
    assert torch.autograd.gradcheck(ours, (torch.randn(4, IN, dtype=torch.double, requires_grad=True),))


def test_dropout_is_on_what_the_adapter_reads_alone() -> None:
    ours, theirs = pair(dropout=0.5)
    x = torch.randn(2000, IN)
    torch.manual_seed(1)
    found = run(ours, x)
    # The oracle: peft's formula with the mask that this seed draws.
    torch.manual_seed(1)
    kept, left = draw_kept(x, 0.5)
    down, up = (theirs.lora_A["default"].weight, theirs.lora_B["default"].weight)
    given = x.clone().requires_grad_()
    y = theirs.base_layer(given) + 2.0 * (given * kept / left) @ down.T @ up.T
    torch.autograd.backward(y.pow(2).sum())
    torch.testing.assert_close(found, {"y": y, "x": given.grad, "down": down.grad, "up": up.grad}, rtol=1e-4, atol=1e-3)


def test_an_adapter_that_does_not_learn_is_read_whole() -> None:
    ours, _ = pair(dropout=0.5)
    rows = torch.randn(5, ours.in_features)
    ours.requires_grad_(False)
    assert torch.equal(ours.train()(rows), ours.eval()(rows))
    ours.lora_A.requires_grad_(True)
    assert not torch.equal(ours.train()(rows), ours.eval()(rows))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_leaves_each_number_by_its_chance_and_independently(dropout: float) -> None:
    torch.manual_seed(0)
    kept, left = draw_kept(torch.empty(1000, 101), dropout)
    assert left == pytest.approx(1 - dropout, abs=1 / 65536)
    flat = kept.flatten().double()
    deviation = math.sqrt(left * (1 - left) / len(flat))
    assert abs(flat.mean() - left) < 4 * deviation
    for place in range(4):
        assert abs(flat[place::4].mean() - left) < 8 * deviation
    neighbours = torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(len(flat))


def test_nothing_is_dropped_in_evaluation() -> None:
    ours, theirs = pair(dropout=0.5)
    x = torch.randn(4, IN)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_autocast_and_the_weights_decide_the_type() -> None:
    ours, theirs = pair()
    x = torch.randn(4, IN)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
        torch.testing.assert_close(y, theirs(x), rtol=2e-2, atol=2e-2)
    assert y.dtype == torch.bfloat16
    ours.base_layer.bfloat16()
    assert ours(x).dtype == torch.bfloat16


def test_a_merged_and_a_disabled_adapter_are_left_to_peft() -> None:
    ours, theirs = pair()
    x = torch.randn(4, IN)
    adapted = ours(x)
    ours.enable_adapters(False)
    torch.testing.assert_close(ours(x), theirs.base_layer(x))
    ours.enable_adapters(True)
    ours.merge()
    torch.testing.assert_close(ours(x), adapted)


def test_settled_adapters_are_the_same_function_by_one_product_a_map() -> None:
    ours, theirs = pair(bias=True)
    model, x = nn.Sequential(nn.Linear(IN, IN), ours).eval(), torch.randn(4, IN)
    adapted = ours(x)
    for _ in range(2):  # what is settled stays as it is
        settle_adapters(model)
        torch.testing.assert_close(ours(x), adapted)
        torch.testing.assert_close(ours.base_layer(x), adapted)
    torch.testing.assert_close(ours.lora_B["default"].weight, theirs.lora_B["default"].weight, rtol=0, atol=0)


def test_maps_of_another_type_keep_their_adapters() -> None:
    """Their sum would be rounded to bf16, and with it what was learnt."""
    ours, _ = pair()
    ours.base_layer.bfloat16()
    x = torch.randn(4, IN)
    adapted = ours(x)
    settle_adapters(ours)
    assert not ours.merged
    torch.testing.assert_close(ours(x), adapted, rtol=0, atol=0)
