"""The connectors of other systems, which concatenate the modalities' tokens (mpLLM, section 4.2, Baseline models).

One map, shared by all modalities, takes each modality's tokens to the language model's width; the results follow each
other in the sequence, so that it grows with the number of modalities. A missing modality's tokens are masked out.

Shapes: B batch, M modality, T vision token, K vision width, O language-model width.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.settings import Settings


class LlavaMedSettings(Settings):
    """LLaVA-Med: one linear layer."""

    kind: Literal["llava-med"] = "llava-med"


class M3DSettings(Settings):
    """M3D: spatial pooling, which the encoder has done, and two linear layers."""

    kind: Literal["m3d"] = "m3d"


class ConcatenatingConnector(nn.Module):
    """Each modality through the same map [B, T, K] -> [B, T', O], one after the other; reads no prompt."""

    reads_prompt = False

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def calibrate(self, prompt: Float[Tensor, "B O"]) -> None:
        """Nothing here reads the prompt."""

    def forward(self, features: VisionFeatures, prompt: Float[Tensor, "B O"] | None = None) -> Fused:
        batch, modalities = features.present.shape
        projected = self.projection(features.tokens.flatten(0, 1))
        tokens = projected.reshape(batch, -1, projected.shape[-1])
        return Fused(tokens, features.present.repeat_interleave(tokens.shape[1] // modalities, dim=1))


def llava_med(width: int, out: int) -> ConcatenatingConnector:
    return ConcatenatingConnector(nn.Linear(width, out))


def m3d(width: int, out: int) -> ConcatenatingConnector:
    return ConcatenatingConnector(nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out)))
