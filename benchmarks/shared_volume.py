"""What it saves to read a volume once for all prompts about it: a training step of the pocket CT reader, forward and
backward, against the same step with the volume before each prompt. docs/benchmarks.md has the figures.

    OMP_NUM_THREADS=2 python benchmarks/shared_volume.py
"""

from typing import Any

import torch
from torch import Tensor

from voxmoe.bench.timing import time_in_turn
from voxmoe.imaging.torso import draw_torso
from voxmoe.imaging.windows import WINDOWS, PictureSettings, to_pictures
from voxmoe.model.adaptation import AdaptationSettings
from voxmoe.model.image_text import FreshBase
from voxmoe.model.language import POCKET, LanguageSettings, LoraSettings
from voxmoe.model.reader import ReaderConfig, ReaderSettings, VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.vqa.ct.asking import exchanges_of

VOLUMES, TOGETHER, TURNS = 2, 12, 5
CLOSE = 1e-3
"""Of the largest gradient."""


def reader_of(merge: int) -> VolumeReader:
    """The reader of recipes/ct-shared.yaml, but with (12 / merge) ** 2 tokens for each of its 16 slices."""
    language = LanguageSettings(name=POCKET, lora=None, layers=8)
    windows = tuple(WINDOWS[name] for name in ("lung", "mediastinum", "bone"))
    settings = ReaderSettings(
        base=FreshBase(language=language, size=96, merge=merge),
        adaptation=AdaptationSettings(),
        pictures=PictureSettings(windows=windows, size=96, depth=16),
        lora=LoraSettings(rank=32, alpha=64, dropout=0.0),
        lettered=False,
    )
    reader = VolumeReader(ReaderConfig.of(settings))
    reader.learn("shared")
    return reader


def step(reader: VolumeReader, batch: dict[str, Tensor]) -> list[Tensor]:
    """Gradients of a batch's loss."""
    reader.zero_grad()
    reader(**batch).loss.backward()
    return [parameter.grad for parameter in reader.parameters() if parameter.grad is not None]


def main() -> None:
    torsos = [draw_torso(1, index) for index in range(VOLUMES)]
    exchanges = [exchanges_of(torso.truth, "-", "-", 0)[:TOGETHER] for torso in torsos]
    print("tokens of a volume", "prompts", "ours", "reference", "ratio", sep="\t")
    for merge in (4, 2):
        torch.manual_seed(0)
        reader = reader_of(merge)
        opened, processor = reader.opened, ReaderProcessor.of(reader)
        asked = [one for own in exchanges for one in own]
        batch = dict(processor([one.prompt for one in asked], answers=[one.told(with_letter=False) for one in asked]))
        settings = PictureSettings.model_validate(processor.pictures)
        batch["pixels"] = torch.stack([torch.from_numpy(to_pictures(torso.volume, settings)) for torso in torsos])
        batch["volume"] = torch.arange(VOLUMES).repeat_interleave(TOGETHER)

        def ours(reader: Any = reader, batch: dict[str, Tensor] = batch, opened: Any = opened) -> list[Tensor]:
            reader.opened = opened
            return step(reader, batch)

        def reference(reader: Any = reader, batch: dict[str, Tensor] = batch) -> list[Tensor]:
            reader.opened = lambda _, view: view
            return step(reader, batch)

        for found, expected in zip(ours(), reference(), strict=True):
            assert (found - expected).abs().max() <= CLOSE * expected.abs().max()
        timing = time_in_turn(str(merge), ours, reference, TURNS)
        told = [f"{timing.ours_s:.2f} s", f"{timing.reference_s:.2f} s", f"{timing.ratio:.1f}"]
        print(16 * (12 // merge) ** 2, len(asked), *told, sep="\t")


if __name__ == "__main__":
    main()
