"""A model on a split of a dataset, beside the baselines that every table of this project shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.baselines import majority_class, majority_class_of_the_label, prior_guess, uniform_guess
from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.inference import EVERYTHING, Features, Report, Said, Subset, features_of, hear, load, write
from voxmoe.evaluation.methods import FROM_TEXT, LABEL_MAJORITY, MAJORITY, PRIOR, TEXT_ONLY, UNIFORM
from voxmoe.evaluation.metrics import Truth, question_scores, truth_of
from voxmoe.evaluation.predictions import Predictions, from_heads, from_texts, prediction_rows, write_predictions
from voxmoe.evaluation.provenance import dataset_record, model_record, versions
from voxmoe.evaluation.results import VERSION, Record
from voxmoe.evaluation.router import usage
from voxmoe.evaluation.scoring import method_record, scope_record, score_record, task_record, unparsed
from voxmoe.evaluation.text_answers import read_answer
from voxmoe.files import sha256
from voxmoe.imaging.layouts import profile_named
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.samples import Row
from voxmoe.vocabulary import Modality
from voxmoe.vqa.dataset import Dataset, open_dataset

_SYSTEMS = {
    "experts": "mpLLM",
    "single": "single layer",
    "llava-med": "LLaVA-Med",
    "m3d": "M3D",
    "med3dvlm": "Med3DVLM",
    "radfm": "RadFM",
}
MODALITY_SUBSETS: tuple[Subset, ...] = tuple(
    frozenset(modality for place, modality in enumerate(Modality) if number >> place & 1)
    for number in sorted(range(1, 2 ** len(Modality)), key=lambda number: (number.bit_count(), number))
)
"""The 15 non-empty subsets, smaller ones first."""


def named(subset: Subset) -> list[str]:
    """The modalities of a subset, in their usual order."""
    return [str(modality) for modality in Modality if modality in subset]


def method_name(model: MpLLM) -> str:
    """How a model is called in tables: by what lies between its encoder and its language model."""
    if model.settings.vision is None:
        return TEXT_ONLY
    kind = model.settings.connector.kind
    return _SYSTEMS.get(kind, kind)


def check_fits(model: MpLLM, dataset: Dataset, cross: bool) -> Record | None:
    """What differs between the labels that the model was trained on and those asked about; None if nothing does.

    Raises `DatasetError` unless that is what is wanted (`cross`).
    """
    profile, asked = model.settings.profile, dataset.manifest["profiles"]
    if profile is None or asked == [profile]:
        return None
    if not cross:
        raise DatasetError(
            f"{dataset.root}: asks about the labels of {', '.join(asked)}, but the model was trained on {profile}; "
            "evaluate it on a dataset of that profile, or say --cross"
        )
    known = {label.name for label in profile_named(profile).labels}
    names = dict.fromkeys(label.name for name in asked for label in profile_named(name).labels)
    return {
        "trained_on": profile,
        "asked_about": asked,
        "labels_known": [name for name in names if name in known],
        "labels_new": [name for name in names if name not in known],
    }


@dataclass(frozen=True)
class _Bench:
    """The questions of a split, what is true of them, and the draws that all figures are made from."""

    dataset: Dataset
    rows: Sequence[Row]
    truth: Truth
    resampling: Resampling

    def seen(self, subset: Subset = EVERYTHING) -> list[list[str]]:
        """The modalities that there are of each row's study, of a subset."""
        return [named(subset & {m for m in Modality if row["images"][m]}) for row in self.rows]

    def part(self, where: Bool[np.ndarray, " Q"]) -> "_Bench":
        """The bench of some of its rows."""
        if where.all():
            return self
        rows = [row for row, on in zip(self.rows, where.tolist(), strict=True) if on]
        truth = truth_of(rows)
        resampling = Resampling(truth.patients, self.resampling.seed, self.resampling.resamples)
        return _Bench(self.dataset, rows, truth, resampling)

    def lines(self, method: str, predictions: Predictions, **kept: Any) -> list[Record]:
        seen = kept.pop("modalities", None) or [[] for _ in self.rows]
        return prediction_rows(method, self.rows, seen, predictions, **kept)


def _baselines(bench: _Bench) -> tuple[Record, list[Record]]:
    """The records of the baselines that look at nothing, and the lines of those that predict."""
    training = bench.dataset.rows("train")
    guesses = {UNIFORM: uniform_guess(bench.truth), PRIOR: prior_guess(training, bench.truth)}
    told = {
        MAJORITY: majority_class(training, len(bench.rows)),
        LABEL_MAJORITY: majority_class_of_the_label(training, bench.rows),
    }
    records = {
        # One chance for all questions ranks none before another: the area under the ROC curve is one half.
        **{name: score_record(scores, 0.5, bench.truth, bench.resampling) for name, scores in guesses.items()},
        **{name: method_record(said, bench.truth, bench.resampling) for name, said in told.items()},
    }
    return records, [line for name, said in told.items() for line in bench.lines(name, said)]


