"""Tissues put into words: the tokens of a slice are taught to lie towards the names of what they show.

What a tower of our own learns from masks is then where the language model already has its words for it, before it has
read a single answer. This project's own; the 2D models that the source adapts learnt it from pictures with captions.

Shapes: S slice, L label, N patch, P patch or token, T token, O width of the language model.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import WeightsError

LEAST = 0.05
"""Of a patch: a label that covers so much of it, or of all patches of a token together, is certainly there."""
_SHARPNESS, _RARE = 4.0, -3.0
_RAREST = 1e-3
"""Labels that are there less often count as if they were so often."""
_WEIGHT = 0.2
"""Of the loss, beside that of the texts."""


class Naming(nn.Module):
    """How surely each token shows each label: its part along what sets the label's name apart from the others'."""

    directions: Float[Tensor, "L O"]

    def __init__(self, names: Float[Tensor, "L O"]) -> None:
        """`names` are the embeddings of the labels' names."""
        super().__init__()
        apart = names - names.mean(dim=0)
        self.register_buffer("directions", F.normalize(apart, dim=1) / names.std(), persistent=False)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.bias = nn.Parameter(torch.full((len(names),), _RARE))

    def forward(self, tokens: Float[Tensor, "S T O"]) -> Float[Tensor, "S T L"]:
        """Logits."""
        along = tokens.float() @ self.directions.T / tokens.shape[-1] ** 0.5
        logits: Tensor = self.sharpness * along + self.bias
        return logits

    def loss(self, tokens: Float[Tensor, "S T O"], shares: Float[Tensor, "S L N"]) -> Float[Tensor, ""]:
        """Weighted cross-entropy of which labels are there, summed over labels; mean over tokens, weighted by
        `rarity`.

        `shares` tell how much of each patch each label covers. Raises `WeightsError` if patches do not make up the
        tokens of a slice.
        """
        there = shown(shares, tokens.shape[1])
        lost = F.binary_cross_entropy_with_logits(self(tokens), there, reduction="none")
        return _WEIGHT * (lost.sum(dim=-1) * rarity(there)).mean()


def rarity(there: Float[Tensor, "S P L"]) -> Float[Tensor, "S P"]:
    """How much each place of a batch counts by the rarest label that is there (0 to 1), with 1 on average: as one over
    the root of how often the label is there in the batch, so that a nodule is not lost among lungs."""
    often = there.mean(dim=(0, 1))
    rare = (there * often.clamp(min=_RAREST) ** -0.5).amax(dim=-1).clamp(min=1)
    weights: Tensor = rare / rare.mean()
    return weights


def shown(shares: Float[Tensor, "S L N"], tokens: int) -> Float[Tensor, "S T L"]:
    """How certainly each label is there in each token, 0 to 1."""
    return (_covered(shares, tokens) / LEAST).clamp(0, 1)


def _covered(shares: Float[Tensor, "S L N"], tokens: int) -> Float[Tensor, "S T L"]:
    """How many patches' worth of each token, which is a square of patches, each label covers."""
    patches = shares.shape[2]
    side, cells = round(patches**0.5), round(tokens**0.5)
    if side * side != patches or cells * cells != tokens or side % cells:
        raise WeightsError(f"labels cover {patches} patches of a slice, which make up no square of {tokens} tokens")
    square = shares.reshape(*shares.shape[:2], side, side)
    return F.avg_pool2d(square, side // cells, divisor_override=1).flatten(2).transpose(1, 2)
