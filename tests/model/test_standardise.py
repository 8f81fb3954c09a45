"""Standardising is an affine change of coordinates that keeps a linear layer a linear layer."""

import torch

from voxmoe.model.standardise import Standardise


def test_it_is_the_identity_until_measured_and_standardises_after() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(500, 6) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 10
    standardise = Standardise(6)
    torch.testing.assert_close(standardise(hidden), hidden)
    standardise.measure(hidden)
    out = standardise(hidden)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(dim=0), torch.ones(6))


def test_a_linear_layer_behind_it_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    standardise, layer = Standardise(4), torch.nn.Linear(4, 3)
    standardise.measure(torch.randn(50, 4) * 3 + 1)
    weight = layer.weight / standardise.deviation
    bias = layer.bias - weight @ standardise.mean
    hidden = torch.randn(7, 4)
    torch.testing.assert_close(layer(standardise(hidden)), hidden @ weight.T + bias)


def test_a_constant_channel_stays_finite() -> None:
    standardise = Standardise(2)
    standardise.measure(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert torch.isfinite(standardise(torch.tensor([[1.0, 3.0]]))).all()
