"""What lies between the encoder and the language model: mpLLM's experts, or the connector of another system.

All of them take what the encoder sees of a study and give the vision part of the language model's sequence, so that
they are compared with the same language model, heads and data (mpLLM, Table 2), and but for Med3DVLM, which has its
own, with the same encoder.
"""

from typing import Annotated

from pydantic import Field

from voxmoe.model.concatenation import (
    ConcatenatingConnector,
    LlavaMedSettings,
    M3DSettings,
    Med3DVLMSettings,
    RadFMSettings,
    llava_med,
    m3d,
    med3dvlm,
    radfm,
)
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.encoder import EncoderSettings
from voxmoe.model.experts import ExpertConnector, ExpertSettings, SingleConnector, SingleSettings

ConnectorSettings = Annotated[
    ExpertSettings | SingleSettings | LlavaMedSettings | M3DSettings | RadFMSettings | Med3DVLMSettings,
    Field(discriminator="kind"),
]
Connector = ExpertConnector | SingleConnector | ConcatenatingConnector


def make_connector(settings: ConnectorSettings, modalities: int, vision: EncoderSettings, out: int) -> Connector:
    """The connector of these settings from what the encoder gives to the language model's width `out`.

    Raises `ValueError` if the connector reads two streams and the encoder has one.
    """
    match settings:
        case ExpertSettings():
            return ExpertConnector(settings, modalities, vision.hidden, out)
        case SingleSettings():
            return SingleConnector(modalities, vision.hidden, out)
        case LlavaMedSettings():
            return llava_med(vision.hidden, out)
        case M3DSettings():
            return m3d(vision.hidden, out)
        case RadFMSettings():
            return radfm(settings, vision.hidden, out)
        case Med3DVLMSettings():
            return med3dvlm(settings, two_streams(vision), out)


def two_streams(vision: EncoderSettings) -> DCFormerSettings:
    """The settings of an encoder with a low-level stream; raises `ValueError` for one without."""
    if not isinstance(vision, DCFormerSettings):
        raise ValueError(
            f"the connector med3dvlm reads low-level tokens, which the encoder {vision.kind} does not give: set "
            "vision.kind to dcformer"
        )
    return vision
