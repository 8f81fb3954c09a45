"""Segment, then measure: what the protocol finds in the predicted mask of each study, as answers and as overlap.

The answers are given knowing which label a question means and which tasks it asks, which a model has to read from its
words; what is out of scope is not told by a mask, and is guessed as by the majority class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.predictions import NO_ANSWER, Predictions
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.imaging.volume import where_label
from voxmoe.segmenting import Segmenter
from voxmoe.training.samples import Row
from voxmoe.training.studies import study_files
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS, Profile, Task
from voxmoe.vqa.dataset import Dataset
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


def _measure(segmenter: Segmenter, dataset: Dataset, files: StudyFiles) -> _Measured:
    profile = profile_named(dataset.manifest["profiles"][0])
    study = load_study(replace(files, profile=profile), with_mask=True)
    predicted = replace(study, mask=segmenter.segment(study, profile))
    space = dataset.findings[files.id]["atlas"]["space"]
    findings = study_findings(predicted, profile, Protocol.model_validate(dataset.manifest["protocol"]), space=space)
    return _Measured(findings, _overlap(predicted, study, profile))


def segment_then_measure(
    segmenter: Segmenter, dataset: Dataset, rows: Sequence[Row], out_of_scope: float, report: Report
) -> tuple[Predictions, dict[str, Any]]:
    """The answers to all rows, and the Dice coefficients of the predicted masks with resamples by patient.

    `out_of_scope` is the chance that is told of every question.
    """
    measured = {}
    studies = study_files(dataset, rows, with_masks=True)
    for done, (name, files) in enumerate(studies.items()):
        report("segmenting, then measuring", done, len(studies))
        measured[name] = _measure(segmenter, dataset, files)
    labels = [measured[row["study"]].findings.labels[row["label"]] for row in rows]

    def classes_of(task: Task) -> np.ndarray:
        terms = [label.answer(task) for label in labels]
        return np.array([CLASSES[task].index(said[0]) if said else NO_ANSWER for said in terms])

    regions = [[int(region in label.answer(Task.REGION)) for region in REGIONS] for label in labels]
    predictions = Predictions(
        {task: classes_of(task) for task in EXCLUSIVE_TASKS}, np.array(regions), np.full(len(rows), out_of_scope)
    )
    patients = [files.patient for files in studies.values()]
    return predictions, _overlap_record([found.overlap for found in measured.values()], patients)


def _overlap_record(overlaps: Sequence[Mapping[str, float]], patients: Sequence[str]) -> dict[str, Any]:
    names = list(overlaps[0])
    scores: Float[np.ndarray, "S C"] = np.array([[overlap[name] for name in names] for overlap in overlaps])
    resampling = Resampling(np.unique(patients, return_inverse=True)[1])
    return {
        name: None if estimate is None else asdict(estimate)
        for name, estimate in zip(names, resampling.estimates(scores), strict=False)
    }
