"""Sides in texts about a mirror image."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmoe.training.sides import doubtful, mirrored, names_side


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("It lies in the left frontal lobe.", "It lies in the right frontal lobe."),
        ("Right", "Left"),
        (" LEFT. ", " RIGHT. "),
        ("Is the oedema left or right?", "Is the oedema right or left?"),
        ("Both the Left and the right hemisphere.", "Both the Right and the left hemisphere."),
        ("A right-sided cavity, left temporal.", "A left-sided cavity, right temporal."),
        ("What is seen on the right?", "What is seen on the left?"),
        ("Mostly in the left posterior superior parietal lobe", "Mostly in the right posterior superior parietal lobe"),
        ("Left/right?", "Right/left?"),
        ("How large is it, upright and bereft?", "How large is it, upright and bereft?"),
    ],
)
def test_the_other_side_is_named(text: str, other: str) -> None:
    assert doubtful(text) is None
    assert mirrored(text) == other
    assert names_side(text) == (text != other)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("How much tissue is left?", "left"),
        ("In the left frontal lobe, Left untreated", "Left"),
        ("Is it right that the tumor is round?", "right"),
        ("Which modality was left out?", "left"),
    ],
)
def test_what_may_be_no_side_is_doubtful(text: str, word: str) -> None:
    assert doubtful(text) == word


@given(st.text(alphabet="LEFTRIGHleftrigh ./-", max_size=40))
def test_a_mirror_image_of_a_mirror_image_is_the_image(text: str) -> None:
    twice = mirrored(mirrored(text))
    assert twice.lower() == text.lower()
    assert len(mirrored(text).split()) == len(text.split())
