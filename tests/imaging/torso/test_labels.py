"""The table of labels is one, and choosing by it is what it says."""

import numpy as np

from voxmoe.imaging.torso.labels import BY_VALUE, IN_LUNGS, LABELS, SIDES, value_of, where


def test_each_value_and_each_key_is_there_once() -> None:
    assert len({label.value for label in LABELS}) == len({label.key for label in LABELS}) == len(LABELS)
    assert 0 not in BY_VALUE
    assert all(value_of(label.name, label.side) == label.value for label in LABELS)


def test_what_has_one_side_has_the_other() -> None:
    sided = {label.name for label in LABELS if label.side}
    assert all(value_of(name, side) in BY_VALUE for name in sided for side in SIDES)


def test_where_is_the_union_of_the_values() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert every[where(every, "heart", "kidney")].tolist() == [5, 9, 10]
    assert every[where(every, *IN_LUNGS, side="left")].tolist() == [3, 21, 23, 25, 27]
    assert not where(every, "heart", side="left").any()
