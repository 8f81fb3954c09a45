"""Two ways of doing the same, timed in turn, so that whatever else the machine does falls on both alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds that one case takes, each the median over the runs."""

    case: str
    ours_s: float
    reference_s: float

    @property
    def ratio(self) -> float:
        return self.reference_s / self.ours_s


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_in_turn(case: str, ours: Callable[[], object], reference: Callable[[], object], runs: int) -> Timing:
    turns = [(_seconds(reference), _seconds(ours)) for _ in range(runs)]
    reference_s, ours_s = (median(times) for times in zip(*turns, strict=True))
    return Timing(case, ours_s, reference_s)


def summary(name: str, data: str, runs: int, timings: list[Timing]) -> dict[str, Any]:
    """The result of a benchmark as `voxmoe bench --json` prints it: medians over the cases."""
    ratios = [timing.ratio for timing in timings]
    return {
        "name": name,
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ours_s": median(timing.ours_s for timing in timings),
        "reference_s": median(timing.reference_s for timing in timings),
        "runs": runs,
        "cases": len(timings),
        "data": data,
        "by_case": {
            timing.case: {"ratio": timing.ratio, "ours_s": timing.ours_s, "reference_s": timing.reference_s}
            for timing in timings
        },
    }
