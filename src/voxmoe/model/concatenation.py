"""The connectors of other systems, which concatenate the modalities' tokens (mpLLM, section 4.2, Baseline models).

One map, shared by all modalities, takes each modality's tokens to the language model's width; the results follow each
other in the sequence, so that it grows with the number of modalities. A missing modality's tokens are masked out.
What of each is published and what is this project's reading is in docs/baselines.md.

Shapes: B batch, M modality, T vision token, K vision width, O language-model width, Q question.
"""

from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.mixer import DualStreamMixer
from voxmoe.model.perceiver import PerceiverProjection, PerceiverResampler
from voxmoe.settings import Settings


class LlavaMedSettings(Settings):
    """LLaVA-Med: one linear layer."""

    kind: Literal["llava-med"] = "llava-med"


class M3DSettings(Settings):
    """M3D: spatial pooling, which the encoder has done, and two linear layers."""

    kind: Literal["m3d"] = "m3d"


class RadFMSettings(Settings):
    """RadFM: a Perceiver resampler, and one linear layer."""

    kind: Literal["radfm"] = "radfm"
    latents: PositiveInt = 32
    layers: PositiveInt = 6
    heads: PositiveInt = 8
    head_width: PositiveInt = 64
    expansion: PositiveInt = 4
    """How much wider the inner layer of the feed-forward is."""


class Med3DVLMSettings(Settings):
    """Med3DVLM: an MLP-mixer for each of the encoder's two streams."""

    kind: Literal["med3dvlm"] = "med3dvlm"
    high_tokens: tuple[PositiveInt, ...] = Field(default=(64, 128), min_length=1)
    low_tokens: tuple[PositiveInt, ...] = Field(default=(192, 128), min_length=1)
    """Tokens of the streams after every layer."""
    mlp_depth: PositiveInt = 2


class ConcatenatingConnector(nn.Module):
    """Each modality through the same map [B, T, K] -> [B, T', O], one after the other; reads no prompt.

    With `two_streams` the map reads a modality's low-level tokens, too.
    """

    reads_prompt = False

    def __init__(self, projection: nn.Module, two_streams: bool = False) -> None:
        super().__init__()
        self.projection = projection
        self.two_streams = two_streams

    def calibrate(self, prompt: Float[Tensor, "B O"]) -> None:
        """Nothing here reads the prompt."""

    def forward(self, features: VisionFeatures, prompt: Float[Tensor, "B O"] | None = None) -> Fused:
        batch, modalities = features.present.shape
        streams = [features.tokens]
        if self.two_streams:
            if features.low is None:
                raise ValueError("the connector reads two streams: give `low` with `tokens`")
            streams.append(features.low)
        projected = self.projection(*(stream.flatten(0, 1) for stream in streams))
        tokens = projected.reshape(batch, -1, projected.shape[-1])
        return Fused(tokens, features.present.repeat_interleave(tokens.shape[1] // modalities, dim=1))

    def for_questions(
        self, studies: VisionFeatures, owner: Int[Tensor, " Q"], prompt: Float[Tensor, "Q O"] | None = None
    ) -> Fused:
        """What the questions see of their studies, each study projected once."""
        fused: Fused = self(studies)
        return fused.take(owner)


def llava_med(width: int, out: int) -> ConcatenatingConnector:
    return ConcatenatingConnector(nn.Linear(width, out))


def m3d(width: int, out: int) -> ConcatenatingConnector:
    return ConcatenatingConnector(nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out)))


def radfm(settings: RadFMSettings, width: int, out: int) -> ConcatenatingConnector:
    sizes = settings.model_dump(exclude={"kind"})
    return ConcatenatingConnector(PerceiverProjection(PerceiverResampler(width, **sizes), width, out))


def med3dvlm(settings: Med3DVLMSettings, vision: DCFormerSettings, out: int) -> ConcatenatingConnector:
    mixer = DualStreamMixer(
        (vision.tokens, vision.hidden),
        (vision.low_tokens, vision.low_hidden),
        out=out,
        **settings.model_dump(exclude={"kind"}),
    )
    return ConcatenatingConnector(mixer, two_streams=True)
