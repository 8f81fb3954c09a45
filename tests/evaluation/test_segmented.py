"""Segment, then measure: Dice against MONAI, and answers that are right where the mask is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.metrics import question_scores, truth_of
from voxmoe.evaluation.segmented import LESION, dice, segment_then_measure
from voxmoe.evaluation.tables import summary
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume
from voxmoe.segmenting import Segmenter
from voxmoe.vocabulary import Profile, Task
from voxmoe.vqa.dataset import build_dataset, open_dataset
from voxmoe.vqa.protocol import PAPER_V2


class Shifted(Segmenter):
    """Draws the true mask, moved by some voxels, or none at all."""

    def __init__(self, dataset: Path, by: int | None) -> None:
        self.dataset = open_dataset(dataset)
        self.by = by

    def segment(self, study: Study, profile: Profile) -> Volume:
        assert study.mask is not None
        data = np.zeros_like(study.mask.data) if self.by is None else np.roll(study.mask.data, self.by, axis=0)
        return Volume(data, study.mask.affine, "predicted", study.mask.axes)


def answers(dataset: Path, by: int | None) -> tuple[dict[Task, float], dict[str, Any]]:
    opened = open_dataset(dataset)
    rows = opened.rows("train")
    told, overlap = segment_then_measure(Shifted(dataset, by), opened, rows, 0.2, 0, lambda *said: None)
    scores = question_scores(told, truth_of(rows))
    return {task: float(np.nanmean(scores.tasks[task])) for task in Task}, overlap


def test_dice_is_monais() -> None:
    generator = np.random.default_rng(0)
    one, other = (generator.integers(0, 4, (6, 7, 8)).astype(np.uint8) for _ in range(2))
    for values in ([1], [2, 3], [1, 2, 3]):
        pair = [torch.from_numpy(np.isin(mask, values))[None, None].float() for mask in (one, other)]
        assert dice(one, other, values) == pytest.approx(float(DiceMetric()(*pair)))
    assert np.isnan(dice(one, other, [7]))
    assert dice(one, np.zeros_like(one), [1]) == 0


def test_the_true_mask_gives_the_true_answers(dataset: Path) -> None:
    accuracy, overlap = answers(dataset, 0)
    assert accuracy == dict.fromkeys(Task, 1.0)
    assert overlap[LESION]["value"] == pytest.approx(100)
    assert set(overlap) == {LESION, "NETC", "SNFH", "ET", "RC"}


def test_a_wrong_mask_gives_wrong_answers(dataset: Path) -> None:
    moved, overlap = answers(dataset, 40)
    assert moved[Task.REGION] < 1
    assert moved[Task.SHAPE] == 1  # it is the same lesion, elsewhere
    assert overlap[LESION]["value"] < 50
    empty, overlap = answers(dataset, None)
    assert empty[Task.VOLUME] < 0.7
    assert overlap[LESION]["value"] == 0


def test_an_evaluation_shows_it_beside_a_model_that_can_draw(seeing_model: Path, dataset: Path) -> None:
    found = evaluate(seeing_model, dataset)
    assert "segment, then measure" in found["methods"]
    assert 0 <= found["overlap"][LESION]["value"] <= 100
    assert found["overlap"][LESION]["studies"] == found["studies"]
    assert "segment, then measure" in found["differences"]
    table = next(table for table in summary(found) if "Dice" in table.title)
    assert [row[0] for row in table.rows] == [LESION, "NETC", "SNFH", "ET", "RC"]


def test_the_dataset_s_own_atlas_measures_the_regions(cohort: Path, tmp_path: Path) -> None:
    build_dataset(cohort, tmp_path / "other", PAPER_V2, atlas="aal")
    assert answers(tmp_path / "other", 0)[0][Task.REGION] == 1
