"""A volume reader over the exchanges of a split: what it says, by which experts, and how good that is."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device

from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.likelihood import weigh_choices
from voxmoe.evaluation.methods import BY_LIKELIHOOD, TEXT_ONLY
from voxmoe.evaluation.provenance import versions
from voxmoe.evaluation.said import evaluate_said
from voxmoe.evaluation.text_metrics import require_metrics
from voxmoe.files import sha256
from voxmoe.model.devices import best_device
from voxmoe.model.own_weights import weights_file
from voxmoe.model.reader import VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.model.routing import Usage
from voxmoe.training.exchanges import (
    TASKS,
    ReaderCollator,
    check_drawn_whole,
    check_prompts,
    check_slices,
    shown,
)
from voxmoe.training.pictures import PictureCache
from voxmoe.training.reader_run import scans_of
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.dataset import CTDataset, open_ct_dataset
from voxmoe.vqa.ct.exchange import Exchange

Report = Callable[[str, int, int], None]
READER = "TGH-MoE"
"""What a reader is called among the methods."""
BATCH = 16
LONGEST = {CTTask.REPORT: 1024, CTTask.CLOSED: 48, CTTask.OPEN: 48}
"""Tokens that may be said."""


@dataclass
class Spoken:
    """What a reader said to each exchange, and by which experts."""

    texts: dict[str, str]
    weighed: dict[str, list[float]]
    """Of closed exchanges, the probability of each choice."""
    cut: Counter[CTTask] = field(default_factory=Counter)
    """How many answers to each task reached the number of tokens that may be said, without an end."""
    usage: Usage | None = None
    chosen: Counter[tuple[str, str]] | None = None
    """How often prompts of a task went to the group of each: (true, chosen) -> number."""

    def experts(self) -> dict[str, Any] | None:
        """The record of what the routers did; None for a reader without task experts."""
        if self.usage is None or self.chosen is None:
            return None
        right = sum(count for (true, group), count in self.chosen.items() if true == group)
        return {
            "task_router": {
                "accuracy": 100 * right / self.chosen.total(),
                "chosen": {f"{true} -> {group}": count for (true, group), count in sorted(self.chosen.items())},
            },
            "layers": list(self.usage.blocks),
            "shares": self.usage.shares.tolist(),
            "entropy": self.usage.entropy.tolist(),
        }


def open_reader(place: Path | str) -> tuple[VolumeReader, ReaderProcessor]:
    """A trained reader, on the GPU if there is one, and its processor; raises `WeightsError` if there is none."""
    if Path(place).is_dir() and not (Path(place) / "config.json").is_file():
        raise WeightsError(f"{place}: no model here; train one with voxmoe train RECIPE")
    reader = VolumeReader.from_pretrained(place).to(best_device())
    return reader, ReaderProcessor.from_pretrained(place)


def _batches(exchanges: Sequence[Exchange]) -> Iterator[list[Exchange]]:
    """Exchanges of one task a batch, those about one volume together."""
    for task in TASKS:
        own = sorted((one for one in exchanges if one.task is task), key=lambda one: (one.image, len(one.prompt)))
        for start in range(0, len(own), BATCH):
            yield own[start : start + BATCH]


@torch.no_grad()
def speak(
    reader: VolumeReader,
    processor: ReaderProcessor,
    dataset: CTDataset,
    exchanges: Sequence[Exchange],
    report: Report = lambda stage, done, total: None,
) -> Spoken:
    """Let a reader answer all exchanges, greedily, and weigh the choices of closed ones.

    Raises `DatasetError` for a prompt that is too long, and for a slice that is not there or not drawn, before any.
    """
    check_prompts(processor, exchanges)
    pictures = None
    if not reader.settings.blind:
        check_drawn_whole(exchanges, reader.settings.pictures.depth)
        pictures = PictureCache(reader.settings.pictures).of_all(scans_of(dataset, exchanges), report)
        check_slices(exchanges, pictures)
    collate = ReaderCollator(processor, exchanges, pictures)
    spoken = Spoken({}, {})
    for batch in _batches(exchanges):
        tensors = send_to_device(collate.batch(batch, answers=False), reader.device)
        task = tensors.pop("task")
        view = None
        if pictures is not None:
            view = reader.view(**tensors)
            if view.routing is not None:
                spoken.usage = view.routing.usage if spoken.usage is None else spoken.usage + view.routing.usage
                groups = view.routing.logits.argmax(dim=1).tolist()
                went = zip(task.tolist(), groups, strict=True)
                counted = Counter((str(TASKS[true]), str(TASKS[group])) for true, group in went)
                spoken.chosen = counted if spoken.chosen is None else spoken.chosen + counted
        read = reader.read(**tensors, view=view)
        ids = reader.generate(**tensors, read=read, max_new_tokens=LONGEST[batch[0].task])
        spoken.cut[batch[0].task] += int(reader.unended(ids).sum())
        spoken.texts |= {one.id: text for one, text in zip(batch, processor.decode_answers(ids), strict=True)}
        if batch[0].task is CTTask.CLOSED:
            weighed = weigh_choices(reader, processor, tensors, view, [one.choices for one in batch], read)
            spoken.weighed |= {one.id: told for one, told in zip(batch, weighed, strict=True)}
        report("answering", len(spoken.texts), len(exchanges))
    return spoken


def _identity(place: Path | str, reader: VolumeReader) -> dict[str, Any]:
    return {"sha256": sha256(Path(weights_file(place))), "settings": reader.settings.model_dump(mode="json")}


def evaluate_reader(
    place: Path | str,
    data: Path | str,
    *,
    text_only: Path | str | None = None,
    split: str = "test",
    seed: int = 0,
    also: Sequence[str] = (),
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """What a reader says on a split, and which choices it finds likeliest, beside the baselines, as a record of
    `voxmoe.evaluation.said`; `text_only` is a blind reader to stand beside it; `also` names metrics of
    `voxmoe.evaluation.text_metrics.OPTIONAL` that texts are compared by, too.

    Raises `DatasetError` for an empty split, `WeightsError` where there is no reader or the wrong kind of one, and
    `MissingPackageError` where what such a metric needs is not there, before anything is said.
    """
    require_metrics(also)
    dataset = open_ct_dataset(data)
    exchanges = dataset.exchanges(split)
    if not exchanges:
        raise DatasetError(f"{data}: its split {split} is empty; evaluate another one, or all")
    learnt = dataset.exchanges("train")
    said, weighed, models, cut, experts = {}, {}, {}, {}, None
    for where, blind in ((text_only, True), (place, False if text_only is not None else None)):
        if where is None:
            continue
        report("loading the model", 0, 1)
        reader, processor = open_reader(where)
        if blind is not None and blind != reader.settings.blind:
            kind = "is blind" if reader.settings.blind else "sees volumes"
            raise WeightsError(f"{where}: {kind}; --text-only takes a reader trained with model.blind=true, beside one")
        name = TEXT_ONLY if reader.settings.blind else READER
        spoken = speak(reader, processor, dataset, exchanges, report)
        said[name], models[name] = spoken.texts, _identity(where, reader)
        cut[name] = {str(task): count for task, count in spoken.cut.items()}
        if spoken.weighed:
            weighed[name + BY_LIKELIHOOD] = spoken.weighed
        experts = spoken.experts() or experts
    record = evaluate_said(exchanges, said, learnt, weighed=weighed, seed=seed, also=also)
    record["manifest"]["settings"]["longest"] = {task: LONGEST[CTTask(task)] for task in cut[name]}
    record["manifest"] |= {
        "versions": versions(),
        "models": models,
        "dataset": {"sha256": dataset.manifest["sha256"], "split": split, "volumes": len({*map(shown, exchanges)})},
    }
    return record | {"model": str(place), "dataset": str(data), "split": split, "experts": experts, "cut": cut}
