"""How far a trained model's heads and the measurement of its masks are to be trusted: a consensus of the two
(`voxmoe.model.consensus`), learnt from studies of which the model has learnt nothing, and kept with the model.

What it is worth is told by studies that it was not learnt from: patients are parted into folds, and each fold is
answered by a consensus of the others. The one that is kept is learnt from all of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.evaluate import check_fits
from voxmoe.evaluation.inference import EVERYTHING, Report, hear_each, load
from voxmoe.evaluation.metrics import question_scores, truth_of
from voxmoe.evaluation.predictions import Chances, Predictions, from_heads, tensors
from voxmoe.evaluation.provenance import dataset_record
from voxmoe.evaluation.segmented import from_measured, segment_then_measure
from voxmoe.files import write_json
from voxmoe.model.consensus import Consensus
from voxmoe.model.mpllm import MpLLM
from voxmoe.segmenting import Segmenter
from voxmoe.training.samples import Row, stack_targets, targets
from voxmoe.vocabulary import Task
from voxmoe.vqa.dataset import Dataset, open_dataset
from voxmoe.vqa.encoding import Targets
from voxmoe.vqa.protocol import PAPER_V2, Protocol

FOLDS = 5


@dataclass(frozen=True, eq=False)
class _Questions:
    """Questions with what is right, what the heads say to them, and what is measured."""

    rows: Sequence[Row]
    patients: Int[np.ndarray, " Q"]
    chances: Chances
    measured: Sequence[Targets]

    def part(self, where: Int[np.ndarray, " N"]) -> "_Questions":
        chances = {name: values[where] for name, values in self.chances.items()}
        rows, measured = [self.rows[place] for place in where], [self.measured[place] for place in where]
        return _Questions(rows, self.patients[where], chances, measured)

    @property
    def labels(self) -> list[str]:
        return [row["label"] for row in self.rows]

    def teach(self, labels: Sequence[str]) -> Consensus:
        consensus = Consensus(labels)
        consensus.learn(tensors(self.chances), stack_targets(self.measured), self.labels, targets(self.rows))
        return consensus

    def weigh(self, consensus: Consensus) -> Chances:
        weighed = consensus(tensors(self.chances), stack_targets(self.measured), self.labels)
        return {name: values.numpy() for name, values in weighed.items()}


def _held_out(questions: _Questions, labels: Sequence[str]) -> Predictions:
    """Each fold of patients answered by a consensus of the others."""
    count = int(questions.patients.max()) + 1
    fold = np.random.default_rng(0).permutation(count)[questions.patients] % min(FOLDS, count)
    weighed = {name: values.copy() for name, values in questions.chances.items()}
    for number in np.unique(fold):
        consensus = questions.part(np.flatnonzero(fold != number)).teach(labels)
        here = np.flatnonzero(fold == number)
        for name, values in questions.part(here).weigh(consensus).items():
            weighed[name][here] = values
    return from_heads(weighed)


def _accuracy(predictions: Predictions, rows: Sequence[Row]) -> dict[str, float | None]:
    """In percent, of each task and on the mean of those that are asked."""
    scores = question_scores(predictions, truth_of(rows)).tasks
    found = {str(task): 100 * float(np.nanmean(scores[task])) for task in Task if not np.isnan(scores[task]).all()}
    mean = float(np.mean(list(found.values()))) if found else None
    return {**{str(task): found.get(str(task)) for task in Task}, "mean": mean}


def _check(place: Path, model: MpLLM, datasets: Sequence[Dataset]) -> None:
    if not model.settings.profiles:
        raise WeightsError(f"{place}: does not say which labels it was trained on; train it again")
    for dataset in datasets:
        check_fits(model, dataset, cross=False)
        found = dataset.manifest["protocol"]
        if Protocol.model_validate(found) != PAPER_V2:
            raise DatasetError(
                f"{dataset.root}: its answers are by the protocol {found['name']}; a model's masks are measured by "
                f"{PAPER_V2.name} wherever it answers, so build it with --protocol {PAPER_V2.name}"
            )


def reconcile(
    place: Path,
    datasets: Sequence[Path],
    split: str = "validation",
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Learn a consensus for the model in a folder and keep it there; tell what taught it, and what it is worth.

    Raises `WeightsError` for a model without a decoder, and `DatasetError` for datasets that cannot teach it.
    """
    report("loading the model", 0, 1)
    model, processor = load(place)
    segmenter = Segmenter.of(model)
    if segmenter is None:
        raise WeightsError(f"{place}: has no decoder to draw a mask with, so there is nothing to weigh its heads with")
    opened = [open_dataset(data) for data in datasets]
    _check(place, model, opened)
    rows: list[Row] = []
    names: list[str] = []
    heard: list[Chances] = []
    measured: list[Targets] = []
    for number, dataset in enumerate(opened):
        asked = dataset.rows(split)
        if not asked:
            raise DatasetError(f"{dataset.root}: its split {split} is empty; build it from more patients")
        heard.append(hear_each(model, processor, dataset, asked, (EVERYTHING,), report)[-1].chances)
        measured += segment_then_measure(segmenter, dataset, asked, 0, report)[0]
        rows += asked
        names += [f"{number} {row['patient']}" for row in asked]
    found, patients = np.unique(names, return_inverse=True)
    if len(found) < 2:
        raise DatasetError(f"{datasets[0]}: its split {split} has a single patient, who teaches nothing about others")
    chances = {name: np.concatenate([said[name] for said in heard]) for name in heard[0]}
    questions = _Questions(rows, patients, chances, measured)
    labels = list(dict.fromkeys(questions.labels))
    record = {
        "datasets": [dataset_record(dataset) for dataset in opened],
        "split": split,
        "questions": len(rows),
        "patients": len(found),
        "labels": labels,
        "accuracy": {
            "heads": _accuracy(from_heads(chances), rows),
            "measured": _accuracy(from_measured(measured, 0.0), rows),
            "weighed": _accuracy(_held_out(questions, labels), rows),
        },
    }
    questions.teach(labels).save(place)
    manifest = place / "manifest.json"
    if manifest.is_file():
        write_json(manifest, {**json.loads(manifest.read_text()), "consensus": record})
    return record
