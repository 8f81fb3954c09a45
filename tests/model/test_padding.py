"""Rows of like length: what is computed together, against every way of parting them."""

from itertools import combinations

import numpy as np
import pytest

from voxmoe.model.padding import alike, padded


def test_texts_are_filled_up_on_the_side_that_is_asked_for() -> None:
    ids, mask = padded([[1, 2], [3]], 9, left=True)
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = padded([[1, 2], [3]], 9, left=False)
    assert ids.tolist() == [[1, 2], [3, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def _tokens(groups: list[list[int]], fronts: list[int], ends: list[int], worth: int) -> int:
    return sum(
        worth + len(rows) * (max(fronts[row] for row in rows) + max(ends[row] for row in rows)) for rows in groups
    )


@pytest.mark.parametrize("worth", [0, 20, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_way_to_part_sorted_rows_computes_less(seed: int, worth: int) -> None:
    generator = np.random.default_rng(seed)
    fronts, ends = generator.integers(1, 40, (2, 8)).tolist()
    found = alike(fronts, ends, worth)
    assert sorted(row for rows in found for row in rows) == list(range(8))
    order = sorted(range(8), key=lambda row: (ends[row], fronts[row]))
    every = [
        [order[start:stop] for start, stop in zip((0, *cuts), (*cuts, 8), strict=True)]
        for count in range(8)
        for cuts in combinations(range(1, 8), count)
    ]
    least = min(_tokens(groups, fronts, ends, worth) for groups in every)
    assert _tokens(found, fronts, ends, worth) == least


def test_rows_alike_stay_together() -> None:
    assert alike([5, 5, 5], [3, 3, 3], 1) == [[0, 1, 2]]
    assert alike([5, 5, 5, 5], [3, 90, 3, 90], 1) == [[0, 2], [1, 3]]
