"""Datasets of imagesTr, labelsTr, imagesTs and a dataset.json -> the files of each study.

Two layouts: Task01 of the Medical Segmentation Decathlon, imagesTr/BRATS_001.nii.gz, with all modalities of a study in
one 4D file; and nnU-Net raw data, imagesTr/CASE_0000.nii.gz, with a file for each channel.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from voxmoe.errors import StudyError
from voxmoe.imaging.dataset_json import FILE_NAME, Description, read_description
from voxmoe.imaging.namings import naming_for, patient_of
from voxmoe.imaging.places import Channel, Place, claim
from voxmoe.imaging.study import StudyFiles
from voxmoe.vocabulary import PROFILES_BY_NAME, Modality, Profile

MASKS_OF = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
"""Folder of images -> folder of their masks."""
_TASK01 = PROFILES_BY_NAME["msd-task01"]
_TASK01_FILE = re.compile(r"(?P<case>BRATS_(\d{3}|[1-9]\d{3,}))\.nii(\.gz)?")
_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?")
_MASK_FILE = re.compile(r"(?P<case>.+?)\.nii(\.gz)?")
_Images = dict[str, dict[Modality, Place]]
"""Case -> modality -> image."""


def _files(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    """The files of a folder, if there is one, whose names fit; hidden ones (`._BRATS_001.nii.gz`) left out."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and not path.name.startswith("."):
            yield path, match


def _holds(dataset: Path, pattern: re.Pattern[str]) -> bool:
    return any(True for folder in MASKS_OF for _ in _files(dataset / folder, pattern))


def _task01_images(folder: Path, channels: tuple[Modality, ...]) -> _Images:
    files: dict[str, Path] = {}
    for path, match in _files(folder, _TASK01_FILE):
        claim(files, match["case"], path, f"the images of {match['case']}")
    return {
        case: {modality: Channel(path, index, len(channels)) for index, modality in enumerate(channels)}
        for case, path in files.items()
    }


def _channel_images(folder: Path, channels: tuple[Modality, ...]) -> _Images:
    images: _Images = defaultdict(dict)
    for path, match in _files(folder, _CHANNEL_FILE):
        case, index = match["case"], int(match["channel"])
        if index >= len(channels):
            declared = ", ".join(f"{number:04d} {modality}" for number, modality in enumerate(channels))
            raise StudyError(f"{path}: {FILE_NAME} declares no channel {index:04d}; there are {declared}")
        claim(images[case], channels[index], path, f"the {channels[index]} image of {case}")
    return images


def _masks(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for path, match in _files(folder, _MASK_FILE):
        claim(masks, match["case"], path, f"the mask of {match['case']}")
    return masks


def _description(dataset: Path) -> tuple[Description, bool]:
    """What the dataset.json says, and whether this is Task01, which is known without it."""
    is_task01 = _holds(dataset, _TASK01_FILE)
    if is_task01 and not (dataset / FILE_NAME).is_file():
        return Description(dataset / FILE_NAME, {}), True
    return read_description(dataset), is_task01


def labels_of(dataset: Path) -> Profile | None:
    """What the labels of such a dataset mean, None if it does not say."""
    said, is_task01 = _description(dataset)
    told = said.profile(_TASK01.name if is_task01 else "nnunet")
    return _TASK01 if is_task01 and (told is None or told.labels == _TASK01.labels) else told


def studies_of(dataset: Path, chosen: Profile | None) -> list[StudyFiles] | None:
    """The studies of a dataset's folder, None if it is no such dataset. Without a `chosen` profile it says its own.

    Raises `StudyError` for a dataset.json that is missing, broken, or does not fit the files, `LabelError` for labels
    that are none.
    """
    if not (_holds(dataset, _TASK01_FILE) or _holds(dataset, _CHANNEL_FILE)):
        return None
    said, is_task01 = _description(dataset)
    channels = said.channels or (naming_for(_TASK01).channels if is_task01 else ())
    if not channels:
        raise StudyError(f'{said.path}: has no "channel_names"; it has to say which channel is which modality')
    images_in = _task01_images if is_task01 else _channel_images
    profile = chosen or labels_of(dataset)
    found = []
    for folder, masks_folder in MASKS_OF.items():
        masks = _masks(dataset / masks_folder)
        for case, images in images_in(dataset / folder, channels).items():
            held_out = folder == "imagesTs" and case not in masks
            found.append(StudyFiles(case, patient_of(case), images, masks.get(case), profile, held_out=held_out))
    return found
