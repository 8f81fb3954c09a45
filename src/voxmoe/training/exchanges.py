"""Exchanges about CTs -> batches of tensors for a volume reader, in an order that seed and recipe alone decide.

Questions about one volume follow one another, so that a batch looks at it once; the tasks come in the shares
that the recipe asks for, whatever their numbers in the data.

Shapes: B prompt, V volume, D slice.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from voxmoe.errors import DatasetError, QuestionError
from voxmoe.model.reading import ReaderProcessor
from voxmoe.training.pictures import KeptPictures
from voxmoe.training.samples import Draw
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

TASKS = tuple(CTTask)
Shown = tuple[str, int | None]
"""What an exchange is about: an image, and one of its slices or all."""


def shown(exchange: Exchange) -> Shown:
    return exchange.image, exchange.slice


def check_prompts(processor: ReaderProcessor, exchanges: Sequence[Exchange]) -> None:
    """Raises `DatasetError` for an exchange whose prompt is longer than a reader takes."""
    for prompt, exchange in {exchange.prompt: exchange for exchange in reversed(exchanges)}.items():
        try:
            processor.prompt(prompt)
        except QuestionError as error:
            raise DatasetError(f"{exchange.id}: {error}, or leave it out") from None


def check_drawn_whole(exchanges: Sequence[Exchange], depth: int | None) -> None:
    """Raises `DatasetError` for an exchange about one slice of a file where volumes are drawn as `depth` slices."""
    asked = next((exchange for exchange in exchanges if exchange.slice is not None), None)
    if depth is not None and asked is not None:
        raise DatasetError(
            f"{asked.id}: asks about slice {asked.slice} of {asked.image}, and model.pictures.depth={depth} draws "
            f"{depth} through the whole file; set model.pictures.depth=null, or leave out what asks about slices"
        )


def check_slices(exchanges: Sequence[Exchange], pictures: KeptPictures) -> None:
    """Raises `DatasetError` for an exchange about a slice that its volume does not have."""
    depths = {name: pictures.depth(name) for name in {one.image for one in exchanges if one.slice is not None}}
    for exchange in exchanges:
        if exchange.slice is not None and not 0 <= exchange.slice < depths[exchange.image]:
            raise DatasetError(
                f"{exchange.id}: asks about slice {exchange.slice} of {exchange.image}, which has "
                f"{depths[exchange.image]}, numbered from 0; correct the number, or leave it out"
            )


class VolumeCourse(TorchDataset[Draw]):
    """All samples of a run, one epoch after the other, as many as its steps take.

    An epoch's samples come in groups of `together` about one volume that may lie far apart. Without `shares` each
    volume is asked about as often as it has exchanges, filled up to whole groups. With them, an epoch has as many
    samples as there are exchanges; each task makes up its share of them, and is asked of the volumes that have it in
    proportion to how many exchanges of the tasks asked for they have; volumes with none are left out.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        shares: Mapping[CTTask, float] | None,
        together: int,
        step_size: int,
        steps: int,
        seed: int,
    ) -> None:
        self.together = together
        self.step_size = step_size
        self.steps = steps
        self.seed = seed
        rows_of: dict[Shown, dict[CTTask, list[int]]] = {}
        for row, exchange in enumerate(exchanges):
            rows_of.setdefault(shown(exchange), {}).setdefault(exchange.task, []).append(row)
        volumes = list(rows_of.values())
        counts = [{task: float(len(rows)) for task, rows in tasks.items()} for tasks in volumes]
        wanted = counts if shares is None else _shared_out(counts, shares)
        self.volumes = [pair for pair in zip(volumes, wanted, strict=True) if pair[1]]
        """Of each volume that is asked about, the exchanges of its tasks, and how often each is wanted an epoch."""
        parts = np.array([sum(tasks.values()) / together for _, tasks in self.volumes])
        # Without shares each volume has whole groups; with them, chance gives out the groups that parts make together.
        self.ends = np.cumsum(np.ceil(parts) if shares is None else parts)
        self.groups = int(np.ceil(self.ends[-1] - 1e-6))
        self.ends *= self.groups / self.ends[-1]
        self.samples = self.groups * together
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __len__(self) -> int:
        return self.steps * self.step_size

    def __getitem__(self, place: int) -> Draw:
        epoch, within = divmod(place, self.samples)
        return Draw(place, int(self._order(epoch)[within]), epoch)

    def _draw_order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        # Evenly spaced pointers into the volumes' parts in a row: each gets what is whole of its part, or one more.
        pointers = np.arange(self.groups) + generator.random()
        given = np.bincount(np.searchsorted(self.ends[:-1], pointers, side="right"), minlength=len(self.volumes))
        groups = [
            group
            for (tasks, wanted), count in zip(self.volumes, given.tolist(), strict=True)
            if count
            for group in self._groups(tasks, wanted, count * self.together, generator)
        ]
        return np.concatenate([groups[index] for index in generator.permutation(len(groups))])

    def _groups(
        self,
        tasks: Mapping[CTTask, list[int]],
        wanted: Mapping[CTTask, float],
        count: int,
        generator: np.random.Generator,
    ) -> list[np.ndarray]:
        """So many of the exchanges about one volume, in groups."""
        weights = np.array(list(wanted.values()))
        # As many of each task as is wanted, the rest by chance, in an order by chance.
        exact = count * weights / weights.sum()
        numbers = np.floor(exact + 1e-9).astype(int)
        if left := count - numbers.sum():
            rest = np.maximum(exact - numbers, 0)
            numbers += generator.multinomial(left, rest / rest.sum())
        endless = {task: _endless(tasks[task], generator) for task in wanted}
        rows = [next(endless[task]) for task, number in zip(wanted, numbers, strict=True) for _ in range(number)]
        return np.split(generator.permutation(rows), count // self.together)


def _shared_out(counts: Sequence[Mapping[CTTask, float]], shares: Mapping[CTTask, float]) -> list[dict[CTTask, float]]:
    """Of volumes with so many exchanges of each task, how often each is wanted in an epoch: each task makes up its
    share."""
    sizes = [sum(count for task, count in tasks.items() if shares.get(task)) for tasks in counts]
    total = sum(sum(tasks.values()) for tasks in counts)
    held = {
        task: sum(size for size, tasks in zip(sizes, counts, strict=True) if task in tasks)
        for task, share in shares.items()
        if share
    }
    asked = {task: shares[task] for task, size in held.items() if size}
    if not asked:
        raise DatasetError(
            f"no exchange is of a task that the recipe's shares ask for ({', '.join(held)}); change them"
        )
    each = {task: total * share / sum(asked.values()) / held[task] for task, share in asked.items()}
    return [
        {task: size * each[task] for task in tasks if task in each} for size, tasks in zip(sizes, counts, strict=True)
    ]


def _endless(rows: Sequence[int], generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(rows).tolist()


class ReaderCollator:
    """Pad and stack exchanges, with the slices of their volumes (none for the text-only baseline)."""

    def __init__(
        self,
        processor: ReaderProcessor,
        exchanges: Sequence[Exchange],
        pictures: KeptPictures | None,
        dense: bool = False,
        answers: bool = True,
    ) -> None:
        self.processor = processor
        self.exchanges = exchanges
        self.pictures = pictures
        self.dense = dense
        self.answers = answers

    def __call__(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """A batch to learn from, with the `place` of its first sample."""
        return self.batch([self.exchanges[draw.row] for draw in draws], self.answers) | {"place": draws[0].place}

    def batch(self, exchanges: Sequence[Exchange], answers: bool = True, volumes: bool = True) -> dict[str, Any]:
        """Prompts and tasks, with `answers` also these, with `volumes` each of them once."""
        prompts = [self.processor.prompt(exchange.prompt) for exchange in exchanges]
        lettered = self.processor.lettered
        told = [self.processor.answer(exchange.told(lettered)) for exchange in exchanges] if answers else None
        batch: dict[str, Any] = dict(self.processor.padded(prompts, told))
        batch["task"] = torch.tensor([TASKS.index(exchange.task) for exchange in exchanges])
        return batch | self._volumes(exchanges, self.pictures) if volumes and self.pictures is not None else batch

    def _volumes(self, exchanges: Sequence[Exchange], pictures: KeptPictures) -> dict[str, Tensor]:
        places = {what: place for place, what in enumerate(dict.fromkeys(map(shown, exchanges)))}
        pixels = [pictures.pixels(*what) for what in places]
        depths = torch.tensor([len(volume) for volume in pixels])
        present = torch.arange(int(depths.max())) < depths[:, None]
        filled = pixels[0].new_zeros(*present.shape, *pixels[0].shape[1:])
        filled[present] = torch.cat(pixels)
        found = {
            "pixels": filled,
            "present": present,
            "volume": torch.tensor([places[shown(exchange)] for exchange in exchanges]),
        }
        if self.dense:
            found["shares"] = torch.cat([pictures.shares(*what) for what in places])
        return found
