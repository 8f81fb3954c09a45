"""The encoder that sees one modality at a time: the 3D ViT of mpLLM and M3D, or the DCFormer of Med3DVLM.

Both take voxels [B, 1, D, H, W] and give `Encoded`; `patch_features` gives what dense pretraining reads, and their
settings say on which grid (`patches`) and how wide (`patch_width`).
"""

from typing import Annotated

from pydantic import Field

from voxmoe.model.dcformer import DCFormer, DCFormerSettings
from voxmoe.model.vision import VisionEncoder, VisionSettings

EncoderSettings = Annotated[VisionSettings | DCFormerSettings, Field(discriminator="kind")]
Encoder = VisionEncoder | DCFormer


def make_encoder(settings: EncoderSettings) -> Encoder:
    """The encoder of these settings, with random weights."""
    return VisionEncoder(settings) if isinstance(settings, VisionSettings) else DCFormer(settings)
