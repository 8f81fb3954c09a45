"""The order in which volumes are asked about, and the batches."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from voxmoe.model.reading import ReaderProcessor
from voxmoe.training.exchanges import ReaderCollator, VolumeCourse, shown
from voxmoe.training.pictures import KeptPictures
from voxmoe.training.samples import Draw
from voxmoe.training.tensors import write_tensors
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

BLANK = Exchange("", "phantom", "", "", CTTask.OPEN, "size", "how large?", "two")


def some(volumes: int = 5, **numbers: int) -> list[Exchange]:
    """Of each volume so many exchanges of each task."""
    found = []
    for volume in range(volumes):
        for task in CTTask:
            choices = ("two", "three") if task is CTTask.CLOSED else ()
            for number in range(numbers.get(task, 0) + volume % 2):
                own = replace(BLANK, id=f"{volume}/{task}/{number}", image=f"{volume}.nii.gz", patient=str(volume))
                found.append(replace(own, task=task, choices=choices, question=f"how {task} {number}?"))
    return found


def course_of(exchanges: list[Exchange], steps: int = 50, **changes: object) -> VolumeCourse:
    settings = {"shares": None, "together": 4, "step_size": 8, "steps": steps, "seed": 1} | changes
    return VolumeCourse(exchanges, **settings)  # type: ignore[arg-type]


def test_groups_are_about_one_volume_and_epochs_about_all() -> None:
    exchanges = some(report=1, closed=6, open=3)
    course = course_of(exchanges)
    sizes = Counter(exchange.image for exchange in exchanges)
    assert course.samples == sum(-(-size // 4) * 4 for size in sizes.values())
    rows = [course[place].row for place in range(course.samples)]
    images = [exchanges[row].image for row in rows]
    assert all(len(set(images[start : start + 4])) == 1 for start in range(0, len(images), 4))
    assert Counter(images) == {image: -(-size // 4) * 4 for image, size in sizes.items()}
    assert set(rows) == set(range(len(exchanges)))  # without shares, an epoch asks everything


def test_shares_decide_how_often_a_task_is_asked() -> None:
    exchanges = some(volumes=40, report=1, closed=12, open=3)
    course = course_of(exchanges, shares={CTTask.REPORT: 1.0, CTTask.CLOSED: 1.0})
    asked = Counter(exchanges[course[place].row].task for place in range(course.samples))
    assert asked[CTTask.OPEN] == 0
    assert asked[CTTask.REPORT] / asked.total() == pytest.approx(0.5, abs=0.02)
    only = [exchange for exchange in exchanges if exchange.task is CTTask.OPEN]
    assert course_of(only, shares={CTTask.REPORT: 1.0})[0].row >= 0  # a volume without such tasks is asked what it has


def test_the_order_depends_on_seed_and_place_alone() -> None:
    exchanges = some(report=1, closed=6, open=3)
    one, again, other = course_of(exchanges), course_of(exchanges), course_of(exchanges, seed=2)
    places = [200, 3, 77, 140]
    assert [one[place] for place in places] == [again[place] for place in reversed(places)][::-1]
    assert [one[place].row for place in range(40)] != [other[place].row for place in range(40)]
    assert [one[place].row for place in range(40)] != [one[place + one.samples].row for place in range(40)]
    assert len(one) == 400


def test_a_batch_holds_each_volume_once(tiny_language: Path, tmp_path: Path) -> None:
    depths = {"0.nii.gz": 3, "1.nii.gz": 2}
    pixels = {name: torch.randint(0, 256, (depth, 1, 4, 4), dtype=torch.uint8) for name, depth in depths.items()}
    for name, tensor in pixels.items():
        write_tensors(tmp_path / name, {"pixels": tensor, "shares": torch.rand(len(tensor), 2, 2, 2).half()})
    pictures = KeptPictures({name: tmp_path / name for name in depths})
    exchanges = some(volumes=2, closed=1, open=1)
    exchanges[1] = replace(exchanges[1], slice=2)
    collate = ReaderCollator(
        ReaderProcessor(AutoTokenizer.from_pretrained(tiny_language)), exchanges, pictures, dense=True
    )
    rows = [len(exchanges) - 1, 0, 1, len(exchanges) - 1]
    batch = collate([Draw(7, row, 0) for row in rows])
    assert batch["place"] == 7
    assert batch["volume"].tolist() == [0, 1, 2, 0]
    assert batch["present"].sum(dim=1).tolist() == [2, 3, 1]
    assert torch.equal(batch["pixels"][0, :2], pixels["1.nii.gz"])
    assert torch.equal(batch["pixels"][2, 0], pixels["0.nii.gz"][2])
    assert batch["shares"].shape == (6, 2, 4)
    assert batch["task"].tolist() == [list(CTTask).index(exchanges[row].task) for row in rows]
    assert shown(exchanges[1]) == ("0.nii.gz", 2)
    told = collate.processor.decode_answers(batch["answer_ids"])
    assert told == [exchanges[row].target for row in rows]
    assert "pixels" not in collate.batch(exchanges, volumes=False)
    assert "answer_ids" not in collate.batch(exchanges, answers=False)
