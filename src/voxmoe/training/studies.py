"""The studies of a dataset: their files, and the files read ahead of what is done with them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import joblib

from voxmoe.errors import DatasetError
from voxmoe.imaging.grid import GriddedStudy, GridShape
from voxmoe.imaging.places import file_of
from voxmoe.imaging.study import Study, StudyFiles
from voxmoe.vqa.dataset import Dataset

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]
_MOST_AHEAD = 8
"""Results that wait at a time, of a study up to 100 MB each, however many cores there are."""


def study_files(dataset: Dataset, rows: Iterable[dict[str, Any]], with_masks: bool = False) -> dict[str, StudyFiles]:
    """The files of each study that the rows ask about; raises `DatasetError` if one is no longer where it was."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["study"], row)
    files = {name: dataset.study_files(row) for name, row in first.items()}
    for study in files.values():
        images = map(file_of, study.images.values())
        for path in (*images, *([study.mask] if with_masks and study.mask else [])):
            if not path.is_file():
                raise DatasetError(
                    f"{path}: an image of the dataset {dataset.root} is gone; put the cohort back, name the folder "
                    "that it is in now by VOXMOE_IMAGES=FOLDER, or build again"
                )
    return files


def ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results of `work` in order, computed a few items ahead: memory is that of these few. There is a thread for
    each core that this process may use, up to eight."""
    threads = min(joblib.cpu_count(), _MOST_AHEAD)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def cell_mm(study: Study, gridded: GriddedStudy, grid: GridShape) -> tuple[float, float, float]:
    """Edges of the cells of a study's grid along depth, height and width."""
    x, y, z = (
        (stop - start) * spacing
        for start, stop, spacing in zip(gridded.box.start, gridded.box.stop, study.reference.spacing, strict=True)
    )
    depth, height, width = grid
    return z / depth, y / height, x / width
