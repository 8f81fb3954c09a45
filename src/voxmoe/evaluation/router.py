"""What the high-level router does: the experts' weights by prompt (mpLLM, Figure 3 and its "next checks").

The template prompts are the paper's 15 questions about every label: 60 for four labels. Shapes: Q prompts, N experts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.inference import BATCH, load
from voxmoe.evaluation.provenance import model_record, versions
from voxmoe.imaging.layouts import profile_named
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.vqa.dataset import open_dataset
from voxmoe.vqa.statistics import type_name
from voxmoe.vqa.wordings.seeds import template_prompts

VERSION = 1
_TINY = 1e-12


@dataclass(frozen=True)
class Prompt:
    """A question, the label it is about, and its type: the tasks that it asks."""

    label: str
    type: str
    text: str


@torch.no_grad()
def prompt_weights(model: MpLLM, processor: MpLLMProcessor, questions: Sequence[str]) -> Float[np.ndarray, "Q N"]:
    """The experts' weights for each question; raises `WeightsError` for a model without experts."""
    parts = []
    for start in range(0, len(questions), BATCH):
        batch = processor(list(questions[start : start + BATCH]))
        ids, mask = (batch[name].to(model.device) for name in ("question_ids", "question_mask"))
        parts.append(model.expert_weights(ids, mask).float().cpu().numpy())
    return np.concatenate(parts)


def entropy(weights: Float[np.ndarray, "Q N"]) -> Float[np.ndarray, " Q"]:
    """-sum over experts of w log w, in nats: 0 where one expert has all, log N where all have the same."""
    found: np.ndarray = -(weights * np.log(np.maximum(weights, _TINY))).sum(axis=1)
    return found


def entropy_record(weights: Float[np.ndarray, "Q N"]) -> dict[str, Any]:
    nats = entropy(weights.astype(float))
    return {
        "questions": len(nats),
        "mean": float(nats.mean()),
        "sd": float(nats.std()),
        "effective_experts": float(np.exp(nats.mean())),
    }


def _load(weights: Float[np.ndarray, "Q N"]) -> list[float]:
    return [float(value) for value in weights.mean(axis=0)]


def usage(weights: Float[np.ndarray, "Q N"], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Load of each expert (its mean weight, 1 / N if all are alike) and entropy, overall and by each grouping."""
    own = {
        name: {value: weights[np.array(values) == value] for value in dict.fromkeys(values)}
        for name, values in groups.items()
    }
    by_group = {name: {value: entropy_record(of) for value, of in parts.items()} for name, parts in own.items()}
    return {
        "experts": weights.shape[1],
        "load": _load(weights),
        "load_by": {name: {value: _load(of) for value, of in parts.items()} for name, parts in own.items()},
        "entropy": {"maximum": float(np.log(weights.shape[1])), "all": entropy_record(weights), **by_group},
    }


def correlation(weights: Float[np.ndarray, "Q N"]) -> Float[np.ndarray, "Q Q"]:
    """Pearson's correlation of the prompts' weights over the experts; NaN for a prompt with all weights equal."""
    centred = weights.astype(float) - weights.mean(axis=1, keepdims=True, dtype=float)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.full(centred.shape, np.nan), where=length > _TINY)
    found: np.ndarray = np.clip(unit @ unit.T, -1, 1)
    return found


def _mean_within(matrix: Float[np.ndarray, "Q Q"], values: Sequence[str]) -> dict[str, float | None]:
    """The mean correlation of two different prompts of the same value, and of two of different values."""
    same = np.array(values)[:, None] == np.array(values)[None, :]
    pairs = ~np.eye(len(values), dtype=bool) & ~np.isnan(matrix)
    return {"within": _mean(matrix, pairs & same), "between": _mean(matrix, pairs & ~same)}


def _between_each(matrix: Float[np.ndarray, "Q Q"], values: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The mean correlation of two different prompts, the one of each value, the other of each."""
    of = {value: np.array(values) == value for value in dict.fromkeys(values)}
    pairs = ~np.eye(len(values), dtype=bool) & ~np.isnan(matrix)
    return {
        one: {other: _mean(matrix, pairs & np.outer(rows, columns)) for other, columns in of.items()}
        for one, rows in of.items()
    }


def _mean(matrix: Float[np.ndarray, "Q Q"], where: Bool[np.ndarray, "Q Q"]) -> float | None:
    return float(matrix[where].mean()) if where.any() else None


def study_router(place: Path | str, *, dataset: Path | str | None = None, split: str = "test") -> dict[str, Any]:
    """Figure 3 in numbers: the template prompts' weights, their correlations and entropies, and the experts' load.

    With a dataset also load and entropies over the questions of a split, by kind. Raises `WeightsError` for a model
    without experts or without a profile.
    """
    model, processor = load(place)
    if not model.settings.profiles:
        raise WeightsError(f"{place}: does not say which labels it was trained on, so there are no prompts about them")
    texts = {  # labels that several profiles have are asked about once
        text: Prompt(label, type_name(tasks), text)
        for profile in model.settings.profiles
        for (label, tasks), text in template_prompts(profile_named(profile)).items()
    }
    prompts = list(texts.values())
    weights = prompt_weights(model, processor, [prompt.text for prompt in prompts])
    matrix = correlation(weights)
    labels, types = [prompt.label for prompt in prompts], [prompt.type for prompt in prompts]
    settings = model.settings.connector
    assert isinstance(settings, ExpertSettings)  # prompt_weights has refused any other
    return {
        "version": VERSION,
        "manifest": {"versions": versions(), "model": model_record(place, model)},
        "modality_level_experts": settings.modality_level,
        "token_level_experts": settings.token_level,
        "prompts": [{"label": p.label, "type": p.type, "text": p.text} for p in prompts],
        "weights": [[float(value) for value in row] for row in weights],
        "correlation": [[None if np.isnan(value) else float(value) for value in row] for row in matrix],
        "label": _mean_within(matrix, labels),
        "labels": _between_each(matrix, labels),
        "type": _mean_within(matrix, types),
        "templates": usage(weights, {"by_label": labels, "by_type": types}),
        "questions": None if dataset is None else _usage_on(model, processor, dataset, split),
    }


def _usage_on(model: MpLLM, processor: MpLLMProcessor, dataset: Path | str, split: str) -> dict[str, Any]:
    rows = open_dataset(dataset).rows(split)
    if not rows:
        raise DatasetError(f"{dataset}: its split {split} is empty; build it from more patients")
    weights = prompt_weights(model, processor, [row["question"] for row in rows])
    groups = {"by_kind": [row["kind"] for row in rows], "by_label": [row["label"] for row in rows]}
    return {"dataset": str(dataset), "split": split, **usage(weights, groups)}


def is_study(file: Path) -> bool:
    """Whether a file holds what `study_router` gave."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "correlation" in found
