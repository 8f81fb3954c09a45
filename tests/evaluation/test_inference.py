"""The passes of a model: the order of rows, batches and missing modalities change nothing that they should not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxmoe.evaluation.evaluate import MODALITY_SUBSETS
from voxmoe.evaluation.inference import EVERYTHING, features_of, hear, load, write
from voxmoe.vocabulary import Modality
from voxmoe.vqa.dataset import open_dataset

Contest = tuple[Any, Any, list[dict[str, Any]], Any]
"""Model, processor, rows and features."""


@pytest.fixture(scope="module")
def contest(tiny_model: Path, dataset: Path) -> Contest:
    model, processor = load(tiny_model)
    opened = open_dataset(dataset)
    rows = [*opened.rows("test")[:12], *opened.rows("validation")[:8]]  # two batches
    return model, processor, rows, features_of(model, opened, rows, lambda stage, done, total: None)


def test_rows_keep_their_order_and_batches_change_nothing(contest: Contest) -> None:
    model, processor, rows, features = contest
    (together,) = hear(model, processor, rows, features)
    assert together.asked.all()
    for place in (0, 7, len(rows) - 1):
        (alone,) = hear(model, processor, rows[place : place + 1], features)
        for name, chances in alone.chances.items():
            np.testing.assert_allclose(together.chances[name][place], chances[0], atol=1e-5)
        np.testing.assert_allclose(together.experts[place], alone.experts[0], atol=1e-5)
    (backwards,) = hear(model, processor, rows[::-1], features)
    np.testing.assert_allclose(backwards.chances["shape"][::-1], together.chances["shape"], atol=1e-5)


def test_a_subset_is_what_a_study_without_the_other_files_gives(contest: Contest) -> None:
    model, processor, rows, features = contest
    kept = frozenset({Modality.T1GD, Modality.FLAIR})
    mask = torch.tensor([modality in kept for modality in Modality])
    without = {
        name: {
            "tokens": seen["tokens"] * mask[:, None, None],
            "cls": seen["cls"] * mask[:, None],
            "present": seen["present"] & mask,
        }
        for name, seen in features.items()
    }
    (alone,) = hear(model, processor, rows, without)
    found = dict(zip(MODALITY_SUBSETS, hear(model, processor, rows, features, MODALITY_SUBSETS), strict=True))
    for name, chances in alone.chances.items():
        np.testing.assert_allclose(found[kept].chances[name], chances, atol=1e-5)
    (everything,) = hear(model, processor, rows, features)
    np.testing.assert_allclose(found[EVERYTHING].chances["volume"], everything.chances["volume"], atol=1e-5)
    assert not np.allclose(found[kept].chances["volume"], everything.chances["volume"], atol=1e-4)


def test_there_are_fifteen_subsets_and_all_modalities_come_last() -> None:
    assert len(set(MODALITY_SUBSETS)) == 15
    assert [len(subset) for subset in MODALITY_SUBSETS] == [1] * 4 + [2] * 6 + [3] * 4 + [4]
    assert MODALITY_SUBSETS[-1] == EVERYTHING


def test_a_study_without_any_of_a_subset_is_not_asked(contest: Contest) -> None:
    model, processor, rows, features = contest
    poor = rows[0]["study"]
    t2_only = torch.tensor([modality is Modality.T2 for modality in Modality])
    features = {**features, poor: {**features[poor], "present": t2_only}}
    t1, t2 = hear(model, processor, rows, features, [frozenset({Modality.T1}), frozenset({Modality.T2})])
    assert t1.asked.tolist() == [row["study"] != poor for row in rows]
    assert t2.asked.all()
    assert np.isnan(t1.chances["shape"][~t1.asked]).all()
    assert not np.isnan(t1.chances["shape"][t1.asked]).any()


def test_texts_come_in_the_order_of_the_rows(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that repeats the question: each text is that of its row."""
    model, processor, rows, features = contest
    monkeypatch.setattr(type(model), "generate", lambda self, question_ids, **batch: question_ids)
    assert write(model, processor, rows, features) == [row["question"] for row in rows]
