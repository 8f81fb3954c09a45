"""The multi-task heads and their losses (mpLLM, section 3.2.2 and equation 2): one linear layer a task.

Shapes: B batch, O language-model width, A classes or entries of a task.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.standardise import Standardise
from voxmoe.settings import Settings
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, Task

OUT_OF_SCOPE = "out_of_scope"
SIZES = {**{str(task): len(classes) for task, classes in CLASSES.items()}, OUT_OF_SCOPE: 2}
"""Width of each head's output: classes, or for region independent entries."""


class LossWeights(Settings):
    """The weight of each term of equation (2)."""

    text: float = Field(default=1.0, ge=0)
    """With 0 the answer's text is not read at all, which saves its share of the work; the model then cannot write."""
    volume: float = Field(default=1.0, ge=0)
    region: float = Field(default=1.0, ge=0)
    shape: float = Field(default=1.0, ge=0)
    spread: float = Field(default=1.0, ge=0)
    out_of_scope: float = Field(default=1.0, ge=0)
    coarse_map: float = Field(default=0.0, ge=0)
    """Of the map on the fused tokens (`voxmoe.model.coarse_map`); with 0 the model has none."""


class TaskHeads(nn.Module):
    """The hidden state at the end of the question [B, O] -> logits of every task."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.linear = nn.ModuleDict({name: nn.Linear(width, size) for name, size in SIZES.items()})

    def forward(self, hidden: Float[Tensor, "B O"]) -> dict[str, Float[Tensor, "B A"]]:
        return self.read(self.standardise(hidden))

    def read(self, standardised: Float[Tensor, "B O"]) -> dict[str, Float[Tensor, "B A"]]:
        """The logits from what is standardised already."""
        return {name: layer(standardised) for name, layer in self.linear.items()}


def head_losses(
    logits: dict[str, Float[Tensor, "B A"]],
    targets: dict[str, Int[Tensor, "B *A"]],
    weights: dict[str, Float[Tensor, "B *C"]] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Cross-entropy for the exclusive tasks and out of scope, binary cross-entropy over the entries of region.

    Each is a mean over the batch, of terms multiplied by `weights` where they are given.
    """
    losses = {
        name: F.cross_entropy(logits[name], targets[name].long(), reduction="none")
        for name in (*map(str, EXCLUSIVE_TASKS), OUT_OF_SCOPE)
    }
    region = str(Task.REGION)
    wanted = targets[region].to(logits[region].dtype)
    losses[region] = F.binary_cross_entropy_with_logits(logits[region], wanted, reduction="none")
    return {name: (loss if weights is None else loss * weights[name]).mean() for name, loss in losses.items()}


def probabilities(logits: dict[str, Float[Tensor, "B A"]]) -> dict[str, Float[Tensor, "B A"]]:
    """What the heads say, as probabilities: softmax for exclusive classes, sigmoid for the entries of region."""
    return {
        name: torch.sigmoid(values) if name == str(Task.REGION) else values.softmax(dim=-1)
        for name, values in logits.items()
    }
