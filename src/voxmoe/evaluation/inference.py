"""A model over the questions of a split: what its heads say, which experts they weigh, what it writes.

Questions of about the same length share a batch, longest first, so that little is padding and what does not fit into
memory fails at once. Heads and text are passes of their own: the heads need no generation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxmoe.errors import WeightsError
from voxmoe.evaluation.predictions import Chances
from voxmoe.imaging.study import StudyFiles
from voxmoe.model.devices import best_device
from voxmoe.model.heads import SIZES, probabilities
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.own_weights import config_at
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.features import FeatureCache, Features, stack
from voxmoe.training.samples import Row
from voxmoe.training.studies import study_files
from voxmoe.vocabulary import Modality
from voxmoe.vqa.dataset import Dataset

Report = Callable[[str, int, int], None]
BATCH = 16
Subset = frozenset[Modality]
EVERYTHING: Subset = frozenset(Modality)


@dataclass(frozen=True, eq=False)
class Said:
    """What the heads say to Q questions with some modalities, and the experts' weights.

    `asked` is False for questions about a study that has none of these modalities: nothing is said to them.
    """

    chances: Chances
    experts: Float[np.ndarray, "Q N"] | None
    asked: Bool[np.ndarray, " Q"]


def _check_there(place: Path | str) -> None:
    if isinstance(place, Path) and not (place / "config.json").is_file():
        raise WeightsError(f"{place}: no model here; train one with voxmoe train RECIPE")


def settings_at(place: Path | str) -> ModelSettings:
    """The settings of a trained model; raises `WeightsError` if the folder holds none."""
    _check_there(place)
    return config_at(place, MpLLMConfig).parsed


def load(place: Path | str) -> tuple[MpLLM, MpLLMProcessor]:
    """A trained model, on the GPU if there is one, and its processor.

    Raises `WeightsError` if the folder holds none.
    """
    _check_there(place)
    model = MpLLM.from_pretrained(place).to(best_device())
    return model, MpLLMProcessor.from_pretrained(place)


def features_of(
    model: MpLLM, dataset: Dataset, rows: Sequence[Row], report: Report, subset: Subset = EVERYTHING
) -> Mapping[str, Features] | None:
    """What the model's encoder sees of every study that the rows ask about, once; None for a text-only model.

    Of a study only the modalities of the subset are read, unless it has none of them.
    """
    if model.settings.vision is None:
        return None
    files = study_files(dataset, rows)
    return FeatureCache(model).of_all({name: _with_only(study, subset) for name, study in files.items()}, report)


def _with_only(files: StudyFiles, subset: Subset) -> StudyFiles:
    kept = {modality: image for modality, image in files.images.items() if modality in subset}
    return replace(files, images=kept) if kept else files


def _batches(rows: Sequence[Row]) -> Iterator[list[int]]:
    """The places of the rows in batches of about the same length, longest first."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]["question"]))
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _batch(
    model: MpLLM, processor: MpLLMProcessor, rows: Sequence[Row], features: Mapping[str, Features] | None
) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = dict(processor([row["question"] for row in rows]))
    if features is not None:
        batch |= stack([features[row["study"]] for row in rows])
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def _allowed(subset: Subset, present: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
    return present & torch.tensor([modality in subset for modality in Modality], device=present.device)


@torch.no_grad()
def hear(
    model: MpLLM,
    processor: MpLLMProcessor,
    rows: Sequence[Row],
    features: Mapping[str, Features] | None,
    subsets: Sequence[Subset] = (EVERYTHING,),
    report: Report = lambda stage, done, total: None,
) -> list[Said]:
    """What the heads say to every row with the modalities of each subset, in one pass over batches and features."""
    found = [_Collected(len(rows)) for _ in subsets]
    done = 0
    for places in _batches(rows):
        batch = _batch(model, processor, [rows[place] for place in places], features)
        for subset, collected in zip(subsets, found, strict=True):
            if features is None:
                collected.put(places, model(**batch, heads_alone=True))
                continue
            present = _allowed(subset, batch["present"])
            sees = present.any(dim=1)
            if sees.any():
                part = {name: tensor[sees] for name, tensor in {**batch, "present": present}.items()}
                asked = [place for place, on in zip(places, sees.tolist(), strict=True) if on]
                collected.put(asked, model(**part, heads_alone=True))
        done += len(places)
        report("answering", done, len(rows))
    return [collected.said() for collected in found]


def hear_each(
    model: MpLLM,
    processor: MpLLMProcessor,
    dataset: Dataset,
    rows: Sequence[Row],
    subsets: Sequence[Subset],
    report: Report = lambda stage, done, total: None,
) -> list[Said]:
    """What the heads say with the modalities of each subset.

    What an encoder sees of one modality does not depend on the others, so that it is computed once. A chart shows what
    was found in all of them together: it is made anew for each subset.
    """
    if model.settings.chart is None:
        return hear(model, processor, rows, features_of(model, dataset, rows, report), subsets, report)
    return [
        said
        for subset in subsets
        for said in hear(model, processor, rows, features_of(model, dataset, rows, report, subset), (subset,), report)
    ]


class _Collected:
    """The outputs of batches, put back into the order of the rows."""

    def __init__(self, count: int) -> None:
        self.chances = {name: np.full((count, size), np.nan, np.float32) for name, size in SIZES.items()}
        self.experts: np.ndarray | None = None
        self.asked = np.zeros(count, bool)

    def put(self, places: list[int], output: Any) -> None:
        self.asked[places] = True
        for name, values in probabilities(output.heads).items():
            self.chances[name][places] = values.float().cpu().numpy()
        if output.expert_weights is not None:
            weights = output.expert_weights.float().cpu().numpy()
            if self.experts is None:
                self.experts = np.full((len(self.asked), weights.shape[1]), np.nan, np.float32)
            self.experts[places] = weights

    def said(self) -> Said:
        return Said(self.chances, self.experts, self.asked)


@torch.no_grad()
def write(
    model: MpLLM,
    processor: MpLLMProcessor,
    rows: Sequence[Row],
    features: Mapping[str, Features] | None,
    report: Report = lambda stage, done, total: None,
) -> list[str]:
    """The answer that the model writes to every row (greedy decoding)."""
    texts = [""] * len(rows)
    done = 0
    for places in _batches(rows):
        batch = _batch(model, processor, [rows[place] for place in places], features)
        for place, text in zip(places, processor.decode_answers(model.generate(**batch)), strict=True):
            texts[place] = text
        done += len(places)
        report("writing answers", done, len(rows))
    return texts
