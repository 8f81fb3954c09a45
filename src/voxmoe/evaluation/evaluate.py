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
from voxmoe.evaluation.inference import (
    EVERYTHING,
    Report,
    Said,
    Subset,
    features_of,
    hear_each,
    load,
    settings_at,
    write,
)
from voxmoe.evaluation.methods import (
    AND_MEASURED,
    FROM_TEXT,
    LABEL_MAJORITY,
    MAJORITY,
    MEASURED,
    PRIOR,
    TEXT_ONLY,
    UNIFORM,
)
from voxmoe.evaluation.metrics import Scores, Truth, question_scores, truth_of
from voxmoe.evaluation.predictions import (
    Predictions,
    from_heads,
    from_texts,
    prediction_rows,
    tensors,
    write_predictions,
)
from voxmoe.evaluation.provenance import dataset_record, model_record, versions
from voxmoe.evaluation.results import VERSION, Record
from voxmoe.evaluation.router import usage
from voxmoe.evaluation.scoring import method_record, scope_record, score_record, task_record, unparsed
from voxmoe.evaluation.segmented import agreement_record, from_measured, segment_then_measure
from voxmoe.evaluation.text_answers import read_answer
from voxmoe.files import sha256
from voxmoe.imaging.layouts import profile_named
from voxmoe.model.consensus import Consensus
from voxmoe.model.mpllm import ModelSettings, MpLLM
from voxmoe.segmenting import Segmenter
from voxmoe.settings import Settings
from voxmoe.training.samples import Row, stack_targets
from voxmoe.vocabulary import Modality, Task
from voxmoe.vqa.dataset import EVERY, Dataset, open_dataset
from voxmoe.vqa.encoding import NOTHING
from voxmoe.vqa.protocol import PAPER_V2, Protocol

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


def method_name(settings: ModelSettings) -> str:
    """How a model is called in tables: by what lies between its encoder and its language model."""
    if settings.vision is None:
        return TEXT_ONLY
    kind = settings.connector.kind
    return _SYSTEMS.get(kind, kind)


def check_fits(model: MpLLM, dataset: Dataset, cross: bool) -> Record | None:
    """What differs between the labels that the model was trained on and those asked about; None if nothing does.

    Raises `DatasetError` unless that is what is wanted (`cross`).
    """
    profiles, asked = model.settings.profiles, dataset.manifest["profiles"]
    if not profiles or set(asked) <= set(profiles):
        return None
    if not cross:
        raise DatasetError(
            f"{dataset.root}: asks about the labels of {', '.join(asked)}, but the model was trained on "
            f"{', '.join(profiles)}; evaluate it on a dataset of such a profile, or say --cross"
        )
    known = {label.name for name in profiles for label in profile_named(name).labels}
    names = dict.fromkeys(label.name for name in asked for label in dataset.profile_called(name).labels)
    return {
        "trained_on": list(profiles),
        "asked_about": asked,
        "labels_known": [name for name in names if name in known],
        "labels_new": [name for name in names if name not in known],
    }


@dataclass(frozen=True)
class _Bench:
    """The questions of a split, what is true of them, and the draws that all figures are made from."""

    dataset: Dataset
    learnt: Sequence[Row]
    """The questions from which guesses are learnt: those of the training split, or where every question of a dataset is
    asked, these themselves, so that no guess can do better."""
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
        return _Bench(self.dataset, self.learnt, rows, truth, resampling)


