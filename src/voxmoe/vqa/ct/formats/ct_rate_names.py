"""The names of CT-RATE's volumes, which RadGenome-ChestCT and 3D-RAD use too: SPLIT_PATIENT_SCAN_RECONSTRUCTION."""

import re
from dataclasses import dataclass

from voxmoe.errors import DatasetError

_NAME = re.compile(
    r"(?P<patient>(?P<split>train|valid|val|test)_\d+)(?P<scan>_[a-z]+)?(?P<reconstruction>_\d+)?(\.nii\.gz)?"
)
_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class VolumeName:
    """A name such as train_1_a_2.nii.gz taken apart."""

    file: str
    """train_1_a_2.nii.gz"""
    patient: str
    """train_1"""
    split: str
    """As published; `valid` is validation."""
    places: tuple[str, ...]
    """Where the file may lie: as published, as published after its rescaling was mended, as RadGenome-ChestCT publishes
    it, each of these below the folder of its split, all in one folder."""


def volume_name(written: str) -> VolumeName:
    """Raises `DatasetError` for any other name."""
    found = _NAME.fullmatch(written)
    if not found:
        raise DatasetError(f"{written or 'an empty name'}: no name of CT-RATE, such as train_1_a_2.nii.gz")
    split, patient, file = found["split"], found["patient"], f"{written.removesuffix('.nii.gz')}.nii.gz"
    if not (found["scan"] and found["reconstruction"]):  # a table of reports that names no reconstruction
        return VolumeName(file, patient, _SPLITS[split], (file,))
    below = f"{patient}/{patient}{found['scan']}/{file}"
    joined = f"{patient}/{patient}{found['scan'].removeprefix('_')}/{file}"
    published = (f"{split}/{below}", f"{split}_fixed/{below}", f"{split}_preprocessed/{joined}")
    return VolumeName(file, patient, _SPLITS[split], (*published, below, joined, file))
