"""What a reading says: agreement with the dataset, models against the reader, quality of questions and responses
(mpLLM, Tables 9-11)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxmoe.errors import SheetError
from voxmoe.evaluation.agreement import task_agreement, task_kappa
from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.metrics import question_scores, truth_of
from voxmoe.evaluation.predictions import from_lines, read_predictions
from voxmoe.evaluation.reading_sheet import (
    QUESTIONS,
    READING,
    Judgements,
    Readings,
    answers_of,
    read_manifest,
    read_questions,
    read_reading,
    rows_about,
)
from voxmoe.evaluation.results import Record
from voxmoe.evaluation.scoring import task_record
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.dataset import Dataset
from voxmoe.vqa.encoding import encode

VERSION = 1
PAPER: Mapping[str, Mapping[str, float]] = {
    "kappa": {"volume": 61.8, "region": 42.9, "shape": 49.6, "spread": 47.4, "mean": 50.4},
    "accuracy": {"RadFM": 22.0, "Med3DVLM": 41.3, "M3D": 51.4, "LLaVA-Med": 48.9, "mpLLM": 54.7},
    "sufficiency": {"M3D": 32.3, "mpLLM": 37.3},
    "validity": {"questions": 92.2},
}
"""Tables 9, 10 and 11 and section 4.1, in percent: one radiologist, ten studies of BraTS-GLI, 160 questions."""
DATASET = "the dataset's answers"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def agreement_record(readings: Readings, answers: Readings) -> Record:
    """Table 9: Cohen's kappa and plain agreement of reader and dataset for each task and their mean, in percent."""
    record: Record = {}
    for task in Task:
        keys = [key for key in readings if key[2] is task]
        pair = [readings[key] for key in keys], [answers[key] for key in keys]
        record[str(task)] = {
            "readings": len(keys),
            "kappa": _percent(task_kappa(task, *pair)),
            "agreement": 100 * task_agreement(task, *pair),
        }
    for measure in ("kappa", "agreement"):
        known = [record[str(task)][measure] for task in Task if record[str(task)][measure] is not None]
        record.setdefault("mean", {"readings": len(readings)})[measure] = float(np.mean(known)) if known else None
    return record


def _by_the_reader(row: Mapping[str, Any], readings: Readings) -> Record:
    """A dataset row whose answer is the reader's."""
    answers = {Task(task): readings[row["study"], row["label"], Task(task)] for task in row["tasks"]}
    return {**row, "targets": encode(Kind(row["kind"]), answers)}


def accuracy_record(
    rows: Sequence[Mapping[str, Any]], readings: Readings, lines: Sequence[Mapping[str, Any]]
) -> Record:
    """Table 10: accuracy of every method of a file of predictions where the reader's answers are the truth, and that
    of the dataset's own answers, over the questions about the studies that were read."""
    asked = {row["id"]: _by_the_reader(row, readings) for row in rows if row["tasks"]}
    truth = truth_of(list(asked.values()))
    resampling = Resampling(truth.patients)
    methods: dict[str, dict[str, Mapping[str, Any]]] = {DATASET: {row["id"]: _as_predicted(row) for row in rows}}
    for line in lines:
        methods.setdefault(line["method"], {})[line["id"]] = line
    found = {}
    for name, said in methods.items():
        if missing := [question for question in asked if question not in said]:
            raise SheetError(
                f"the predictions of {name} say nothing to {missing[0]}; make them on the split that the sheet is from"
            )
        scores = question_scores(from_lines([said[question] for question in asked]), truth)
        found[name] = task_record(scores, resampling)
    return found


def _as_predicted(row: Mapping[str, Any]) -> Record:
    return {**row, "out_of_scope": float(row["targets"]["out_of_scope"])}


def quality_record(judgements: Judgements, responses: Mapping[str, str]) -> Record:
    """Table 11: the share of questions that is valid, and of each model's responses to them that is sufficient."""

    def share(marks: Mapping[str, int]) -> Record:
        return {"of": len(marks), "percent": 100 * float(np.mean(list(marks.values()))) if marks else None}

    return {
        "validity": share(judgements.valid),
        "sufficiency": {method: share(judgements.sufficient[letter]) for letter, method in responses.items()},
    }


def score(folder: Path, dataset: Dataset, predictions: Path | None = None) -> Record:
    """All that a reading says, as JSON: agreement (Table 9), accuracy (Table 10), quality (Table 11, None if the sheet
    of questions is not filled in), and the paper's figures."""
    manifest = read_manifest(folder)
    rows = rows_about(dataset, manifest["studies"])
    readings = read_reading(folder / READING, manifest["studies"], manifest["labels"])
    in_scope = [row["id"] for row in rows if row["kind"] == Kind.IN_SCOPE]
    judgements = read_questions(folder / QUESTIONS, in_scope, list(manifest["responses"]))
    lines = [] if predictions is None else read_predictions(predictions)
    return {
        "version": VERSION,
        "studies": len(manifest["studies"]),
        "readings": len(readings),
        "agreement": agreement_record(readings, answers_of(rows)),
        "accuracy": accuracy_record(rows, readings, lines),
        "quality": None if judgements is None else quality_record(judgements, manifest["responses"]),
        "paper": PAPER,
    }
