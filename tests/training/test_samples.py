"""The order of training samples, what is drawn for each, and batches made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from voxmoe.errors import QuestionError
from voxmoe.model.heads import SIZES
from voxmoe.model.language import LanguageSettings, load_tokenizer
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.features import KeptFeatures
from voxmoe.training.samples import Collator, Course, Draw, Tokens, answer_weights, targets, tokenised
from voxmoe.training.tensors import write_tensors
from voxmoe.vqa.dataset import open_dataset

LENGTHS = np.random.default_rng(0).integers(20, 300, 1003).tolist()


def rows_of(course: Course, start: int, count: int) -> list[int]:
    return [course[place].row for place in range(start, start + count)]


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    course = Course(LENGTHS, 8, 400, seed=3)
    assert len(course) == 3200
    first, second = rows_of(course, 0, 1003), rows_of(course, 1003, 1003)
    assert sorted(first) == sorted(second) == list(range(1003))
    assert first != second
    assert {course[place].epoch for place in (0, 1002)} == {0}
    assert course[1003].epoch == 1
    assert first == rows_of(Course(LENGTHS, 8, 500, seed=3), 0, 1003)
    assert first != rows_of(Course(LENGTHS, 8, 400, seed=4), 0, 1003)


def test_a_place_does_not_depend_on_those_before() -> None:
    course, again = Course(LENGTHS, 8, 400, seed=3), Course(LENGTHS, 8, 400, seed=3)
    in_order = [course[place] for place in range(3200)]
    assert [again[place] for place in reversed(range(3200))] == in_order[::-1]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_group_holds_rows_of_about_the_same_length(epoch: int) -> None:
    course = Course(LENGTHS, 8, 400, seed=0)
    steps = -(-1003 * epoch // 8), 1003 * (epoch + 1) // 8
    spans = [np.ptp([LENGTHS[row] for row in rows_of(course, 8 * step, 8)]) for step in range(*steps)]
    shuffled = np.random.default_rng(1).permutation(LENGTHS)
    random_spans = [np.ptp(shuffled[start : start + 8]) for start in range(0, 1000, 8)]
    assert np.mean(spans) < 0.15 * np.mean(random_spans)


def test_a_step_of_several_groups_holds_rows_of_any_length() -> None:
    course = Course(LENGTHS, 32, 31, seed=0)
    groups = [np.ptp([LENGTHS[row] for row in rows_of(course, 8 * group, 8)]) for group in range(4 * 31)]
    steps = [np.ptp([LENGTHS[row] for row in rows_of(course, 32 * step, 32)]) for step in range(31)]
    assert np.mean(steps) > 4 * np.mean(groups)


def test_few_rows_fill_many_steps() -> None:
    course = Course([5, 6, 7], 8, 3, seed=0)
    counts = np.bincount(rows_of(course, 0, 24))
    assert counts.tolist() == [8, 8, 8]


@pytest.fixture(scope="module")
def processor(tiny_language: Path) -> MpLLMProcessor:
    return MpLLMProcessor(load_tokenizer(LanguageSettings(name=str(tiny_language))), grid=(8, 16, 16))


@pytest.fixture(scope="module")
def rows(dataset: Path) -> list[dict[str, Any]]:
    return open_dataset(dataset).rows("train")


@pytest.fixture
def features(rows: list[dict[str, Any]], tmp_path: Path) -> KeptFeatures:
    """Two views of each study, all ones and all twos."""
    paths = {}
    for study in {row["study"] for row in rows}:
        paths[study] = [tmp_path / f"{study}-{view}.safetensors" for view in (1, 2)]
        for view, path in enumerate(paths[study], 1):
            tokens = torch.full((4, 3, 5), float(view))
            write_tensors(path, {"tokens": tokens, "cls": tokens[:, 0].clone(), "present": torch.ones(4).bool()})
    return KeptFeatures(paths)


def test_texts_become_the_tokens_that_the_processor_gives(
    rows: list[dict[str, Any]], processor: MpLLMProcessor
) -> None:
    collate = Collator(processor, rows, tokenised(rows, processor), None)
    batch = collate([Draw(40, 7, 1), Draw(41, 2, 1)])
    expected = processor([rows[n]["question"] for n in (7, 2)], answers=[rows[n]["answer"] for n in (7, 2)])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert batch["place"] == 40
    assert batch["targets"]["volume"].tolist() == [rows[n]["targets"]["volume"] for n in (7, 2)]
    assert "tokens" not in batch


def test_over_long_and_empty_questions_are_named(rows: list[dict[str, Any]], processor: MpLLMProcessor) -> None:
    with pytest.raises(QuestionError, match=rf"{rows[1]['id']}: the question has \d+ tokens; at most 512"):
        tokenised([rows[0], {**rows[1], "question": "where " * 200}], processor)
    with pytest.raises(QuestionError, match=f"{rows[0]['id']}: the question is empty"):
        tokenised([{**rows[0], "question": " "}], processor)


def test_what_is_drawn_for_a_sample_does_not_depend_on_its_batch(
    rows: list[dict[str, Any]], processor: MpLLMProcessor, features: KeptFeatures
) -> None:
    tokens = tokenised(rows, processor)
    collate = Collator(processor, rows, tokens, features, modality_dropout=0.5, seed=3)
    draws = [Draw(place, place % len(rows), place // len(rows)) for place in range(3 * len(rows))]
    alone = [collate([draw]) for draw in draws]
    together = Collator(processor, rows, tokens, features, modality_dropout=0.5, seed=3)(draws[::-1])
    for name in ("tokens", "present"):
        assert torch.equal(torch.cat([one[name] for one in alone]), together[name].flip(0))
    present, views = together["present"].flip(0), together["tokens"].flip(0)[:, 0, 0, 0]
    assert present.any(dim=1).all()
    assert 0.4 < present.float().mean() < 0.7
    assert 0.3 < (views == 2).float().mean() < 0.7
    epochs = present.view(3, len(rows), 4)
    assert not torch.equal(epochs[0], epochs[1]), "another draw in another epoch"
    plain = collate.plain([0, 1])
    assert plain["present"].all()
    assert (plain["tokens"] == 1).all()


def test_sides_are_exchanged_in_the_views_that_are_flipped(
    rows: list[dict[str, Any]], processor: MpLLMProcessor, features: KeptFeatures
) -> None:
    sided = {"question": "Does it touch the left frontal lobe?", "answer": "Yes, on the left."}
    asked = [{**row, **sided} if number % 2 else row for number, row in enumerate(rows)]
    kept = KeptFeatures(features.paths, dict.fromkeys(features.paths, (False, True)))
    collate = Collator(processor, asked, tokenised(asked, processor), kept, seed=3)
    batch = collate([Draw(place, place, 0) for place in range(len(asked))])
    flipped = batch["tokens"][:, 0, 0, 0] == 2
    assert 0 < (flipped & (torch.arange(len(asked)) % 2 == 1)).sum() < len(asked) // 2
    other = {"question": "Does it touch the right frontal lobe?", "answer": "Yes, on the right."}
    shown = [{**row, **other} if number % 2 and flipped[number] else row for number, row in enumerate(asked)]
    expected = processor([row["question"] for row in shown], answers=[row["answer"] for row in shown])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert all(torch.equal(batch["targets"][name], found) for name, found in targets(rows).items())
    plain = Collator(processor, asked, tokenised(asked, processor), features, seed=3).plain([1])
    told = processor([asked[1]["question"]], answers=[asked[1]["answer"]])
    assert torch.equal(plain["question_ids"], told["question_ids"])


def test_balanced_weights_are_inverse_frequencies(rows: list[dict[str, Any]]) -> None:
    weights, wanted = answer_weights(rows), targets(rows)
    for name in SIZES:
        applied = weights[name].gather(0, wanted[name])
        torch.testing.assert_close(applied.mean(dim=0), torch.ones(applied.shape[1:]), msg=name)
    for name in ("volume", "shape", "spread", "out_of_scope"):
        classes = np.unique(wanted[name].numpy())
        expected = compute_class_weight("balanced", classes=classes, y=wanted[name].numpy())
        np.testing.assert_allclose(weights[name][classes].numpy(), expected, rtol=1e-6)
    frontal = wanted["region"][:, 0]
    shares = torch.stack([(frontal == value).sum() for value in (0, 1)]) / len(rows)
    torch.testing.assert_close(weights["region"][:, 0], 1 / (2 * shares))


def test_batches_carry_weights_where_they_are_balanced(rows: list[dict[str, Any]], processor: MpLLMProcessor) -> None:
    tokens = [Tokens([1, 2], [3, 2])] * len(rows)
    batch = Collator(processor, rows, tokens, None, balance=True)([Draw(0, 0, 0), Draw(1, 5, 0)])
    assert batch["target_weights"]["volume"].shape == (2,)
    assert batch["target_weights"]["region"].shape == (2, 11)
    assert batch["target_weights"]["volume"][1] == answer_weights(rows)["volume"][rows[5]["targets"]["volume"]]
    assert "target_weights" not in Collator(processor, rows, tokens, None)([Draw(0, 0, 0)])
