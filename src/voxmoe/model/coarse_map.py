"""A coarse map on the fused tokens: each tells how much of its cell each part of the lesions fills.

One linear map from what the experts have made of a place for a question. It is taught by masks, so that the experts
learn from every cell of every study and not from answers alone, and it shows which of a question's evidence has come
through to the language model. This is the project's own: mpLLM has no such head.

Shapes: B question, T vision token, S vision token in the language model's sequence, O language-model width, P part,
D H W voxels of the model's grid, d h w its tokens.
"""

from collections.abc import Mapping
from math import log1p

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.imaging.parts import Part, part_labels
from voxmoe.vocabulary import Profile

_SHARPEST = 1000
"""One over the fraction at which the graded scale begins to count."""


def graded(fractions: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Fractions from 0 to 1 on a scale of 0 to 1 on which each doubling above a few tenths of a percent adds about a
    tenth.

    A label that fills a hundredth of a cell is a third of the way up; on the plain scale it hardly counts.
    """
    return torch.log1p(_SHARPEST * fractions) / log1p(_SHARPEST)


def ungraded(grades: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The fractions of which these are the grades."""
    return torch.expm1(grades * log1p(_SHARPEST)) / _SHARPEST


def filled_cells(parts: Float[Tensor, "P D H W"], cells: tuple[int, int, int]) -> Float[Tensor, "T P"]:
    """How much of the cell of each token each part fills, tokens in the order depth, height, width."""
    return F.adaptive_avg_pool3d(parts, cells).flatten(1).T.contiguous()


class CoarseMap(nn.Module):
    """Fused tokens -> how much of each token's cell each part fills."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.linear = nn.Linear(width, len(Part))

    def _logits(self, fused: Float[Tensor, "B S O"]) -> Float[Tensor, "B T P"]:
        """Of the tokens that stand for places, which come last."""
        logits: Tensor = self.linear(fused[:, -self.tokens :])
        return logits

    def forward(self, fused: Float[Tensor, "B S O"]) -> Float[Tensor, "B T P"]:
        return ungraded(self._logits(fused).float().sigmoid())

    def loss(self, fused: Float[Tensor, "B S O"], filled: Float[Tensor, "B T P"]) -> Float[Tensor, ""]:
        """Binary cross-entropy with the graded fractions: the sum over parts, the mean over questions and tokens."""
        logits = self._logits(fused).float()
        return len(Part) * F.binary_cross_entropy_with_logits(logits, graded(filled.float()))


def label_maps(
    filled: Float[Tensor, "T P"], profile: Profile, cells: tuple[int, int, int]
) -> Mapping[str, Float[np.ndarray, "d h w"]]:
    """How much of each cell each label of a profile fills: the sum over the parts that it covers, at most 1."""
    values = part_labels(profile)[1:]
    maps = {}
    for label in profile.labels:
        covered = filled[:, torch.from_numpy(values == label.value)].sum(dim=1).clamp(max=1)
        maps[label.key] = covered.reshape(cells).cpu().numpy()
    return maps
