"""Segment, then measure: what the protocol finds in the predicted mask of each study, as answers and as overlap; and
whether a model's own answers agree with it, and how right they are then.

The answers are given knowing which label a question means and which tasks it asks, which a model has to read from its
words; what is out of scope is not told by a mask, and is guessed as by the majority class. Shapes: Q questions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from voxmoe.evaluation.bootstrap import Estimate, Resampling
from voxmoe.evaluation.metrics import Scores, Truth, question_scores
from voxmoe.evaluation.predictions import NO_ANSWER, Predictions
from voxmoe.evaluation.scoring import task_record
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.imaging.volume import where_label
from voxmoe.segmenting import Segmenter
from voxmoe.training.samples import Row
from voxmoe.training.studies import study_files
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, NOT_ASKED, REGIONS, Profile, Task
from voxmoe.vqa.dataset import Dataset
from voxmoe.vqa.encoding import Targets, encode_findings
from voxmoe.vqa.findings import Findings
from voxmoe.vqa.protocol import Protocol
from voxmoe.vqa.records import study_findings

Report = Callable[[str, int, int], None]
LESION = "any lesion"


def dice(one: Shaped[np.ndarray, "X Y Z"], other: Shaped[np.ndarray, "X Y Z"], values: Sequence[int]) -> float:
    """Twice the voxels that both masks label with any of the values, over those of one plus those of the other; NaN
    where neither has any."""
    ours, theirs = where_label(one, values), where_label(other, values)
    total = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
    return 2 * int(np.count_nonzero(ours & theirs)) / total if total else float("nan")


@dataclass(frozen=True)
class _Measured:
    """What a predicted mask tells of a study, and how it overlaps with the true one."""

    findings: Findings
    overlap: Mapping[str, float]


def _overlap(predicted: Study, true: Study, profile: Profile) -> dict[str, float]:
    assert predicted.mask is not None
    assert true.mask is not None
    masks = predicted.mask.data, true.mask.data
    whole = {LESION: [value for label in profile.labels for value in label.values]}
    return {name: dice(*masks, values) for name, values in (whole | {x.key: x.values for x in profile.labels}).items()}


def _measure(segmenter: Segmenter, dataset: Dataset, files: StudyFiles, known: Mapping[str, Any]) -> _Measured:
    """By the rules that the dataset was built by; `known` are the findings of the study's true mask."""
    profile, rules = dataset.profile_called(known["profile"]), Protocol.model_validate(dataset.manifest["protocol"])
    study = load_study(replace(files, profile=profile), with_mask=True)
    predicted = replace(study, mask=segmenter.segment(study, profile))
    atlas = dataset.manifest.get("atlas_from", rules.atlas)
    found = study_findings(predicted, profile, rules, atlas, known["atlas"]["space"])
    return _Measured(found, _overlap(predicted, study, profile))


def segment_then_measure(
    segmenter: Segmenter, dataset: Dataset, rows: Sequence[Row], seed: int, report: Report
) -> tuple[list[Targets], dict[str, Any]]:
    """What is measured about each row's label in the predicted mask, and the Dice coefficients of the predicted masks
    with resamples by patient, of which `seed` is the bootstrap's."""
    measured, known = {}, dataset.findings
    studies = study_files(dataset, rows, with_masks=True)
    for done, (name, files) in enumerate(studies.items()):
        report("segmenting, then measuring", done, len(studies))
        measured[name] = _measure(segmenter, dataset, files, known[name])
    told = [encode_findings(measured[row["study"]].findings.labels[row["label"]]) for row in rows]
    patients = [files.patient for files in studies.values()]
    return told, _overlap_record([found.overlap for found in measured.values()], patients, seed)


def from_measured(measured: Sequence[Targets], out_of_scope: float) -> Predictions:
    """What was measured as the answers to questions; `out_of_scope` is the chance that is told of every one."""
    classes = {task: np.array([told[task.value] for told in measured]) for task in EXCLUSIVE_TASKS}
    entries = np.array([told["region"] for told in measured])
    silent = entries[:, [CLASSES[Task.REGION].index(NOT_ASKED)]] == 1
    return Predictions(
        {task: np.where(found == CLASSES[task].index(NOT_ASKED), NO_ANSWER, found) for task, found in classes.items()},
        np.where(silent, NO_ANSWER, entries[:, : len(REGIONS)]),
        np.full(len(measured), out_of_scope),
    )


def _overlap_record(overlaps: Sequence[Mapping[str, float]], patients: Sequence[str], seed: int) -> dict[str, Any]:
    """The mean Dice coefficient of any lesion and of each label, in percent, over the studies that have it."""
    names = list(dict.fromkeys(name for overlap in overlaps for name in overlap))
    scores: Float[np.ndarray, "S C"] = np.array(
        [[overlap.get(name, np.nan) for name in names] for overlap in overlaps], dtype=float
    )
    *estimates, _ = Resampling(np.unique(patients, return_inverse=True)[1], seed).estimates(scores)
    return {name: _of_studies(estimate) for name, estimate in zip(names, estimates, strict=True)}


def _of_studies(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    record = asdict(estimate)
    return {
        "value": record["value"],
        "studies": record["questions"],
        **{name: record[name] for name in ("sd_by_patient", "interval_by_patient")},
    }


def agreements(said: Predictions, measured: Predictions, truth: Truth) -> dict[Task, Float[np.ndarray, " Q"]]:
    """Whether what a model says to each question is what was measured: 1 or 0, for region 1 where all nine decisions
    are the same.

    NaN where the task is not asked, where the model takes it for not asked, and where nothing could be measured.
    """
    found = {}
    for task in Task:
        if task is Task.REGION:
            same = (said.regions == measured.regions).all(axis=1)
            both = (measured.regions != NO_ANSWER).all(axis=1) & ~_silent_on_regions(said)
        else:
            same = said.classes[task] == measured.classes[task]
            both = (measured.classes[task] != NO_ANSWER) & (said.classes[task] != CLASSES[task].index(NOT_ASKED))
        found[task] = np.where(truth.asked[task] & both, same.astype(float), np.nan)
    return found


def _silent_on_regions(said: Predictions) -> Bool[np.ndarray, " Q"]:
    if said.chances is None:
        return np.zeros(len(said.regions), dtype=bool)
    silent: np.ndarray = said.chances[Task.REGION][:, CLASSES[Task.REGION].index(NOT_ASKED)] > 0.5
    return silent


def agreement_record(
    said: Predictions, measured: Predictions, truth: Truth, resampling: Resampling
) -> dict[str, dict[str, Any]]:
    """For each task how often a model's answers agree with the measurement, how right they are where they do and where
    they do not, and how right the measurement is where they do not."""
    agree = agreements(said, measured, truth)

    def accuracy(of: Predictions, where: float) -> dict[str, Any]:
        scores = question_scores(of, truth)
        chosen = {task: np.where(agree[task] == where, values, np.nan) for task, values in scores.tasks.items()}
        return task_record(Scores(chosen, scores.out_of_scope), resampling)

    return {
        "agree": task_record(Scores(agree, np.zeros(len(truth))), resampling),
        "where_they_agree": accuracy(said, 1.0),
        "where_they_differ": accuracy(said, 0.0),
        "measured_where_they_differ": accuracy(measured, 0.0),
    }
