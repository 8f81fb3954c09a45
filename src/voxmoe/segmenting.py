"""Where the lesions of a study are: a mask on the study's own grid, by an encoder and the decoder trained with it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from voxmoe.errors import WeightsError
from voxmoe.imaging.grid import from_grid, to_grid
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume, where_label
from voxmoe.model.encoder import load_encoder
from voxmoe.model.grounding import Grounding, GroundingSettings, label_probabilities, start_grounding
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings
from voxmoe.vocabulary import Profile


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
        vision, decoder = _settings_at(place)
        encoder = PyramidEncoder(vision)
        load_encoder(encoder, str(place))
        return cls(encoder, start_grounding(decoder.model_copy(update={"weights": str(place)}), vision))

    @torch.no_grad()
    def segment(self, study: Study, profile: Profile) -> Volume:
        """The likeliest label value of the profile at each voxel of the study, 0 outside its foreground."""
        seen = to_grid(study, self.encoder.settings.grid)
        images, present = torch.from_numpy(seen.images), torch.from_numpy(seen.present)
        _, stages = self.encoder.see(images[present][:, None])
        parts = self.grounding(stages, present[None])[0].softmax(dim=0)
        reference = study.reference
        best = np.zeros(reference.shape, dtype=np.float32)
        mask = np.zeros(reference.shape, dtype=np.uint8)
        for value, chances in label_probabilities(parts, profile).items():
            here = from_grid(chances.numpy(), seen.box, reference.shape)
            mask[here > best] = value
            np.maximum(best, here, out=best)
        mask[~study.foreground] = 0
        return Volume(mask, reference.affine, f"{study.id} predicted mask", reference.axes)


def _settings_at(place: Path | str) -> tuple[PyramidSettings, GroundingSettings]:
    """The settings of encoder and decoder in a model's folder, or in an eye's."""
    told = Path(place) / "recipe.yaml"
    if not (Path(place) / "config.json").is_file() and told.is_file():
        recipe = yaml.safe_load(told.read_text())
        return PyramidSettings.model_validate(recipe["vision"]), GroundingSettings.model_validate(recipe["grounding"])
    settings = MpLLMConfig.from_pretrained(place).parsed
    if settings.grounding is None or not isinstance(settings.vision, PyramidSettings):
        raise WeightsError(f"{place}: has no decoder, so it cannot show where anything is")
    return settings.vision, settings.grounding


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
