"""The chart of what a decoder finds, and a model that reads it."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from voxmoe.imaging.parts import Part
from voxmoe.imaging.study import StudyFiles
from voxmoe.model.chart import ChartReader, ChartSettings, chart_of
from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.mpllm import ModelSettings, MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.features import stack


def _parts(grid: tuple[int, int, int] = (32, 16, 48)) -> torch.Tensor:
    """Probabilities of one study, drawn at random."""
    return torch.rand(1, len(Part) + 1, *grid, generator=torch.Generator().manual_seed(0)).softmax(dim=1)


def test_chart_holds_the_mean_of_each_part_in_each_cell_of_each_token() -> None:
    parts = _parts()
    chart = chart_of(parts)
    assert chart.shape == (1, 2 * 1 * 3, len(Part) * 64)
    for token, part, cell in ((0, Part.HALO, 0), (5, Part.RIM, 63), (4, Part.CAVITY, 1 * 16 + 2 * 4 + 3)):
        (z, x), (d, h, w) = divmod(token, 3), (cell // 16, cell // 4 % 4, cell % 4)
        depth, height, width = (slice(16 * a + 4 * b, 16 * a + 4 * b + 4) for a, b in ((z, d), (0, h), (x, w)))
        expected = parts[0, part, depth, height, width].mean()
        torch.testing.assert_close(chart[0, token, (part - 1) * 64 + cell], expected)


def test_chart_keeps_the_amount_of_each_part() -> None:
    parts = _parts()
    amounts = chart_of(parts).view(6, len(Part), 64).mean(dim=(0, 2))
    torch.testing.assert_close(amounts, parts[0, 1:].mean(dim=(1, 2, 3)))


def test_reader_adds_to_each_token_what_lies_in_its_cell_and_one_token_of_the_whole() -> None:
    reader = ChartReader(ChartSettings(hidden=8), tokens=6, out=10)
    fused = Fused(torch.zeros(1, 6, 10), torch.ones(1, 6, dtype=torch.bool))
    chart = chart_of(_parts())
    read = reader(chart, fused)
    assert read.tokens.shape == (1, 7, 10)
    assert read.mask.all()
    changed = chart.clone()
    changed[0, 2] = 0
    other = reader(changed, fused)
    same = [torch.equal(one, two) for one, two in zip(read.tokens[0], other.tokens[0], strict=True)]
    assert same == [False, True, True, False, True, True, True]


def test_only_models_with_a_decoder_and_a_token_a_place_read_a_chart() -> None:
    pyramid = {"kind": "pyramid"}
    with pytest.raises(ValidationError, match="set grounding, or leave chart out"):
        ModelSettings.model_validate({"vision": pyramid, "chart": {}})
    with pytest.raises(ValidationError, match="which the connector m3d does not give"):
        ModelSettings.model_validate({"vision": pyramid, "grounding": {}, "chart": {}, "connector": {"kind": "m3d"}})


@pytest.fixture(scope="module")
def model(charting_model: Path) -> MpLLM:
    return MpLLM.from_pretrained(charting_model)


@pytest.fixture(scope="module")
def batch(model: MpLLM, charting_model: Path) -> dict[str, torch.Tensor]:
    """Two questions about two studies, one of which lacks a modality."""
    assert model.settings.vision is not None
    generator = torch.Generator().manual_seed(1)
    present = torch.ones(2, 4, dtype=torch.bool)
    present[1, 2] = False
    texts = MpLLMProcessor.from_pretrained(charting_model)(["How large is the ET?", "Where is the NETC located?"])
    images = torch.rand(2, 4, *model.settings.vision.grid, generator=generator) * present[:, :, None, None, None]
    return {**texts, "images": images, "present": present}


@torch.no_grad()
def test_voxels_features_and_what_was_looked_at_give_the_same_answers(
    model: MpLLM, batch: dict[str, torch.Tensor]
) -> None:
    texts = {name: batch[name] for name in ("question_ids", "question_mask")}
    features = model.encode_images(batch["images"], batch["present"])
    assert features.chart is not None
    seen = model(**batch).heads
    computed = model(**texts, **features.inputs()).heads
    looked = model(**texts, **model.look(features)).heads
    for name, logits in seen.items():
        torch.testing.assert_close(computed[name], logits)
        torch.testing.assert_close(looked[name], logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_answers_depend_on_the_chart(model: MpLLM, batch: dict[str, torch.Tensor]) -> None:
    texts = {name: batch[name] for name in ("question_ids", "question_mask")}
    features = model.encode_images(batch["images"], batch["present"])
    assert features.chart is not None
    blank = VisionFeatures(features.tokens, features.cls, features.present, chart=torch.zeros_like(features.chart))
    seen, unseen = model(**texts, **features.inputs()).heads, model(**texts, **blank.inputs()).heads
    assert any(not torch.allclose(seen[name], unseen[name]) for name in seen)


def test_features_without_their_chart_are_refused(model: MpLLM, batch: dict[str, torch.Tensor]) -> None:
    features = model.encode_images(batch["images"], batch["present"]).inputs()
    del features["chart"]
    with pytest.raises(ValueError, match="give `chart`"):
        model(question_ids=batch["question_ids"], question_mask=batch["question_mask"], **features)


def test_chart_of_fewer_modalities_is_made_anew(model: MpLLM, cohort: Path) -> None:
    from voxmoe.imaging.layouts import find_study
    from voxmoe.imaging.study import load_study
    from voxmoe.training.features import FeatureCache

    files = find_study(next(path for path in sorted(cohort.iterdir()) if path.is_dir()))
    first = next(iter(files.images))
    cut = StudyFiles(files.id, files.patient, {first: files.images[first]})
    cache = FeatureCache(model)
    whole, part = (stack([cache.of(load_study(one))]) for one in (files, cut))
    assert part["present"].sum() == 1
    assert not torch.allclose(whole["chart"], part["chart"])