class _Ledger:
    """The methods of an evaluation: the record of each, its scores, and its lines for the file of predictions."""

    def __init__(self, bench: _Bench) -> None:
        self.bench = bench
        self.records: dict[str, Record] = {}
        self.scores: dict[str, Scores] = {}
        self.predictions: dict[str, Predictions] = {}
        self.lines: list[Record] = []

    def add_guess(self, name: str, scores: Scores) -> None:
        """What guessing is expected to reach. It ranks no question before another: the AUROC is one half."""
        self.scores[name] = scores
        self.records[name] = score_record(scores, 0.5, self.bench.truth, self.bench.resampling)

    def add(self, name: str, predictions: Predictions, sees: bool, **kept: Any) -> Record:
        """What a method says to all questions, `kept` with it in the file; returns its record."""
        bench = self.bench
        modalities = bench.seen() if sees else [[] for _ in bench.rows]
        self.lines += prediction_rows(name, bench.rows, modalities, predictions, **kept)
        self.predictions[name] = predictions
        self.scores[name] = question_scores(predictions, bench.truth)
        self.records[name] = method_record(predictions, self.scores[name], bench.truth, bench.resampling)
        return self.records[name]

    def add_baselines(self) -> None:
        bench, training = self.bench, self.bench.learnt
        self.add_guess(UNIFORM, uniform_guess(bench.truth))
        self.add_guess(PRIOR, prior_guess(training, bench.truth))
        self.add(MAJORITY, majority_class(training, len(bench.rows)), sees=False)
        self.add(LABEL_MAJORITY, majority_class_of_the_label(training, bench.rows), sees=False)

    def add_heads(self, name: str, said: Said, sees: bool) -> None:
        record = self.add(name, from_heads(said.chances), sees, experts=said.experts)
        if said.experts is not None:
            record["router"] = usage(said.experts, {"by_kind": self.bench.truth.kinds.tolist()})

    def add_texts(self, name: str, texts: Sequence[str], sees: bool) -> None:
        labels = [row["label_name"] for row in self.bench.rows]
        predictions = from_texts([read_answer(text, label) for text, label in zip(texts, labels, strict=True)])
        record = self.add(name + FROM_TEXT, predictions, sees, texts=texts)
        record["unparsed"] = unparsed(predictions, self.bench.truth)

    def by_subset(self, name: str, heard: Sequence[Said]) -> list[Record]:
        """Accuracy with each subset of the modalities, over the questions about studies that have any of it."""
        records = []
        for subset, said in zip(MODALITY_SUBSETS, heard, strict=True):
            record: Record = {"modalities": named(subset), "questions": int(said.asked.sum())}
            if said.asked.any():
                part = self.bench.part(said.asked)
                predictions = from_heads({head: chances[said.asked] for head, chances in said.chances.items()})
                scores = question_scores(predictions, part.truth)
                record["tasks"] = task_record(scores, part.resampling)
                record["out_of_scope"] = {"accuracy": scope_record(scores, part.resampling)}
                method = f"{name}, {'+'.join(named(subset))}"
                self.lines += prediction_rows(method, part.rows, part.seen(subset), predictions)
            records.append(record)
        return records

    def agreement(self, name: str) -> Record:
        """How often a method says what is measured, and how right it is then and otherwise."""
        bench = self.bench
        return agreement_record(self.predictions[name], self.predictions[MEASURED], bench.truth, bench.resampling)

    def differences(self, name: str) -> Record | None:
        """By how much a method is better than each other one, question by question, in percent points; None where there
        is no such method."""
        if name not in self.scores:
            return None
        own = self.scores[name]
        return {
            other: task_record(
                Scores({task: own.tasks[task] - scores.tasks[task] for task in Task}, own.out_of_scope),
                self.bench.resampling,
            )
            for other, scores in self.scores.items()
            if other != name
        }


class EvaluationSettings(Settings):
    """What an evaluation does; recorded with its results."""

    split: str = "test"
    """Or `EVERY`, for a dataset of which the model has learnt nothing."""
    text: bool = False
    """Whether every answer is also written and read."""
    modality_subsets: bool = False
    """Whether the heads' pass is repeated with every subset of the modalities."""
    cross: bool = False
    """Whether a dataset about other labels than the model's is allowed."""
    measure: bool = True
    """Whether a model that can draw masks is joined by segment-then-measure."""
    seed: int = 0
    """Of the bootstrap."""


def _check_writes(where: Path | str, model: ModelSettings, settings: EvaluationSettings) -> None:
    """Raise `WeightsError` if texts are asked for of a model that learnt to write none."""
    if settings.text and model.loss.text == 0:
        raise WeightsError(
            f"{where}: learnt no text (its loss.text is 0); evaluate what its heads say, without the text"
        )


@dataclass(frozen=True)
class _Entry:
    """What a model brought besides the records of its methods."""

    name: str
    record: Record
    crossed: Record | None
    subsets: list[Record] | None
    overlap: Record | None
    """Of its predicted masks with the true ones, where it can draw them."""
    agreement: Record | None
    """Of its heads with what is measured in its predicted masks, where it can draw them."""


def _enter(
    ledger: _Ledger,
    where: Path | str,
    blind: bool | None,
    settings: EvaluationSettings,
    report: Report,
    own: str | None = None,
) -> _Entry:
    """Let a model answer; `blind` is whether it has to be a text-only model, None if either is right. One that stands
    beside the model evaluated, which tables call `own`, is asked for texts only if it learnt to write them, and has its
    folder behind its name where that is taken."""
    report("loading the model", 0, 1)
    model, processor = load(where)
    name, beside = method_name(model.settings), own is not None
    if blind is not None and blind != (name == TEXT_ONLY):
        raise WeightsError(
            f"{where}: {'sees images' if blind else 'is a text-only model too'}; --text-only takes a model trained "
            "with model.vision=null, to stand beside one that sees"
        )
    if beside and name in {own, *ledger.records}:
        name = f"{name} ({Path(where).resolve().name})"
    if name in {own, *ledger.records}:
        raise WeightsError(f"{where}: is the second model here that tables call {name}; evaluate them one by one")
    writes = settings.text and (model.settings.loss.text > 0 or not beside)
    dataset, rows = ledger.bench.dataset, ledger.bench.rows
    crossed = check_fits(model, dataset, settings.cross)
    sees = model.settings.vision is not None
    many = settings.modality_subsets and sees
    heard = hear_each(model, processor, dataset, rows, MODALITY_SUBSETS if many else (EVERYTHING,), report)
    ledger.add_heads(name, heard[-1], sees)  # all modalities come last
    subsets = ledger.by_subset(name, heard) if many else None
    if writes:
        texts = write(model, processor, rows, features_of(model, dataset, rows, report), report)
        ledger.add_texts(name, texts, sees)
    overlap = _measure(ledger, name, where, model, settings.seed, report) if settings.measure else None
    agreement = None if overlap is None else ledger.agreement(name)
    return _Entry(name, model_record(where, model), crossed, subsets, overlap, agreement)


