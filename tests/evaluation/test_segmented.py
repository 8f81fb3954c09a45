"""Segment, then measure: Dice against MONAI, and answers that are right where the mask is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import PREDICTIONS, ROWS, drawn_chances
from monai.metrics import DiceMetric

from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.metrics import question_scores, truth_of
from voxmoe.evaluation.predictions import NO_ANSWER, from_heads
from voxmoe.evaluation.segmented import LESION, agreement_record, agreements, dice, from_measured, segment_then_measure
from voxmoe.evaluation.tables import summary
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume
from voxmoe.segmenting import Segmenter
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, NOT_ASKED, Profile, Task
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
    told, overlap = segment_then_measure(Shifted(dataset, by), opened, rows, 0, lambda *said: None)
    scores = question_scores(from_measured(told, 0.2), truth_of(rows))
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


def test_answers_agree_where_model_and_measurement_say_the_same() -> None:
    """The oracle goes through the questions one by one, in the words of the answers."""
    truth, other = truth_of(ROWS), drawn_chances(len(ROWS), seed=2)
    measured = replace(from_heads(other), chances=None)
    measured.classes[Task.VOLUME][:9] = NO_ANSWER
    measured.regions[9:30] = NO_ANSWER
    found = agreements(PREDICTIONS, measured, truth)
    assert PREDICTIONS.chances is not None
    for place, row in enumerate(ROWS):
        for task in Task:
            if task is Task.REGION:
                silent = PREDICTIONS.chances[task][place, CLASSES[task].index(NOT_ASKED)] > 0.5
                said, seen = PREDICTIONS.regions[place].tolist(), measured.regions[place].tolist()
                known = not silent and NO_ANSWER not in seen
            else:
                said, seen = PREDICTIONS.classes[task][place], measured.classes[task][place]
                known = CLASSES[task][said] != NOT_ASKED and seen != NO_ANSWER
            expected = float(said == seen) if known and str(task) in row["tasks"] else np.nan
            np.testing.assert_equal(found[task][place], expected)


def test_accuracy_where_they_agree_and_where_they_differ_add_up() -> None:
    truth = truth_of(ROWS)
    measured = replace(from_heads(drawn_chances(len(ROWS), seed=2)), chances=None)
    record = agreement_record(PREDICTIONS, measured, truth, Resampling(truth.patients))
    known = agreements(PREDICTIONS, measured, truth)
    scores = question_scores(PREDICTIONS, truth)
    for task in EXCLUSIVE_TASKS:
        agree, same, other = (record[name][task] for name in ("agree", "where_they_agree", "where_they_differ"))
        assert same["questions"] + other["questions"] == agree["questions"] == np.isfinite(known[task]).sum()
        assert agree["value"] == pytest.approx(100 * same["questions"] / agree["questions"])
        whole = same["value"] * same["questions"] + other["value"] * other["questions"]
        assert whole / agree["questions"] == pytest.approx(100 * scores.tasks[task][np.isfinite(known[task])].mean())
        low, high = same["interval_by_patient"]
        assert low <= same["value"] <= high
    # Whoever is measured as itself agrees throughout, and the other two have no answers to be right about.
    itself = agreement_record(PREDICTIONS, PREDICTIONS, truth, Resampling(truth.patients))
    assert itself["agree"]["mean"]["value"] == 100
    assert itself["where_they_differ"] == itself["measured_where_they_differ"] == dict.fromkeys([*Task, "mean"])


def test_an_evaluation_tells_how_right_answers_are_that_agree(seeing_model: Path, dataset: Path) -> None:
    found = evaluate(seeing_model, dataset)
    assert list(found["agreement"]) == ["agree", "where_they_agree", "where_they_differ", "measured_where_they_differ"]
    assert 0 <= found["agreement"]["agree"]["mean"]["value"] <= 100
    table = summary(found)[-1]
    assert table.rows[0][0] == "the two agree"
    assert len(table.rows) == 4
    assert evaluate(seeing_model, dataset, measure=False)["agreement"] is None
    before = {name: value for name, value in found.items() if name != "agreement"}
    assert len(summary(before)) == len(summary(found)) - 1, "results of before it was told are still read"


def test_the_dataset_s_own_atlas_measures_the_regions(cohort: Path, tmp_path: Path) -> None:
    build_dataset(cohort, tmp_path / "other", PAPER_V2, atlas="aal")
    assert answers(tmp_path / "other", 0)[0][Task.REGION] == 1
