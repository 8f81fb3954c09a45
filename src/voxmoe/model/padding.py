"""Token ids of several texts -> one tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def padded(sequences: Sequence[list[int]], fill: int, left: bool) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """The ids, filled up on the left or on the right to the longest, and a mask of ones where they are ids."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), fill)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if left else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence, dtype=ids.dtype)
        mask[row, place] = 1
    return ids, mask


def alike(fronts: Sequence[int], ends: Sequence[int], worth: int) -> list[list[int]]:
    """Rows parted into groups whose sequences are of like length, so that little is computed on padding.

    The front of a row is filled up to the longest of its group, and so is its end. Of the groups that follow one
    another when rows are sorted by their ends, those that together are the least, where another group counts as `worth`
    tokens.
    """
    order = sorted(range(len(ends)), key=lambda row: (ends[row], fronts[row]))
    best = [(0, 0)]  # of the first rows in order: the least tokens, and where the last group starts
    for stop in range(1, len(order) + 1):
        front = end = 0
        found = []
        for start in range(stop - 1, -1, -1):
            front, end = max(front, fronts[order[start]]), max(end, ends[order[start]])
            found.append((best[start][0] + (stop - start) * (front + end) + worth, start))
        best.append(min(found))
    groups = []
    stop = len(order)
    while stop:
        start = best[stop][1]
        groups.append(sorted(order[start:stop]))
        stop = start
    return groups[::-1]
