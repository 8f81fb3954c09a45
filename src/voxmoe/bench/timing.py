"""Two ways of doing the same, timed in turn, so that whatever else the machine does falls on both alike."""

import time
from collections.abc import Callable, Mapping
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


def seconds_in_turn(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The median seconds of each."""
    turns = [[_seconds(work) for work in works.values()] for _ in range(runs)]
    return dict(zip(works, map(median, zip(*turns, strict=True)), strict=True))


def time_in_turn(case: str, ours: Callable[[], object], reference: Callable[[], object], runs: int) -> Timing:
    found = seconds_in_turn({"reference": reference, "ours": ours}, runs)
    return Timing(case, found["ours"], found["reference"])


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
