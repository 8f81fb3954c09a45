"""What passes from the encoder to a connector, and from a connector to the language model.

Shapes: B batch, M modality, T vision token, K vision width, U and L number and width of low-level tokens, S vision
token in the language model's sequence, O language-model width, N expert, C cells of a token in the chart, Q question.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Encoded(NamedTuple):
    """What an encoder sees of single volumes: CLS or another global token, tokens, and low-level tokens if it has a
    second stream."""

    cls: Float[Tensor, "B K"]
    tokens: Float[Tensor, "B T K"]
    low: Float[Tensor, "B U L"] | None = None


@dataclass(frozen=True)
class VisionFeatures:
    """What the encoder sees of a batch of studies: pooled tokens and CLS of every modality, which are present, the
    low-level tokens of an encoder with two streams, and the chart of what a decoder finds in all of them together."""

    tokens: Float[Tensor, "B M T K"]
    cls: Float[Tensor, "B M K"]
    present: Bool[Tensor, "B M"]
    low: Float[Tensor, "B M U L"] | None = None
    chart: Float[Tensor, "B T C"] | None = None

    @classmethod
    def spread(cls, seen: Encoded, present: Bool[Tensor, "B M"]) -> "VisionFeatures":
        """Volumes seen one by one, those of the modalities present in their order, at their places; zero elsewhere."""
        tokens, global_token = spread(seen.tokens, present), spread(seen.cls, present)
        return cls(tokens, global_token, present, None if seen.low is None else spread(seen.low, present))

    def take(self, rows: Int[Tensor, " Q"]) -> "VisionFeatures":
        """Those of the studies of these numbers, in this order."""
        return VisionFeatures(**{name: tensor[rows] for name, tensor in self.inputs().items()})

    def inputs(self) -> dict[str, Tensor]:
        """As arguments of the model."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def spread(values: Float[Tensor, "V *rest"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B M *rest"]:
    """What is seen of single volumes, at the places of those that are present in a batch; zeros elsewhere."""
    placed = values.new_zeros(*present.shape, *values.shape[1:])
    placed[present] = values
    return placed


@dataclass(frozen=True)
class Fused:
    """The vision part of the language model's sequence, which of it is there, and the experts' weights if there are
    experts."""

    tokens: Float[Tensor, "B S O"]
    mask: Bool[Tensor, "B S"]
    weights: Float[Tensor, "B N"] | None = None

    def take(self, rows: Int[Tensor, " Q"]) -> "Fused":
        """Those of these numbers, in this order."""
        return Fused(self.tokens[rows], self.mask[rows], None if self.weights is None else self.weights[rows])
