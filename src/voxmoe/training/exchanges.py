"""Exchanges about CTs -> batches of tensors for a volume reader, in an order that seed and recipe alone decide.

Questions about one volume follow one another, so that a batch looks at it once; within each volume the tasks come in
the shares that the recipe asks for, whatever their numbers in the data.

Shapes: B prompt, V volume, D slice.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

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


class VolumeCourse(TorchDataset[Draw]):
    """All samples of a run, one epoch after the other, as many as its steps take.

    In an epoch each volume is asked about as often as it has exchanges, in groups of `together` that may lie far apart.
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
        self.shares = shares
        self.together = together
        self.step_size = step_size
        self.steps = steps
        self.seed = seed
        self.rows_of: dict[Shown, dict[CTTask, list[int]]] = {}
        for row, exchange in enumerate(exchanges):
            self.rows_of.setdefault(shown(exchange), {}).setdefault(exchange.task, []).append(row)
        sizes = [sum(map(len, tasks.values())) for tasks in self.rows_of.values()]
        self.samples = sum(-(-size // together) * together for size in sizes)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __len__(self) -> int:
        return self.steps * self.step_size

    def __getitem__(self, place: int) -> Draw:
        epoch, within = divmod(place, self.samples)
        return Draw(place, int(self._order(epoch)[within]), epoch)

    def _draw_order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        groups = [group for tasks in self.rows_of.values() for group in self._groups(tasks, generator)]
        return np.concatenate([groups[index] for index in generator.permutation(len(groups))])

    def _groups(self, tasks: Mapping[CTTask, list[int]], generator: np.random.Generator) -> list[np.ndarray]:
        """The exchanges about one volume, in groups."""
        size = sum(map(len, tasks.values()))
        count = -(-size // self.together) * self.together
        endless = {task: _endless(rows, generator) for task, rows in tasks.items()}
        there = list(tasks)
        weights = np.array([len(tasks[t]) if self.shares is None else self.shares.get(t, 0.0) for t in there], float)
        if not weights.any():
            weights[:] = 1  # of a volume with none of the tasks that are asked for, all that it has
        # As many of each task as its share says, the rest by chance, in an order by chance.
        exact = count * weights / weights.sum()
        numbers = np.floor(exact).astype(int)
        if left := count - numbers.sum():
            rest = exact - numbers
            numbers += generator.multinomial(left, rest / rest.sum())
        rows = [next(endless[task]) for task, number in zip(there, numbers, strict=True) for _ in range(number)]
        return np.split(generator.permutation(rows), count // self.together)


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
    ) -> None:
        self.processor = processor
        self.exchanges = exchanges
        self.pictures = pictures
        self.dense = dense

    def __call__(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """A batch to learn from, with the `place` of its first sample."""
        return self.batch([self.exchanges[draw.row] for draw in draws]) | {"place": draws[0].place}

    def batch(self, exchanges: Sequence[Exchange], answers: bool = True, volumes: bool = True) -> dict[str, Any]:
        """Prompts and tasks, with `answers` also these, with `volumes` each of them once."""
        prompts = [self.processor.prompt(exchange.prompt) for exchange in exchanges]
        told = [self.processor.answer(exchange.target) for exchange in exchanges] if answers else None
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
