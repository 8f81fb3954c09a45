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
