"""A gaze: the heads look at the fused tokens by themselves, at those that the question is about.

What is asked, the language model knows after a few hundred questions; to find the answer among its vision tokens it
needs many thousand. A gaze is attention from the question, as the high-level router reads it, straight to the tokens
that the connector has fused. As it needs no pass of the language model over the images, it learns from every question
of a cohort many times in minutes (`voxmoe.training.warm_up`), and connector and router learn with it. This is the
project's own: mpLLM's heads read the language model's hidden state alone.

Shapes: B batch, S vision token in the language model's sequence, O language-model width, H attention head, E width of a
head.
"""

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from voxmoe.model.features import Fused
from voxmoe.model.standardise import Standardise
from voxmoe.settings import Settings


class GazeSettings(Settings):
    """How the heads look."""

    heads: PositiveInt = 4
    width: PositiveInt = 192
    """Of all heads together."""
    hidden: PositiveInt = 576
    """Of the network that reads the question beside what was looked at."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of that network, while it learns."""

    @model_validator(mode="after")
    def _divisible(self) -> "GazeSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Gaze(nn.Module):
    """The question's hidden state and the fused tokens -> what the task heads read, beside the language model's own
    reading of the images, which begins with no share in it."""

    def __init__(self, settings: GazeSettings, width: int) -> None:
        super().__init__()
        self.heads = settings.heads
        self.standardise = Standardise(width)
        self.query = nn.Linear(width, settings.width)
        self.keys = nn.Linear(width, settings.width)
        # What all keys have in common falls out of the softmax: it would learn nothing but how numbers were rounded.
        self.keys.bias.requires_grad_(False)
        self.values = nn.Linear(width, settings.width)
        self.network = nn.Sequential(
            nn.Linear(settings.width + width, settings.hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, width),
        )
        self.share = nn.Parameter(torch.zeros(width))

    def weights(self, asked: Float[Tensor, "B O"], fused: Fused) -> Float[Tensor, "B H S"]:
        """Where each head looks: its weights over the tokens, which sum to 1; 0 for those that are not there."""
        query, keys = self._split(self.query(self.standardise(asked))), self._split(self.keys(fused.tokens))
        logits = torch.einsum("bhe,bshe->bhs", query, keys) / query.shape[-1] ** 0.5
        weights: Tensor = logits.float().masked_fill(~fused.mask[:, None], -torch.inf).softmax(dim=-1)
        return weights

    def _split(self, projected: Float[Tensor, "*rows W"]) -> Float[Tensor, "*rows H E"]:
        return projected.view(*projected.shape[:-1], self.heads, -1)

    def forward(
        self, asked: Float[Tensor, "B O"], fused: Fused, read: Float[Tensor, "B O"] | None = None
    ) -> Float[Tensor, "B O"]:
        """What the heads read; `read` is what the language model has made of question and images, standardised, and
        None before it has joined."""
        values = self._split(self.values(fused.tokens))
        seen = torch.einsum("bhs,bshe->bhe", self.weights(asked, fused).to(values.dtype), values).flatten(1)
        out: Tensor = self.network(torch.cat([seen, self.standardise(asked).to(seen.dtype)], dim=1))
        return out if read is None else out + self.share * read
