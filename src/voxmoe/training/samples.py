"""Rows of a dataset -> batches of tensors for mpLLM."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from voxmoe.model.heads import SIZES
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.eye import drop_modalities
from voxmoe.training.features import StudyFeatures, stack

Row = dict[str, Any]


class Rows(TorchDataset[Row]):
    """The rows as a map-style dataset."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


class LengthSampler(Sampler[int]):
    """A random order in which each batch holds rows of about the same length, so that little is spent on padding.

    Rows are shuffled, sorted by length within pools of batches, and the batches are shuffled again. The order depends
    on the seed and the epoch alone.
    """

    POOL = 16
    """Batches in a pool."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        size = self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), size * self.POOL):
            pool = sorted(order[start : start + size * self.POOL].tolist(), key=lambda row: self.lengths[row])
            batches += [pool[place : place + size] for place in range(0, len(pool), size)]
        full = [batch for batch in batches if len(batch) == size]
        rest = [batch for batch in batches if len(batch) < size]
        for place in generator.permutation(len(full)):
            yield from full[place]
        for batch in rest:
            yield from batch


class Collator:
    """Tokenize, pad and stack rows, with the features of their studies (none for the text-only baseline)."""

    def __init__(
        self,
        processor: MpLLMProcessor,
        features: Mapping[str, StudyFeatures] | None,
        modality_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.processor = processor
        self.features = features
        self.modality_dropout = modality_dropout
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        batch: dict[str, Any] = dict(
            self.processor([row["question"] for row in rows], answers=[row["answer"] for row in rows])
        )
        batch["targets"] = targets(rows)
        if self.features is not None:
            batch |= stack([self.features[row["study"]] for row in rows]).inputs()
            if self.modality_dropout:
                batch["present"] = drop_modalities(batch["present"], self.modality_dropout, self.generator)
        return batch


def targets(rows: Sequence[Row]) -> dict[str, Tensor]:
    """What the heads should say for each row."""
    return {name: torch.tensor([row["targets"][name] for row in rows]) for name in SIZES}
