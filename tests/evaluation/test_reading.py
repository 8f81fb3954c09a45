"""A reader asked all exchanges of a split: what stands beside it, and what is told of answers that were cut."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from voxmoe.errors import DatasetError
from voxmoe.evaluation.methods import MAJORITY, RANDOM
from voxmoe.evaluation.reading import LONGEST, READER, evaluate_reader
from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.torso import Torso
from voxmoe.imaging.volume import write_volume
from voxmoe.model.reader import VolumeReader
from voxmoe.training.pictures import PictureCache
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.dataset import write_ct_dataset
from voxmoe.vqa.ct.exchange import Exchange

LIMITS = {CTTask.REPORT: 6, CTTask.CLOSED: 3, CTTask.OPEN: 3}
END = 2


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxmoe.evaluation.reading.LONGEST", LIMITS)


@pytest.fixture
def images(torsos: list[Torso], tmp_path: Path) -> Path:
    for place in range(2):
        write_volume(torsos[0].volume, tmp_path / "images" / f"{place}.nii.gz")
    return tmp_path / "images"


def asked(number: int, **changes: Any) -> list[Exchange]:
    image, patient = f"{number}.nii.gz", f"p{number}"
    return [
        Exchange(f"{number}c", "own", image, patient, CTTask.CLOSED, "side", "Where?", "left", ("right", "left")),
        Exchange(f"{number}o", "own", image, patient, CTTask.OPEN, "side", "Where?", "left", **changes),
        Exchange(f"{number}r", "own", image, patient, CTTask.REPORT, "report", "Say.", "No nodule."),
    ]


def written(exchanges: list[Exchange], images: Path, splits: dict[str, str]) -> Path:
    write_ct_dataset(exchanges, images.parent / "set", images, splits=splits)
    return images.parent / "set"


def test_baselines_learn_from_training_exchanges_alone(tiny_reader: Path, images: Path) -> None:
    """Not from the answers that are asked for, where there are no others."""
    place = written(asked(0), images, {"p0": "test"})
    record = evaluate_reader(tiny_reader, place)
    assert record["counts"]["learnt"]["exchanges"] == 0
    assert MAJORITY not in record["methods"]
    assert {RANDOM, READER} < set(record["methods"])
    both = written([*asked(0), *asked(1)], images, {"p0": "test", "p1": "train"})
    assert MAJORITY in evaluate_reader(tiny_reader, both)["methods"]


def test_answers_that_reach_the_limit_without_an_end_are_counted(
    tiny_reader: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = written(asked(0), images, {"p0": "test"})
    said = {6: [5, 6, 7, 8, 9, 10], 3: [5, 6, END]}
    monkeypatch.setattr(
        VolumeReader, "generate", lambda self, max_new_tokens, **_: torch.tensor([said[max_new_tokens]])
    )
    record = evaluate_reader(tiny_reader, place)
    assert record["cut"] == {READER: {"report": 1, "closed": 0, "open": 0}}
    assert record["manifest"]["settings"]["longest"] == {"report": 6, "closed": 3, "open": 3}


def test_a_report_may_be_as_long_as_published_ones() -> None:
    assert LONGEST[CTTask.REPORT] == 1024


@pytest.mark.parametrize("slice", [0, 10**6])
def test_slices_of_a_file_need_a_model_that_draws_it_whole(
    slice: int, tiny_reader: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PictureCache, "of_all", None)
    place = written(asked(0, slice=slice), images, {"p0": "test"})
    with pytest.raises(DatasetError, match=rf"0o: asks about slice {slice} of 0\.nii\.gz.*pictures\.depth=4"):
        evaluate_reader(tiny_reader, place)


def test_a_slice_beyond_the_file_is_named_before_anything_is_said(
    tiny_reader: Path, images: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(tiny_reader, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    config["settings"]["pictures"]["depth"] = None
    (whole / "config.json").write_text(json.dumps(config))
    last = read_ct(images / "0.nii.gz").shape[2] - 1
    evaluate_reader(whole, written(asked(0, slice=last), images, {"p0": "test"}))
    with pytest.raises(DatasetError, match=rf"0o: asks about slice {last + 1} of 0\.nii\.gz, which has {last + 1}, "):
        evaluate_reader(whole, written(asked(0, slice=last + 1), images, {"p0": "test"}))


def test_too_long_a_prompt_is_named_before_anything_is_drawn(
    tiny_reader: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PictureCache, "of_all", None)
    monkeypatch.setattr("voxmoe.model.reading.MAX_PROMPT_TOKENS", 12)
    place = written(asked(0), images, {"p0": "test"})
    with pytest.raises(DatasetError, match=r"^0c: the question has .* at most 12 are read"):
        evaluate_reader(tiny_reader, place)
