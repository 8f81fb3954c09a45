"""Rows of a dataset -> batches of tensors for mpLLM, in an order that seed and recipe alone decide.

Everything that is drawn for a sample (its place in the order, the view of its study, the modalities left out) depends
on the seed, the epoch and the row, never on what was drawn before. So a run that goes on after an interruption, or is
shared by several processes, learns from the same samples.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from voxmoe.errors import QuestionError
from voxmoe.model.heads import SIZES
from voxmoe.model.processing import MpLLMProcessor, check_question
from voxmoe.training.eye import drop_modalities
from voxmoe.training.features import KeptFeatures, stack
from voxmoe.training.sides import mirrored, names_side
from voxmoe.vocabulary import Task

Row = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """A row's question and answer as token ids, EOS included."""

    question: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        return len(self.question) + len(self.answer)


def tokenised(rows: Sequence[Row], processor: MpLLMProcessor) -> list[Tokens]:
    """All rows as tokens; raises `QuestionError` that names the row whose question is empty or over-long."""
    questions = processor.tokens([row["question"] for row in rows])
    answers = processor.tokens([row["answer"] for row in rows])
    for row, question in zip(rows, questions, strict=True):
        try:
            check_question(row["question"], question)
        except QuestionError as error:
            raise QuestionError(f"row {row['id']}: {error}") from None
    return [Tokens(*pair) for pair in zip(questions, answers, strict=True)]


@dataclass(frozen=True)
class Draw:
    """The sample at a place of the run: which row, and for which time."""

    place: int
    row: int
    epoch: int


