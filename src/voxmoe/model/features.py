"""What passes from the encoder to a connector, and from a connector to the language model.

Shapes: B batch, M modality, T vision token, K vision width, S vision token in the language model's sequence, O
language-model width, N expert.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class VisionFeatures:
    """What the encoder sees of a batch of studies: pooled tokens and CLS of every modality, and which are present."""

    tokens: Float[Tensor, "B M T K"]
    cls: Float[Tensor, "B M K"]
    present: Bool[Tensor, "B M"]


@dataclass(frozen=True)
class Fused:
    """The vision part of the language model's sequence, which of it is there, and the experts' weights if there are
    experts."""

    tokens: Float[Tensor, "B S O"]
    mask: Bool[Tensor, "B S"]
    weights: Float[Tensor, "B N"] | None = None
