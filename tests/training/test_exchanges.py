"""Which exchanges a volume reader learns from, in which order, and what a batch of them holds."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from voxmoe.errors import DatasetError
from voxmoe.model.reading import ReaderProcessor
from voxmoe.training.exchanges import (
    TASKS,
    ReaderCollator,
    VolumeCourse,
    check_drawn_whole,
    check_prompts,
    check_slices,
    shown,
)
from voxmoe.training.pictures import KeptPictures
from voxmoe.training.samples import Draw
from voxmoe.training.tensors import write_tensors
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

FIRST, SECOND = TASKS[:2]
DEPTHS = {"a.nii": 3, "b.nii": 5}


def about(image: str, number: int, task: CTTask, slice: int | None = None) -> Exchange:
    choices = ("yes", "no") if task is CTTask.CLOSED else ()
    return Exchange(f"{image}-{task}-{number}-{slice}", "own", image, image, task, "k", "is it?", "yes", choices, slice)


def asked(sizes: dict[str, tuple[int, ...]]) -> list[Exchange]:
    """Of each image so many exchanges of each task."""
    return [
        about(image, number, task)
        for image, counts in sizes.items()
        for task, count in zip(TASKS, counts, strict=False)
        for number in range(count)
    ]


UNEVEN = asked({"a.nii": (9, 2), "b.nii": (3, 4), "c.nii": (1,)})


def course(exchanges: list[Exchange] = UNEVEN, together: int = 4, seed: int = 0, **changes: object) -> VolumeCourse:
    shares = changes.get("shares")
    assert shares is None or isinstance(shares, dict)
    return VolumeCourse(exchanges, shares, together, step_size=4, steps=100, seed=seed)


def epoch_of(found: VolumeCourse, epoch: int) -> list[Draw]:
    return [found[place] for place in range(epoch * found.samples, (epoch + 1) * found.samples)]


@pytest.mark.parametrize("together", [1, 2, 4, 5])
def test_an_epoch_asks_about_each_volume_as_often_as_it_has_exchanges(together: int) -> None:
    own = Counter(map(shown, UNEVEN))
    found = course(together=together)
    for epoch in range(2):
        times = Counter(shown(UNEVEN[draw.row]) for draw in epoch_of(found, epoch))
        assert times == {what: -(-count // together) * together for what, count in own.items()}


@pytest.mark.parametrize("together", [2, 4])
def test_groups_are_about_one_volume(together: int) -> None:
    found = course(together=together)
    draws = epoch_of(found, 1)
    for start in range(0, len(draws), together):
        assert len({shown(UNEVEN[draw.row]) for draw in draws[start : start + together]}) == 1


def test_slices_of_a_volume_are_asked_about_apart() -> None:
    exchanges = [about("a.nii", number, FIRST, slice) for slice in (0, 1, None) for number in range(3)]
    draws = epoch_of(course(exchanges, together=3), 0)
    groups = [{exchanges[draw.row].slice for draw in draws[start : start + 3]} for start in range(0, 9, 3)]
    assert sorted(map(str, groups)) == ["{0}", "{1}", "{None}"]


def test_tasks_come_in_their_shares_whatever_their_numbers() -> None:
    """Where the share is a whole number exactly; else to the next whole number, and right on average."""
    exchanges = asked({"a.nii": (14, 2)})
    tasks = [exchanges[draw.row].task for draw in epoch_of(course(exchanges, shares={FIRST: 1.0, SECOND: 3.0}), 0)]
    assert Counter(tasks) == {FIRST: 4, SECOND: 12}
    found = course(asked({"a.nii": (5, 3)}), shares={FIRST: 1.0, SECOND: 2.0})
    seconds = [sum(draw.row >= 5 for draw in epoch_of(found, epoch)) for epoch in range(200)]
    assert set(seconds) == {5, 6}  # of 8 x 2/3
    assert sum(seconds) / 200 == pytest.approx(16 / 3, abs=0.12)


@pytest.mark.parametrize("together", [1, 4])
def test_shares_hold_over_volumes_that_have_some_of_the_tasks(together: int) -> None:
    """Reports of ten volumes, questions about two others, both about two: as of M3D-Cap and M3D-VQA together."""
    sizes = {f"report{n}.nii": (1,) for n in range(10)} | {"asked1.nii": (0, 6), "asked2.nii": (0, 12)}
    exchanges = asked(sizes | {"both1.nii": (1, 3), "both2.nii": (2, 6)})
    found = course(exchanges, together=together, shares={FIRST: 1.0, SECOND: 1.0, TASKS[2]: 5.0})
    epochs = [epoch_of(found, epoch) for epoch in range(300)]
    assert {len(draws) for draws in epochs} == {found.samples}
    assert len(exchanges) <= found.samples < len(exchanges) + together
    tasks = Counter(exchanges[draw.row].task for draws in epochs for draw in draws)
    assert tasks[FIRST] / tasks.total() == pytest.approx(0.5, abs=0.02)
    asked_about = Counter(exchanges[draw.row].image for draws in epochs for draw in draws)
    assert asked_about["asked2.nii"] / asked_about["asked1.nii"] == pytest.approx(2, rel=0.1)
    assert {draw.row for draws in epochs for draw in draws} == set(range(len(exchanges)))


def test_volumes_with_none_of_the_tasks_asked_for_are_left_out() -> None:
    exchanges = asked({"a.nii": (4, 4), "b.nii": (4,)})
    draws = epoch_of(course(exchanges, shares={SECOND: 1.0}), 0)
    assert len(draws) == 12
    assert {exchanges[draw.row].task for draw in draws} == {SECOND}
    with pytest.raises(DatasetError, match=rf"no exchange is of a task .* ask for \({TASKS[2]}\)"):
        course(exchanges, shares={TASKS[2]: 1.0, FIRST: 0.0})


def test_without_shares_an_epoch_of_full_groups_visits_every_exchange_once() -> None:
    exchanges = asked({"a.nii": (5, 3), "b.nii": (4,)})
    assert sorted(draw.row for draw in epoch_of(course(exchanges), 3)) == list(range(12))


def test_all_exchanges_are_visited_over_epochs() -> None:
    found = course(shares={FIRST: 1.0, SECOND: 4.0})
    assert {draw.row for epoch in range(200) for draw in epoch_of(found, epoch)} == set(range(len(UNEVEN)))


def test_the_order_is_decided_by_the_seed_alone_wherever_a_run_goes_on() -> None:
    whole = [course()[place] for place in range(3 * course().samples)]
    again = course()
    assert [again[place] for place in reversed(range(len(whole)))] == whole[::-1]
    assert [draw.place for draw in whole] == list(range(len(whole)))
    other = course(seed=1)
    assert [other[place].row for place in range(len(whole))] != [draw.row for draw in whole]
    assert [draw.row for draw in epoch_of(again, 0)] != [draw.row for draw in epoch_of(again, 1)]
    assert len(again) == 400


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptPictures:
    folder = tmp_path_factory.mktemp("kept")
    for name, depth in DEPTHS.items():
        generator = torch.Generator().manual_seed(depth)
        pixels = torch.randint(1, 256, (depth, 1, 4, 4), dtype=torch.uint8, generator=generator)
        shares = torch.rand(depth, 3, 2, 2, generator=generator).half()
        write_tensors(folder / name, {"pixels": pixels, "shares": shares})
    return KeptPictures({name: folder / name for name in DEPTHS})


@pytest.fixture(scope="module")
def processor(tiny_language: Path) -> ReaderProcessor:
    return ReaderProcessor(AutoTokenizer.from_pretrained(tiny_language), before="<s>", after="</s>")


MIXED = [about("b.nii", 0, FIRST), about("a.nii", 0, SECOND), about("b.nii", 1, SECOND), about("b.nii", 0, FIRST, 2)]


def test_a_batch_looks_at_each_volume_once(processor: ReaderProcessor, kept: KeptPictures) -> None:
    batch = ReaderCollator(processor, MIXED, kept, dense=True)([Draw(place, place - 7, 0) for place in range(7, 11)])
    assert batch["place"] == 7
    assert batch["volume"].tolist() == [0, 1, 0, 2]
    assert batch["present"].sum(dim=1).tolist() == [5, 3, 1]
    assert [TASKS[task] for task in batch["task"]] == [exchange.task for exchange in MIXED]
    expected = [kept.pixels("b.nii"), kept.pixels("a.nii"), kept.pixels("b.nii", 2)]
    for pixels, present, pictures in zip(batch["pixels"], batch["present"], expected, strict=True):
        assert torch.equal(pixels[present], pictures)
        assert not pixels[~present].any()
    assert torch.equal(expected[2][0], expected[0][2])
    shares = [kept.shares("b.nii"), kept.shares("a.nii"), kept.shares("b.nii", 2)]
    assert torch.equal(batch["shares"], torch.cat(shares))
    assert batch["shares"].shape == (batch["present"].sum(), 3, 4)


def test_what_a_batch_is_not_asked_for_it_lacks(processor: ReaderProcessor, kept: KeptPictures) -> None:
    seeing = ReaderCollator(processor, MIXED, kept)
    volumes = {"pixels", "present", "volume"}
    assert seeing.batch(MIXED).keys() - seeing.batch(MIXED, volumes=False).keys() == volumes
    assert seeing.batch(MIXED).keys() - seeing.batch(MIXED, answers=False).keys() == {"answer_ids", "answer_mask"}
    assert seeing.batch(MIXED).keys() - ReaderCollator(processor, MIXED, None).batch(MIXED).keys() == volumes


def test_a_slice_that_a_volume_does_not_have_is_named(kept: KeptPictures) -> None:
    check_slices([*MIXED, about("a.nii", 0, FIRST, 2)], kept)
    with pytest.raises(DatasetError, match=r"^a\.nii-.*: asks about slice 3 of a\.nii, which has 3, numbered from 0"):
        check_slices([*MIXED, about("a.nii", 0, FIRST, 3)], kept)


def test_slices_of_a_file_are_asked_about_where_it_is_drawn_whole() -> None:
    check_drawn_whole(MIXED, None)
    check_drawn_whole(MIXED[:3], 32)
    with pytest.raises(DatasetError, match=r"-2: asks about slice 2 of b\.nii.*set model\.pictures\.depth=null"):
        check_drawn_whole(MIXED, 32)


def test_the_first_prompt_that_is_too_long_is_named(processor: ReaderProcessor) -> None:
    long = replace(MIXED[1], question="where " * 200)
    check_prompts(processor, MIXED)
    with pytest.raises(DatasetError, match=rf"^{MIXED[1].id}: the question has \d+ tokens; at most 512 are read"):
        check_prompts(processor, [MIXED[0], long, replace(long, id="later"), MIXED[2]])


@pytest.mark.parametrize("lettered", [True, False])
def test_prompts_and_answers_are_those_of_each_exchange(
    lettered: bool, processor: ReaderProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "lettered", lettered)
    batch = ReaderCollator(processor, MIXED, None).batch(MIXED)
    for row, exchange in enumerate(MIXED):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        answer = batch["answer_ids"][row][batch["answer_mask"][row].bool()].tolist()
        assert (prompt, answer) == (processor.prompt(exchange.prompt), processor.answer(exchange.told(lettered)))
    assert list(chain(batch["prompt_mask"][:, -1], batch["answer_mask"][:, 0])) == [1] * 8
