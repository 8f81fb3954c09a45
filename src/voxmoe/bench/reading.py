"""`read_raw` (zlib-ng) against nibabel's own load and turn to RAS (zlib): the same arrays, byte for byte."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from voxmoe.bench.cases import real_files
from voxmoe.bench.timing import summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.imaging.volume import read_raw


def read_with_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in RAS order with the file's own numbers, and their affine."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj), np.asarray(image.affine)


def _check_equal(path: Path) -> None:
    ours, (voxels, affine) = read_raw(path), read_with_nibabel(path)
    same = ours.data.dtype == voxels.dtype and ours.data.tobytes() == voxels.tobytes()
    if not same or not np.array_equal(ours.affine, affine):
        raise BenchError(f"{path}: read otherwise than by nibabel")


def _time(paths: Sequence[Path], data: str, runs: int) -> dict[str, Any]:
    timings = []
    for path in paths:
        _check_equal(path)
        timings.append(time_in_turn(path.name, partial(read_raw, path), partial(read_with_nibabel, path), runs))
    return summary("reading", data, runs, timings)


def bench_reading(paths: Sequence[Path] | None = None, runs: int = 3) -> dict[str, Any]:
    """Time both readers on gzipped NIfTI files; raises `BenchError` where what they read differs."""
    if paths is not None:
        return _time(paths, "given files", runs)
    if real := real_files("gli2024_masks/*.nii.gz", "brats/*/*.nii.gz"):
        return _time(real, "real images and masks", runs)
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(Path(folder), 2, profile_named("gli-2024"), seed=0, jobs=1, progress=None)
        return _time(sorted(Path(folder).rglob("*.nii.gz")), "phantoms", runs)
