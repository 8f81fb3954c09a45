"""One row: its words as M3D has them, its checks, and the way into a file and back."""

from dataclasses import replace

import pytest

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange, from_row, to_row

CLOSED = Exchange(
    "q1",
    "phantom",
    "volumes/p1.nii.gz",
    "p1",
    CTTask.CLOSED,
    "side",
    "Which lung has the nodule?",
    "left",
    ("right", "left"),
)
OPEN = replace(CLOSED, id="q2", task=CTTask.OPEN, choices=(), slice=4, rescale=(1.0, -1024.0))


def test_a_closed_question_is_put_and_answered_with_letters() -> None:
    assert CLOSED.prompt == "Which lung has the nodule? Choices: A. right B. left"
    assert (CLOSED.target, CLOSED.told(with_letter=True), CLOSED.told(with_letter=False)) == (
        "B. left",
        "B. left",
        "left",
    )
    assert CLOSED.letter == "B"


def test_an_open_question_is_put_as_it_is() -> None:
    assert (OPEN.prompt, OPEN.target, OPEN.letter) == ("Which lung has the nodule?", "left", None)
    assert OPEN.told(with_letter=True) == "left"


@pytest.mark.parametrize("exchange", [CLOSED, OPEN])
def test_rows_come_back(exchange: Exchange) -> None:
    assert from_row(to_row(exchange)) == exchange


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": " "}, "its answer is empty"),
        ({"question": ""}, "its question is empty"),
        ({"choices": ()}, "closed ones have some"),
        ({"task": CTTask.OPEN}, "is open and has 2 choices"),
        ({"choices": ("left",)}, "2 to 8 that differ"),
        ({"choices": ("left", "left")}, "2 to 8 that differ"),
        ({"answer": "both"}, "'both' is none of its choices"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        replace(CLOSED, **change)  # type: ignore[arg-type]
