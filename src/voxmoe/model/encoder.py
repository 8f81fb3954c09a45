"""The encoder that sees one modality at a time: the 3D ViT of mpLLM and M3D, the DCFormer of Med3DVLM, or a pyramid
for two CPU cores.

All take voxels [B, 1, D, H, W] and give `Encoded`; `patch_features` also gives what dense pretraining reads, and their
settings say on which grid (`patches`) and how wide (`patch_width`), and on which grid the tokens are (`cells`).
"""

import logging
from typing import Annotated, Any

from pydantic import Field

from voxmoe.errors import WeightsError
from voxmoe.model.dcformer import DCFormer, DCFormerSettings
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings
from voxmoe.model.vision import VisionEncoder, VisionSettings
from voxmoe.model.weights import KeyReport, Pretrained, digest, find_weights, load_module

_log = logging.getLogger(__name__)

EncoderSettings = Annotated[VisionSettings | DCFormerSettings | PyramidSettings, Field(discriminator="kind")]
Encoder = VisionEncoder | DCFormer | PyramidEncoder
_KINDS: dict[type[Pretrained], type[Any]] = {
    VisionSettings: VisionEncoder,
    DCFormerSettings: DCFormer,
    PyramidSettings: PyramidEncoder,
}


def make_encoder(settings: EncoderSettings) -> Encoder:
    """The encoder of these settings, with random weights."""
    encoder: Encoder = _KINDS[type(settings)](settings)
    return encoder


def load_encoder(encoder: Encoder, place: str) -> KeyReport:
    """Fill an encoder from a file, a folder or a model on the hub, which holds it alone or beside other things.

    Raises `WeightsError` that lists every key that is missing, unexpected or of another shape.
    """
    report = load_module(encoder, find_weights(place), encoder.landmark)
    _log.info("%s", report)
    return report


def start_encoder(settings: EncoderSettings) -> tuple[Encoder, EncoderSettings]:
    """The encoder with the weights that it starts from, and the settings with their fingerprint filled in.

    Raises `WeightsError` if they cannot be had or are not those of `settings.fingerprint`.
    """
    encoder = make_encoder(settings)
    if settings.weights is None:
        return encoder, settings
    load_encoder(encoder, settings.weights)
    found = digest(encoder.state_dict())
    if settings.fingerprint not in (None, found):
        raise WeightsError(
            f"{settings.weights}: its encoder ({found}) is not the one that is asked for ({settings.fingerprint})"
        )
    return encoder, settings.model_copy(update={"fingerprint": found})