@dataclass(frozen=True)
class _Contestant:
    """A loaded model and what its encoder sees of the studies."""

    name: str
    model: MpLLM
    processor: MpLLMProcessor
    features: Features | None

    def from_heads(self, bench: _Bench, said: Said) -> tuple[Record, list[Record]]:
        predictions = from_heads(said.chances)
        record = method_record(predictions, bench.truth, bench.resampling)
        if said.experts is not None:
            record["router"] = usage(said.experts, {"by_kind": bench.truth.kinds.tolist()})
        modalities = None if self.features is None else bench.seen()
        return record, bench.lines(self.name, predictions, experts=said.experts, modalities=modalities)

    def from_texts(self, bench: _Bench, report: Report) -> tuple[Record, list[Record]]:
        texts = write(self.model, self.processor, bench.rows, self.features, report)
        answers = [read_answer(text, row["label_name"]) for text, row in zip(texts, bench.rows, strict=True)]
        predictions = from_texts(answers)
        record = method_record(predictions, bench.truth, bench.resampling)
        record["unparsed"] = unparsed(predictions, bench.truth)
        modalities = None if self.features is None else bench.seen()
        return record, bench.lines(self.name + FROM_TEXT, predictions, texts=texts, modalities=modalities)

    def by_subset(self, bench: _Bench, heard: Sequence[Said]) -> tuple[list[Record], list[Record]]:
        """Accuracy with each subset of the modalities, over the questions about studies that have any of it."""
        records, lines = [], []
        for subset, said in zip(MODALITY_SUBSETS, heard, strict=True):
            part = bench.part(said.asked) if said.asked.any() else None
            record: Record = {"modalities": named(subset), "questions": int(said.asked.sum())}
            if part is not None:
                predictions = from_heads({name: chances[said.asked] for name, chances in said.chances.items()})
                scores = question_scores(predictions, part.truth)
                record["tasks"] = task_record(scores, part.resampling)
                record["out_of_scope"] = {"accuracy": scope_record(scores, part.resampling)}
                name = f"{self.name}, {'+'.join(named(subset))}"
                lines += part.lines(name, predictions, modalities=part.seen(subset))
            records.append(record)
        return records, lines


def evaluate(
    place: Path | str,
    data: Path | str,
    *,
    text_only: Path | str | None = None,
    split: str = "test",
    text: bool = False,
    modality_subsets: bool = False,
    cross: bool = False,
    predictions: Path | None = None,
    seed: int = 0,
    report: Report = lambda stage, done, total: None,
) -> Record:
    """Accuracies of a model on a split, beside the baselines, as a versioned record (docs/evaluation.md).

    `text` also generates every answer and reads it; `modality_subsets` repeats the heads' pass with every subset of
    the modalities; `cross` allows a dataset about other labels than the model's; `predictions` is a Parquet file for
    what every method says to every question; `seed` is that of the bootstrap.
    """
    dataset = open_dataset(data)
    rows = dataset.rows(split)
    if not rows:
        raise DatasetError(f"{data}: its split {split} is empty; build it from more patients")
    truth = truth_of(rows)
    bench = _Bench(dataset, rows, truth, Resampling(truth.patients, seed))
    methods, lines = _baselines(bench)
    models: Record = {}
    subsets = crossed = None
    for where in (text_only, place):
        if where is None:
            continue
        report("loading the model", 0, 1)
        model, processor = load(where)
        name = method_name(model)
        if where is text_only and name != TEXT_ONLY:
            raise WeightsError(f"{where}: sees images, so it is no text-only baseline; train with model.vision=null")
        crossed = check_fits(model, dataset, cross)
        one = _Contestant(name, model, processor, features_of(model, dataset, rows, report))
        many = modality_subsets and one.features is not None
        heard = hear(model, processor, rows, one.features, MODALITY_SUBSETS if many else (EVERYTHING,), report)
        models[name] = model_record(where, model)
        methods[name], found = one.from_heads(bench, heard[-1])  # all modalities come last
        lines += found
        if many:
            subsets, found = one.by_subset(bench, heard)
            lines += found
        if text:
            methods[name + FROM_TEXT], found = one.from_texts(bench, report)
            lines += found
    if predictions is not None:
        write_predictions(predictions, lines)
    return {
        "version": VERSION,
        "manifest": {
            "versions": versions(),
            "models": models,
            "dataset": dataset_record(dataset),
            "settings": {"split": split, "text": text, "modality_subsets": modality_subsets, "cross": cross},
            "bootstrap": {"seed": seed, "resamples": bench.resampling.resamples},
            "predictions": None if predictions is None else {"file": predictions.name, "sha256": sha256(predictions)},
        },
        "model": str(place),
        "method": name,
        "dataset": str(data),
        "split": split,
        "studies": len({row["study"] for row in rows}),
        "patients": len({row["patient"] for row in rows}),
        "questions": len(rows),
        "asked": {str(task): int(np.sum(asked)) for task, asked in truth.asked.items()},
        "modalities": _modalities(bench),
        "cross": crossed,
        "methods": methods,
        "modality_subsets": subsets,
    }


def _modalities(bench: _Bench) -> Mapping[str, int]:
    """Which modalities the studies have, and how many have just these."""
    seen = {row["study"]: "+".join(names) for row, names in zip(bench.rows, bench.seen(), strict=True)}
    return dict(Counter(seen.values()).most_common())