class Course(TorchDataset[Draw]):
    """All samples of a run, one epoch after the other, as many as its steps take.

    Each epoch has an order of its own, in which the samples of a group are about equally long, so that little is spent
    on padding: rows are shuffled, sorted by length within pools of groups, and the groups are shuffled. A step takes
    groups of any lengths, as questions of one length ask much the same. Where an epoch ends in the middle of a group,
    the next one completes it.
    """

    GROUP = 8
    """Samples in a group; steps that are no multiple of it are a group each."""
    POOL = 16
    """Groups in a pool."""

    def __init__(self, lengths: Sequence[int], step_size: int, steps: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.step_size = step_size
        self.group = step_size if step_size % self.GROUP else self.GROUP
        self.steps = steps
        self.seed = seed
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def samples(self) -> int:
        """Of an epoch."""
        return len(self.lengths)

    def __len__(self) -> int:
        return self.steps * self.step_size

    def __getitem__(self, place: int) -> Draw:
        epoch, within = divmod(place, len(self.lengths))
        return Draw(place, int(self._order(epoch)[within]), epoch)

    def _draw_order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        size = self.group
        order = generator.permutation(len(self.lengths))
        lead = min(-epoch * len(order) % size, len(order))
        whole = (len(order) - lead) // size * size
        groups: list[np.ndarray] = []
        for start in range(lead, lead + whole, size * self.POOL):
            pool = order[start : min(start + size * self.POOL, lead + whole)]
            groups += np.split(pool[np.argsort(self.lengths[pool], kind="stable")], len(pool) // size)
        shuffled = [groups[index] for index in generator.permutation(len(groups))]
        return np.concatenate([order[:lead], *shuffled, order[lead + whole :]])


class Collator:
    """Pad and stack samples, with the features or images of their studies (none for the text-only baseline)."""

    def __init__(
        self,
        processor: MpLLMProcessor,
        rows: Sequence[Row],
        tokens: Sequence[Tokens],
        features: KeptFeatures | None,
        *,
        modality_dropout: float = 0.0,
        balance: bool = False,
        seed: int = 0,
    ) -> None:
        self.processor = processor
        self.rows = rows
        self.tokens = tokens
        self.features = features
        self.mirrored = {} if features is None or not features.flips else _mirrored(rows, processor)
        self.modality_dropout = modality_dropout
        self.weights = answer_weights(rows) if balance else None
        self.seed = seed

    def plain(self, rows: Sequence[int]) -> dict[str, Any]:
        """Rows with their studies as they are."""
        batch = self.texts(rows)
        if self.features is not None:
            batch |= stack([self.features[self.rows[row]["study"]] for row in rows])
        return batch

    def __call__(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """A batch to learn from, with the `place` of its first sample."""
        rows = [draw.row for draw in draws]
        if self.features is None:
            return self.texts(rows) | {"place": draws[0].place}
        studies = [self.rows[row]["study"] for row in rows]
        generators = [self._generator(draw) for draw in draws]
        numbers = self._numbers(studies, generators)
        flipped = [self.features.is_flipped(study, number) for study, number in zip(studies, numbers, strict=True)]
        return self.texts(rows, flipped) | {"place": draws[0].place} | self._views(studies, numbers, generators)

    def seen(self, studies: Sequence[str], generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """What is seen of studies, each in the view and without the modalities that its generator draws."""
        return self._views(studies, self._numbers(studies, generators), generators)

    def _numbers(self, studies: Sequence[str], generators: Sequence[torch.Generator]) -> list[int]:
        """Which view of each study its generator draws."""
        assert self.features is not None
        counts = [len(self.features.paths[study]) for study in studies]
        return [_below(count, generator) for count, generator in zip(counts, generators, strict=True)]

    def _views(
        self, studies: Sequence[str], numbers: Sequence[int], generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        assert self.features is not None
        batch = stack([self.features.view(study, number) for study, number in zip(studies, numbers, strict=True)])
        if self.modality_dropout:
            batch["present"] = torch.cat(
                [
                    drop_modalities(present[None], self.modality_dropout, generator)
                    for present, generator in zip(batch["present"], generators, strict=True)
                ]
            )
        return batch

    def wanted(self, rows: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """What the heads should say to rows, and the weights of the terms of their losses where answers are
        balanced."""
        wanted = targets([self.rows[row] for row in rows])
        if self.weights is None:
            return wanted, None
        return wanted, {name: table.gather(0, wanted[name]) for name, table in self.weights.items()}

    def texts(self, rows: Sequence[int], flipped: Sequence[bool] | None = None) -> dict[str, Any]:
        """Rows' questions and answers, with the other side named where the study is seen flipped; and what the heads
        should say, which has no sides."""
        tokens = [
            self.mirrored.get(row, self.tokens[row]) if other else self.tokens[row]
            for row, other in zip(rows, flipped or [False] * len(rows), strict=True)
        ]
        batch: dict[str, Any] = dict(
            self.processor.padded([one.question for one in tokens], [one.answer for one in tokens])
        )
        batch["targets"], weights = self.wanted(rows)
        return batch if weights is None else {**batch, "target_weights": weights}

    def _generator(self, draw: Draw) -> torch.Generator:
        row = zlib.crc32(self.rows[draw.row]["id"].encode())
        return torch.Generator().manual_seed(seed_of(self.seed, draw.epoch, row))


def _mirrored(rows: Sequence[Row], processor: MpLLMProcessor) -> dict[int, Tokens]:
    """The rows that name a side, as they are asked and answered about the mirror image, by their numbers."""
    sided = [number for number, row in enumerate(rows) if names_side(row["question"]) or names_side(row["answer"])]
    others = [{**rows[n], **{part: mirrored(rows[n][part]) for part in ("question", "answer")}} for n in sided]
    return dict(zip(sided, tokenised(others, processor), strict=True)) if sided else {}


def seed_of(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def targets(rows: Sequence[Row]) -> dict[str, Tensor]:
    """What the heads should say for each row."""
    return stack_targets([row["targets"] for row in rows])


def stack_targets(found: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Answers to questions as the heads learn them."""
    return {name: torch.tensor([answers[name] for answers in found]) for name in SIZES}


def answer_weights(rows: Sequence[Row]) -> dict[str, Float[Tensor, "..."]]:
    """For each head the weight of each class [A], for region of a 0 and a 1 of each entry [2, A]: inversely
    proportional to how often it occurs among the rows, and 1 on average over them."""
    weights = {}
    for name, wanted in targets(rows).items():
        if name == str(Task.REGION):
            ones = wanted.sum(dim=0)
            counts = torch.stack([len(rows) - ones, ones])
            kinds = (counts > 0).sum(dim=0)
        else:
            counts = torch.bincount(wanted, minlength=SIZES[name])
            kinds = (counts > 0).sum()
        weights[name] = torch.where(counts > 0, len(rows) / (kinds * counts.clamp(min=1)), 0.0)
    return weights
