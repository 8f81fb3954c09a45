"""A model on a split of a dataset, beside the baselines that every table of this project shows."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxmoe import __version__
from voxmoe.errors import DatasetError
from voxmoe.evaluation.baselines import majority_class
from voxmoe.evaluation.metrics import (
    Predictions,
    Truth,
    estimates,
    out_of_scope_scores,
    question_scores,
    truth_of,
)
from voxmoe.model.heads import OUT_OF_SCOPE, probabilities
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.features import Features, StudyFeatures, stack, study_features
from voxmoe.training.samples import Row
from voxmoe.training.studies import study_files
from voxmoe.vocabulary import EXCLUSIVE_TASKS, REGIONS, Task
from voxmoe.vqa.dataset import Dataset, open_dataset

Report = Callable[[str, int, int], None]
BATCH = 16
RESULTS_VERSION = 1


def _features(model: MpLLM, dataset: Dataset, rows: list[Row], report: Report) -> Features | None:
    vision = model.settings.vision
    if vision is None:
        return None
    return study_features(
        model.vision,
        vision.grid,
        study_files(dataset, rows),
        lambda done, total: report("encoding studies", done, total),
    )


@torch.no_grad()
def predict(
    model: MpLLM,
    processor: MpLLMProcessor,
    rows: list[Row],
    features: Mapping[str, StudyFeatures] | None,
    report: Report = lambda stage, done, total: None,
) -> Predictions:
    """What the heads say to every row."""
    found: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        batch: dict[str, Any] = dict(processor([row["question"] for row in part]))
        if features is not None:
            batch |= stack([features[row["study"]] for row in part]).inputs()
        found.append(probabilities(model(**batch).heads))
        report("answering", min(start + BATCH, len(rows)), len(rows))
    heads = {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}
    return Predictions(
        {task: heads[task].argmax(axis=1) for task in EXCLUSIVE_TASKS},
        (heads[Task.REGION][:, : len(REGIONS)] > 0.5).astype(int),
        heads[OUT_OF_SCOPE][:, 1].astype(float),
    )


def _scored(predictions: Predictions, truth: Truth) -> dict[str, Any]:
    scores = {str(task): values for task, values in question_scores(predictions, truth).items()}
    found = estimates(scores, truth.patients)
    return {
        "tasks": {name: asdict(estimate) for name, estimate in found.items()},
        "out_of_scope": out_of_scope_scores(predictions.out_of_scope, truth.out_of_scope),
    }


def _load(place: Path | str) -> tuple[MpLLM, MpLLMProcessor]:
    return MpLLM.from_pretrained(place), MpLLMProcessor.from_pretrained(place)


def check_fits(model: MpLLM, dataset: Dataset) -> None:
    """Raise `DatasetError` unless the dataset asks about the labels that the model was trained on."""
    profile = model.settings.profile
    if profile is not None and dataset.manifest["profiles"] != [profile]:
        raise DatasetError(
            f"{dataset.root}: asks about the labels of {', '.join(dataset.manifest['profiles'])}, but the model was "
            f"trained on {profile}; evaluate it on a dataset of that profile"
        )


def evaluate(
    place: Path | str,
    data: Path | str,
    *,
    text_only: Path | str | None = None,
    split: str = "test",
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Accuracies of a model on a split, beside the majority class and a text-only model, as a versioned record.

    Per task: percent over the questions that ask it, with bootstrap standard deviations by question and by patient.
    """
    dataset = open_dataset(data)
    rows = dataset.rows(split)
    if not rows:
        raise DatasetError(f"{data}: its split {split} is empty; build it from more patients")
    truth = truth_of(rows)
    methods = {"majority class": _scored(majority_class(dataset.rows("train"), len(rows)), truth)}
    for where in (text_only, place):
        if where is not None:
            model, processor = _load(where)
            check_fits(model, dataset)
            name = "text-only" if model.settings.vision is None else "mpLLM"
            features = _features(model, dataset, rows, report)
            methods[name] = _scored(predict(model, processor, rows, features, report), truth)
    return {
        "version": RESULTS_VERSION,
        "voxmoe": __version__,
        "model": str(place),
        "dataset": str(data),
        "split": split,
        "studies": len({row["study"] for row in rows}),
        "patients": int(truth.patients.max()) + 1,
        "questions": len(rows),
        "asked": {str(task): int(np.sum(asked)) for task, asked in truth.asked.items()},
        "methods": methods,
    }
