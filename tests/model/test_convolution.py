"""A convolution in bf16 has the gradients of float32, however shallow the volume."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.convolution import Conv3d


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 1, 1)])
def test_gradients_in_bf16_are_those_of_float32(depth: int, kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = Conv3d(16, 16, kernel, padding=[size // 2 for size in kernel])
    plain = torch.nn.Conv3d(16, 16, kernel, padding=[size // 2 for size in kernel])
    plain.load_state_dict(layer.state_dict())
    for _ in range(4):  # what is read without having been written differs from time to time
        seen = torch.randn(4, 16, depth, 4, 4)
        weight = torch.randn(4, 16, depth, 4, 4)
        (plain(seen) * weight).sum().backward()
        with torch.autocast("cpu", torch.bfloat16):
            told = layer(seen)
        (told.float() * weight).sum().backward()
        assert plain.weight.grad is not None
        assert layer.weight.grad is not None
        error = (layer.weight.grad - plain.weight.grad).abs().max() / plain.weight.grad.abs().max()
        assert error < 0.02
        layer.zero_grad()
        plain.zero_grad()


def test_outside_of_autocast_nothing_changes() -> None:
    layer = Conv3d(2, 3, 3, padding=1).double()
    seen = torch.randn(1, 2, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(layer(seen), F.conv3d(seen, layer.weight, layer.bias, padding=1))
