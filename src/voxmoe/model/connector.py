"""What lies between the encoder and the language model: mpLLM's experts, or the connector of another system.

All of them take what the encoder sees of a study and give the vision part of the language model's sequence, so that
they are compared with the same encoder, language model, heads and data (mpLLM, Table 2).
"""

from typing import Annotated

from pydantic import Field

from voxmoe.model.concatenation import ConcatenatingConnector, LlavaMedSettings, M3DSettings, llava_med, m3d
from voxmoe.model.experts import ExpertConnector, ExpertSettings, SingleConnector, SingleSettings

ConnectorSettings = Annotated[
    ExpertSettings | SingleSettings | LlavaMedSettings | M3DSettings, Field(discriminator="kind")
]
Connector = ExpertConnector | SingleConnector | ConcatenatingConnector


def make_connector(settings: ConnectorSettings, modalities: int, width: int, out: int) -> Connector:
    """The connector of these settings from the encoder's `width` to the language model's width `out`."""
    match settings:
        case ExpertSettings():
            return ExpertConnector(settings, modalities, width, out)
        case SingleSettings():
            return SingleConnector(modalities, width, out)
        case LlavaMedSettings():
            return llava_med(width, out)
        case M3DSettings():
            return m3d(width, out)
