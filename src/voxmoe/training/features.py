"""What the frozen encoder sees of each study, computed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxmoe.imaging.grid import GriddedStudy
from voxmoe.model.features import VisionFeatures
from voxmoe.model.mpllm import MpLLM


@dataclass(frozen=True)
class StudyFeatures:
    """Pooled tokens and CLS of every modality of one study, and low-level tokens from an encoder with two streams."""

    tokens: Float[Tensor, "M T K"]
    cls: Float[Tensor, "M K"]
    present: Bool[Tensor, " M"]
    low: Float[Tensor, "M U L"] | None = None


def stack(features: Sequence[StudyFeatures]) -> VisionFeatures:
    low = [study.low for study in features if study.low is not None]
    return VisionFeatures(
        torch.stack([study.tokens for study in features]),
        torch.stack([study.cls for study in features]),
        torch.stack([study.present for study in features]),
        torch.stack(low) if low else None,
    )


@torch.no_grad()
def encode_studies(
    model: MpLLM,
    studies: Mapping[str, GriddedStudy],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, StudyFeatures]:
    """The features of every study, by its name."""
    features = {}
    for name, study in studies.items():
        seen = model.encode_images(
            torch.from_numpy(study.images)[None].to(model.device),
            torch.from_numpy(study.present)[None].to(model.device),
        )
        features[name] = StudyFeatures(**{part: tensor[0] for part, tensor in seen.inputs().items()})
        progress(len(features), len(studies))
    return features
