"""The studies of a dataset on the model's grid, each read once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from jaxtyping import Float32

from voxmoe.errors import DatasetError
from voxmoe.imaging.grid import GriddedStudy, GridShape, label_fractions, to_grid
from voxmoe.imaging.places import file_of
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.vqa.dataset import Dataset

Progress = Callable[[int, int], None]


def study_files(dataset: Dataset, rows: Iterable[dict[str, Any]]) -> dict[str, StudyFiles]:
    """The files of each study that the rows ask about; raises `DatasetError` if one is no longer where it was."""
    files = {row["study"]: dataset.study_files(row) for row in rows}
    for study in files.values():
        for path in map(file_of, study.images.values()):
            if not path.is_file():
                raise DatasetError(
                    f"{path}: an image of the dataset {dataset.root} is gone; put the cohort back or build again"
                )
    return files


def _read(
    files: StudyFiles, grid: GridShape, fractions_on: GridShape | None, values: Mapping[str, Sequence[int]]
) -> tuple[GriddedStudy, Float32[np.ndarray, "L D H W"] | None]:
    study = load_study(files, with_mask=fractions_on is not None)
    gridded = to_grid(study, grid)
    if fractions_on is None or study.mask is None:
        return gridded, None
    return gridded, label_fractions(study.mask.data, values, gridded.box, fractions_on)


def read_studies(
    files: Mapping[str, StudyFiles],
    grid: GridShape,
    progress: Progress,
    fractions_on: GridShape | None = None,
    values: Mapping[str, Sequence[int]] | None = None,
    jobs: int = -1,
) -> dict[str, tuple[GriddedStudy, Float32[np.ndarray, "L D H W"] | None]]:
    """Every study on `grid`, with its labels' fractions on the coarser grid `fractions_on` where that is asked for."""
    work = joblib.Parallel(n_jobs=jobs, return_as="generator", prefer="threads")(
        joblib.delayed(_read)(study, grid, fractions_on, values or {}) for study in files.values()
    )
    studies = {}
    for name, read in zip(files, work, strict=True):
        studies[name] = read
        progress(len(studies), len(files))
    return studies
