"""Hidden states brought to mean 0 and deviation 1 in every channel, before a linear layer reads them.

The hidden states of different questions differ by little beside what they have in common, so a linear layer on them
learns slowly. The two numbers a channel are measured once and then fixed: the layer stays the one linear layer of the
paper, written in other coordinates. Shapes: B batch, O language-model width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_FLOOR = 1e-3


class Standardise(nn.Module):
    """(hidden - mean) / deviation with fixed statistics; the identity until they are measured."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def measure(self, hidden: Float[Tensor, "B O"]) -> None:
        """Take the statistics from a sample of hidden states."""
        self.mean.copy_(hidden.mean(dim=0))
        self.deviation.copy_(hidden.std(dim=0).clamp(min=_FLOOR))

    def forward(self, hidden: Float[Tensor, "B O"]) -> Float[Tensor, "B O"]:
        return (hidden - self.mean) / self.deviation
