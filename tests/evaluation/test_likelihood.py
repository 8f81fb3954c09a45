"""Choices weighed by their likelihood: probabilities of the answers of training, whatever the text says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from voxmoe.evaluation.likelihood import weigh_choices
from voxmoe.evaluation.reading import open_reader
from voxmoe.model.reader import VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.vqa.ct.exchange import prompt_of

QUESTIONS = ["Which side?", "How many are there?"]
CHOICES = [["left", "right"], ["one", "two", "more than two"]]


@pytest.fixture(scope="module")
def opened(tiny_reader: Path) -> tuple[VolumeReader, ReaderProcessor]:
    return open_reader(tiny_reader)


def seen(opened: tuple[VolumeReader, ReaderProcessor], rows: list[int]) -> dict[str, Any]:
    """The prompts of some questions about a volume of noise, and how they see it."""
    reader, processor = opened
    batch = dict(processor([prompt_of(QUESTIONS[row], CHOICES[row]) for row in rows]))
    noise = torch.randint(0, 256, (1, 4, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    whose = torch.zeros(len(rows), dtype=torch.int64)
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], noise, volume=whose)
    return {"prompts": batch, "view": view, "choices": [CHOICES[row] for row in rows]}


@pytest.mark.parametrize("lettered", [True, False])
@torch.no_grad()
def test_probabilities_are_those_of_the_targets_of_training(
    lettered: bool, opened: tuple[VolumeReader, ReaderProcessor], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, processor = opened
    monkeypatch.setattr(processor, "lettered", lettered)
    together = weigh_choices(reader, processor, **seen(opened, [0, 1]))
    for row, (choices, weighed) in enumerate(zip(CHOICES, together, strict=True)):
        assert sum(weighed) == pytest.approx(1)
        assert weigh_choices(reader, processor, **seen(opened, [row]))[0] == pytest.approx(weighed, rel=1e-3)
        losses = []
        for letter, choice in zip("ABC", choices, strict=False):
            answer = processor.answer(f"{letter}. {choice}" if lettered else choice)
            asked = seen(opened, [row])
            told = processor.padded_answers([answer])
            losses.append(float(reader(**asked["prompts"], **told, view=asked["view"]).losses["text"]) * len(answer))
        assert weighed == pytest.approx((-torch.tensor(losses)).softmax(dim=0).tolist(), rel=1e-3)
