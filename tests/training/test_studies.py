"""Files are read ahead by the cores that a process may use, and no further than memory allows."""

import os
from collections.abc import Iterator

import pytest

from voxmoe.training.studies import ahead


@pytest.mark.parametrize(("allowed", "most"), [(3, 3), (128, 8)])
def test_few_results_wait_on_a_node_of_many_cores(allowed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    results = ahead(lambda number: number * number, items())
    assert next(results) == 0
    assert 1 < taken <= most + 1
    assert list(results) == [number * number for number in range(1, 200)]
