"""Answers as classes and back."""

from itertools import combinations

import pytest

from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, NO_REGION, REGIONS, Kind, Task
from voxmoe.vqa.encoding import decode_region, encode


def test_nothing_asked_is_class_0() -> None:
    found = encode(Kind.OUT_OF_SCOPE, {})
    assert (found["volume"], found["shape"], found["spread"], found["out_of_scope"]) == (0, 0, 0, 1)
    assert found["region"] == [0] * 10 + [1]
    assert decode_region(found["region"]) == ("not asked",)


def test_everything_asked() -> None:
    answers = {
        Task.VOLUME: ["5-10%"],
        Task.REGION: ["brainstem", "frontal"],
        Task.SHAPE: ["irregular"],
        Task.SPREAD: ["single lesion"],
    }
    found = encode(Kind.IN_SCOPE, answers)
    assert (found["volume"], found["shape"], found["spread"], found["out_of_scope"]) == (4, 6, 2, 0)
    assert found["region"] == [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("task", EXCLUSIVE_TASKS)
def test_every_exclusive_term_has_its_class(task: Task) -> None:
    assert [encode(Kind.PARTIAL, {task: [term]})[task.value] for term in CLASSES[task]] == list(  # type: ignore[literal-required]
        range(len(CLASSES[task]))
    )


def test_every_set_of_regions_comes_back() -> None:
    for size in range(1, 10):
        for regions in combinations(REGIONS, size):
            assert decode_region(encode(Kind.IN_SCOPE, {Task.REGION: regions})["region"]) == regions


def test_absent_and_nowhere_are_two_things() -> None:
    absent = encode(Kind.IN_SCOPE, {Task.REGION: ["N/A"]})["region"]
    nowhere = encode(Kind.IN_SCOPE, {Task.REGION: [NO_REGION]})["region"]
    assert (absent, nowhere) == ([0] * 9 + [1, 0], [0] * 11)
    assert decode_region(absent) == ("N/A",)
    assert decode_region(nowhere) == (NO_REGION,)


def test_not_asked_and_absent_win_over_regions() -> None:
    assert decode_region([1] * 11) == ("not asked",)
    assert decode_region([1] * 10 + [0]) == ("N/A",)


@pytest.mark.parametrize("kind", Kind)
def test_both_out_of_scope_kinds_are_one_class(kind: Kind) -> None:
    assert encode(kind, {Task.SHAPE: ["oval"]})["out_of_scope"] == (0 if kind is Kind.IN_SCOPE else 1)


def test_an_unknown_term_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        encode(Kind.IN_SCOPE, {Task.SHAPE: ["triangular"]})