def _measure(ledger: _Ledger, name: str, where: Path | str, model: MpLLM, seed: int, report: Report) -> Record | None:
    """Let the protocol answer from the masks that the model's decoder draws, and where the model has learnt how, weigh
    that in; None without a decoder."""
    segmenter = Segmenter.of(model)
    if segmenter is None:
        return None
    dataset, rows = ledger.bench.dataset, ledger.bench.rows
    outside = float(majority_class(ledger.bench.learnt, 1).out_of_scope[0])
    measured, overlap = segment_then_measure(segmenter, dataset, rows, seed, report)
    ledger.add(MEASURED, from_measured(measured, outside), sees=True)
    chances, consensus = ledger.predictions[name].chances, Consensus.beside(where)
    if consensus is not None and Protocol.model_validate(dataset.manifest["protocol"]) == PAPER_V2:
        assert chances is not None  # they come from heads
        # As where it answers: weighed is what is asked about labels that it has learnt about.
        known = {label.name for profile in model.settings.profiles for label in profile_named(profile).labels}
        told = [found if row["label_name"] in known else NOTHING for found, row in zip(measured, rows, strict=True)]
        weighed = consensus(tensors(chances), stack_targets(told), [row["label"] for row in rows])
        ledger.add(name + AND_MEASURED, from_heads({head: said.numpy() for head, said in weighed.items()}), sees=True)
    return overlap


def evaluate(
    place: Path | str,
    data: Path | str,
    *,
    text_only: Path | str | None = None,
    beside: Sequence[Path | str] = (),
    predictions: Path | None = None,
    report: Report = lambda stage, done, total: None,
    **settings: Any,
) -> Record:
    """Accuracies of a model on a split, beside the baselines, as a versioned record (docs/evaluation.md).

    `text_only` is a model of the same recipe without images; `beside` are other models to compare it with, question by
    question; `predictions` a Parquet file for what every method says to every question; `settings` are those of
    `EvaluationSettings`. Raises `WeightsError` for models that tables would call alike, even with their folders' names.
    """
    chosen = EvaluationSettings(**settings)
    dataset = open_dataset(data)
    rows = dataset.rows(chosen.split)
    if not rows:
        raise DatasetError(f"{data}: its split {chosen.split} is empty; build it from more patients")
    truth = truth_of(rows)
    learnt = rows if chosen.split == EVERY else dataset.rows("train")
    bench = _Bench(dataset, learnt, rows, truth, Resampling(truth.patients, chosen.seed))
    ledger = _Ledger(bench)
    ledger.add_baselines()
    told = settings_at(place)
    _check_writes(place, told, chosen)
    name = method_name(told)
    others = [] if text_only is None else [_enter(ledger, text_only, True, chosen, report, name)]
    alone = chosen.model_copy(update={"measure": False, "modality_subsets": False})
    others += [_enter(ledger, other, None, alone, report, name) for other in beside]
    own = _enter(ledger, place, False if text_only is not None else None, chosen, report)
    if predictions is not None:
        write_predictions(predictions, ledger.lines)
    return {
        "version": VERSION,
        "manifest": {
            "versions": versions(),
            "models": {entry.name: entry.record for entry in (*others, own)},
            "dataset": dataset_record(dataset),
            "settings": chosen.model_dump(mode="json"),
            "resamples": bench.resampling.resamples,
            "predictions": None if predictions is None else {"file": predictions.name, "sha256": sha256(predictions)},
        },
        "model": str(place),
        "method": own.name,
        "dataset": str(data),
        "split": chosen.split,
        "studies": len({row["study"] for row in rows}),
        "patients": len({row["patient"] for row in rows}),
        "questions": len(rows),
        "asked": {str(task): int(np.sum(asked)) for task, asked in truth.asked.items()},
        "modalities": _modalities(bench),
        "cross": own.crossed,
        "methods": ledger.records,
        "differences": ledger.differences(own.name),
        "differences_weighed": ledger.differences(own.name + AND_MEASURED),
        "modality_subsets": own.subsets,
        "overlap": own.overlap,
        "agreement": own.agreement,
    }


def _modalities(bench: _Bench) -> Mapping[str, int]:
    """Which modalities the studies have, and how many have just these."""
    seen = {row["study"]: "+".join(names) for row, names in zip(bench.rows, bench.seen(), strict=True)}
    return dict(Counter(seen.values()).most_common())
