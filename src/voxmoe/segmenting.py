"""Where the lesions of a study are: a mask on the study's own grid, by an encoder and the decoder trained with it.

Shapes: Q no part and all parts, D H W voxels of the model's grid.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxmoe.errors import StudyError, WeightsError
from voxmoe.imaging.grid import GriddedStudy, from_grid, to_grid
from voxmoe.imaging.hounsfield import looks_like_ct
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume, where_label
from voxmoe.model.devices import best_device
from voxmoe.model.grounding import (
    Grounding,
    GroundingSettings,
    check_drawable,
    find_parts,
    label_probabilities,
)
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.model.own_weights import config_at
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings
from voxmoe.model.weights import find_weights, load_module
from voxmoe.training.recipe import EyeRecipe, load
from voxmoe.vocabulary import Profile


def check_no_ct(study: Study, reader: str) -> None:
    """Raise `StudyError` for an image of a study that is a CT, which `reader` cannot read."""
    for modality, volume in study.images.items():
        if looks_like_ct(volume):
            raise StudyError(
                f"{volume.source}: is given as {modality} and has the values of a CT; {reader} reads brain MRI; "
                "ask a model that reads CT about it: --model FOLDER, trained by a recipe ct-*.yaml"
            )


class Segmenter:
    """Draws the labels of any profile whose labels are made of parts (`Part`)."""

    def __init__(self, encoder: PyramidEncoder, grounding: Grounding) -> None:
        self.encoder = encoder.eval()
        self.grounding = grounding.eval()

    @classmethod
    def of(cls, model: MpLLM) -> "Segmenter | None":
        """The segmenter within a model; None for a model without a decoder."""
        if model.settings.grounding is None:
            return None
        assert isinstance(model.vision, PyramidEncoder)
        assert isinstance(model.grounding, Grounding)
        return cls(model.vision, model.grounding)

    @classmethod
    def from_pretrained(cls, place: Path | str) -> "Segmenter":
        """That of a model or of an eye, without the language model; raises `WeightsError` if there is none."""
        vision, decoder = _settings_at(Path(place))
        encoder, grounding = PyramidEncoder(vision), Grounding(decoder, vision)
        file = find_weights(str(place))
        load_module(encoder, file, encoder.landmark)
        load_module(grounding, file, grounding.landmark)
        return cls(encoder.to(best_device()), grounding.to(best_device()))

    @torch.no_grad()
    def segment(self, study: Study, profile: Profile) -> Volume:
        """The likeliest label value of the profile at each voxel of the study, 0 outside its foreground.

        Raises `LabelError` for a profile whose labels are not made of parts, and `StudyError` if an image is a CT.
        """
        check_drawable(profile)
        check_no_ct(study, "a segmenter")
        device = next(self.encoder.parameters()).device
        seen = to_grid(study, self.encoder.settings.grid)
        images, present = torch.from_numpy(seen.images)[None], torch.from_numpy(seen.present)[None]
        _, found = find_parts(self.encoder, self.grounding, images.to(device), present.to(device))
        return draw_mask(study, seen, found[0].cpu(), profile)


def draw_mask(study: Study, seen: GriddedStudy, parts: Float[Tensor, "Q D H W"], profile: Profile) -> Volume:
    """The likeliest label value at each voxel of a study of which `parts` were found on the model's grid, as `seen`; 0
    outside its foreground.

    Raises `LabelError` for a profile whose labels are not made of parts.
    """
    reference = study.reference
    best = np.zeros(reference.shape, dtype=np.float32)
    mask = np.zeros(reference.shape, dtype=np.uint8)
    for value, chances in label_probabilities(parts, profile).items():
        here = from_grid(chances.numpy(), seen.box, reference.shape)
        mask[here > best] = value
        np.maximum(best, here, out=best)
    mask[~study.foreground] = 0
    return Volume(mask, reference.affine, f"{study.id} predicted mask", reference.axes)


def _settings_at(place: Path) -> tuple[PyramidSettings, GroundingSettings]:
    """The settings of encoder and decoder in a model's folder, or in an eye's."""
    if (place / "config.json").is_file():
        settings = config_at(place, MpLLMConfig).parsed
        if settings.grounding is None or not isinstance(settings.vision, PyramidSettings):
            raise WeightsError(
                f"{place}: has no decoder, so it cannot show where anything is; voxmoe pretrain makes an eye that can"
            )
        return settings.vision, settings.grounding
    if not (place / "recipe.yaml").is_file():
        raise WeightsError(f"{place}: no model and no eye here; voxmoe pretrain recipes/eye.yaml makes one")
    recipe = load(EyeRecipe, place / "recipe.yaml")
    return recipe.vision, recipe.grounding


def summary(mask: Volume, profile: Profile) -> dict[str, Any]:
    """How much of each label a mask holds, as `voxmoe segment --json` tells it."""
    counts = {label.key: int(np.count_nonzero(where_label(mask.data, label.values))) for label in profile.labels}
    return {
        "profile": profile.name,
        "labels": {
            label.key: {
                "value": label.value,
                "voxels": counts[label.key],
                "volume_mm3": round(counts[label.key] * mask.voxel_mm3, 1),
            }
            for label in profile.labels
        },
    }
