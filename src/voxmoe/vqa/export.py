"""A dataset in other forms, by name."""

from collections.abc import Callable
from pathlib import Path

from voxmoe.errors import DatasetError
from voxmoe.vqa.dataset import Dataset
from voxmoe.vqa.embedded import write_embedded
from voxmoe.vqa.mpllm_json import write_mpllm

EXPORTS: dict[str, Callable[[Dataset, Path, Callable[[int, int], None]], None]] = {
    "mpllm": write_mpllm,
    "nifti": write_embedded,
}


def export_dataset(
    dataset: Dataset, out: Path, form: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write a dataset to the folder `out` in one of `EXPORTS`; raises `DatasetError` for any other form, and if `out`
    holds a dataset or a model, as their manifest.json says."""
    if form not in EXPORTS:
        raise DatasetError(f"no format is called {form!r}; there are {', '.join(EXPORTS)}")
    if out.resolve() == dataset.root.resolve():
        raise DatasetError(f"{out}: is the dataset itself; name another folder to write to")
    if (out / "manifest.json").exists():
        raise DatasetError(f"{out}: holds a dataset or a model (manifest.json) and no export; choose another folder")
    EXPORTS[form](dataset, out, progress)
