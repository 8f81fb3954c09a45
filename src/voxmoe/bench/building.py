"""`build_dataset` against nothing but reading the same files: how long the work on them takes beside that.

The reference reads and inflates every file of every study. Both sides do so in one process, and the files lie in the
operating system's cache; a first build has made the region atlas, as it does once a process.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxmoe.bench.cases import real_files
from voxmoe.bench.timing import summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.imaging.layouts import find_studies, profile_named
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.imaging.places import file_of
from voxmoe.imaging.study import StudyFiles
from voxmoe.imaging.volume import inflated
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import PAPER_V2

GLI_STUDIES = 1_621
"""The studies of the paper's largest dataset."""
_PHANTOMS = 8


def _read(studies: Sequence[StudyFiles]) -> None:
    for files in studies:
        for place in (*files.images.values(), files.mask):
            if place is not None:
                inflated(file_of(place))


def _build(cohort: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        report = build_dataset(cohort, Path(out), PAPER_V2)
    if report.skipped:
        raise BenchError(f"{cohort}: {len(report.skipped)} studies cannot be used, so the times cannot be compared")


def _time(cohort: Path, data: str, runs: int) -> dict[str, Any]:
    studies = find_studies(cohort)
    _build(cohort)
    timing = time_in_turn(cohort.name, lambda: _build(cohort), lambda: _read(studies), runs)
    found = summary("build", data, runs, [timing])
    each, reading = timing.ours_s / len(studies), timing.reference_s / len(studies)
    return found | {
        "studies": len(studies),
        "studies_per_s": 1 / each,
        "build_over_reading": 1 / timing.ratio,
        "gli": {
            "studies": GLI_STUDIES,
            "build_s": GLI_STUDIES * each,
            "reading_s": GLI_STUDIES * reading,
            "beyond_reading_s": GLI_STUDIES * (each - reading),
        },
    }


def bench_build(cohort: Path | None = None, runs: int = 3) -> dict[str, Any]:
    """Time a build and the reading of a cohort; raises `BenchError` where a study of it cannot be used."""
    if cohort is not None:
        return _time(cohort, "given cohort", runs)
    if real := real_files("brats"):
        return _time(real[0], "real studies", runs)
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(Path(folder), _PHANTOMS, profile_named("gli-2024"), seed=0, jobs=1, progress=None)
        return _time(Path(folder), "phantoms", runs)
