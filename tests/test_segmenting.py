"""Predicted masks: on the study's own grid, the right way round, from a model as from its eye."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from voxmoe.errors import LabelError, WeightsError
from voxmoe.evaluation.segmented import dice
from voxmoe.imaging.grid import label_fractions, to_grid
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.parts import Part, part_labels
from voxmoe.imaging.phantoms import draw_phantom
from voxmoe.imaging.study import Study
from voxmoe.model.grounding import Grounding, GroundingSettings
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.pyramid import PyramidSettings
from voxmoe.segmenting import Segmenter, summary
from voxmoe.vocabulary import Label, Profile

GLI = profile_named("gli-2024")


@pytest.fixture(scope="module")
def study() -> Study:
    return draw_phantom(GLI, 3, 0, spacing=2.0).study


class Knowing(Grounding):
    """Stands in for the decoder: it knows the mask of the study, on the model's grid."""

    def __init__(self, study: Study, vision: PyramidSettings) -> None:
        super().__init__(GroundingSettings(channels=(8, 8, 8, 8)), vision)
        grid = vision.grid
        assert study.mask is not None
        values = part_labels(GLI)
        named = {part.name: [int(values[part])] for part in (Part.HALO, Part.CORE, Part.RIM, Part.CAVITY)}
        found = label_fractions(study.mask.data, named, to_grid(study, grid).box, grid)
        halo, core, rim, cavity = torch.from_numpy(found)
        parts = [halo, core, torch.zeros_like(core), rim, cavity]
        self.parts = torch.stack([1 - sum(parts), *parts])

    def forward(self, stages: Sequence[Tensor], present: Tensor) -> Tensor:
        return (self.parts + 1e-6).clamp(min=1e-6).log()[None]


def test_the_mask_lies_where_the_lesions_are(tiny_eye: Path, study: Study) -> None:
    """A decoder that knows the truth on its grid of 32 voxels a side: what comes back overlaps with the mask, the left
    stays left. Flipped along any axis it would not."""
    segmenter = Segmenter.from_pretrained(tiny_eye)
    segmenter.grounding = Knowing(study, segmenter.encoder.settings)
    mask = segmenter.segment(study, GLI)
    assert study.mask is not None
    values = [1, 2, 3, 4]
    assert mask.same_grid(study.reference)
    assert mask.axes == study.reference.axes
    assert dice(mask.data, study.mask.data, values) > 0.8
    for axis in range(3):
        assert dice(np.flip(mask.data, axis), study.mask.data, values) < 0.5


def test_a_mask_holds_label_values_within_the_brain(tiny_eye: Path, study: Study) -> None:
    mask = Segmenter.from_pretrained(tiny_eye).segment(study, profile_named("brats-2021"))
    assert set(np.unique(mask.data)) <= {0, 1, 2, 4}
    assert not mask.data[~study.foreground].any()
    told = summary(mask, profile_named("brats-2021"))
    assert list(told["labels"]) == ["NCR", "ED", "ET"]
    counted = int((mask.data == 4).sum())
    assert told["labels"]["ET"] == {"value": 4, "voxels": counted, "volume_mm3": counted * 8.0}


def test_a_model_and_its_eye_draw_the_same(seeing_model: Path, tiny_eye: Path, study: Study) -> None:
    masks = [Segmenter.from_pretrained(place).segment(study, GLI).data for place in (seeing_model, tiny_eye)]
    within = Segmenter.of(MpLLM.from_pretrained(seeing_model))
    assert within is not None
    assert masks[0].any()
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], within.segment(study, GLI).data)


def test_a_missing_modality_is_no_obstacle(tiny_eye: Path, study: Study) -> None:
    modalities = list(study.images)[:2]
    part = Study(study.id, {modality: study.images[modality] for modality in modalities})
    mask = Segmenter.from_pretrained(tiny_eye).segment(part, GLI)
    assert mask.same_grid(study.reference)


def test_profiles_whose_labels_cannot_be_drawn_are_refused(tiny_eye: Path, study: Study) -> None:
    segmenter = Segmenter.from_pretrained(tiny_eye)
    whole = Profile("regions", "nnU-Net", (Label(1, "whole tumor", "whole tumor", (2, 3)), Label(2, "ET", "ET", (3,))))
    with pytest.raises(LabelError, match="whole tumor is none that can be drawn"):
        segmenter.segment(study, whole)
    nested = Profile("nested", "nested", (Label(1, "ED", "edema", (2,)), Label(2, "ET", "enhancing")))
    with pytest.raises(LabelError, match="ED covers other labels' values"):
        segmenter.segment(study, nested)


def test_a_model_without_a_decoder_is_refused(tiny_model: Path) -> None:
    with pytest.raises(WeightsError, match="has no decoder"):
        Segmenter.from_pretrained(tiny_model)
    with pytest.raises(WeightsError, match="no model and no eye"):
        Segmenter.from_pretrained(tiny_model / "nowhere")
    assert Segmenter.of(MpLLM.from_pretrained(tiny_model)) is None
