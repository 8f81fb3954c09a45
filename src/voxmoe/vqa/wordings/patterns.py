"""Texts that are numbered without being listed: number -> digits -> one choice for each slot of a sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any


@dataclass(frozen=True)
class Pattern:
    """A form of sentence: every combination of its slots' choices is one text."""

    slots: tuple[Sequence[Any], ...]
    render: Callable[..., Any]

    @cached_property
    def size(self) -> int:
        return prod(len(slot) for slot in self.slots)

    def __getitem__(self, index: int) -> Any:
        choices = []
        for slot in self.slots:
            index, digit = divmod(index, len(slot))
            choices.append(slot[digit])
        return self.render(*choices)


class Mix:
    """Patterns in fixed shares, numbered in turn, so that those with most combinations do not drown the others.

    As many texts are used of each as the scarcest allows; they are spread over all that it has.
    """

    def __init__(self, *shares: tuple[int, Pattern]) -> None:
        self._rows = min(pattern.size // share for share, pattern in shares)
        self._lanes = [
            (pattern, lane * self._rows, _stride(pattern.size)) for share, pattern in shares for lane in range(share)
        ]
        self.size = self._rows * len(self._lanes)

    def __getitem__(self, index: int) -> Any:
        row, lane = divmod(index, len(self._lanes))
        pattern, start, stride = self._lanes[lane]
        return pattern[(start + row) * stride % pattern.size]


def _stride(size: int) -> int:
    """A step that meets every number below `size` once before it comes round."""
    stride = max(1, round(0.618 * size))
    while gcd(stride, size) > 1:
        stride += 1
    return stride
