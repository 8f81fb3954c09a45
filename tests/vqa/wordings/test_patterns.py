"""Numbered texts: every combination once, patterns in their shares."""

from collections import Counter
from itertools import product
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmoe.vqa.wordings.patterns import Mix, Pattern

SLOTS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def pattern(name: str, lengths: list[int]) -> Pattern:
    return Pattern(tuple(range(length) for length in lengths), lambda *choices: (name, choices))


@given(SLOTS)
def test_a_pattern_holds_every_combination_once(lengths: list[int]) -> None:
    numbered = pattern("a", lengths)
    texts = [numbered[index] for index in range(numbered.size)]
    assert sorted(texts) == [("a", choices) for choices in product(*map(range, lengths))]


@given(SLOTS, SLOTS, st.integers(1, 3), st.integers(1, 3))
def test_a_mix_keeps_its_shares_and_says_nothing_twice(first: list[int], second: list[int], one: int, two: int) -> None:
    patterns = pattern("a", first), pattern("b", second)
    mix = Mix((one, patterns[0]), (two, patterns[1]))
    texts = [mix[index] for index in range(mix.size)]
    assert len(set(texts)) == len(texts)
    rows = min(patterns[0].size // one, patterns[1].size // two)
    assert Counter(name for name, _ in texts) == Counter({"a": one * rows, "b": two * rows})
    for row in range(rows):
        lanes = texts[row * (one + two) : (row + 1) * (one + two)]
        assert [name for name, _ in lanes] == ["a"] * one + ["b"] * two


@pytest.mark.parametrize("size", [1, 2, 7, 30, 1_000, 756_000])
def test_a_mix_reaches_all_over_a_big_pattern(size: int) -> None:
    big = pattern("a", [size])
    mix = Mix((1, big), (1, pattern("b", [min(size, 10)])))
    chosen = [choices[0] for name, choices in map(mix.__getitem__, range(mix.size)) if name == "a"]
    assert len(set(chosen)) == min(size, 10)
    assert max(chosen) - min(chosen) >= 0.7 * (size - 1)
    assert gcd(size, max(1, chosen[1] - chosen[0] if len(chosen) > 1 else 1)) == 1
