"""The files that describe a whole dataset, for the layouts that have some: path below the cohort -> content."""

import json
from pathlib import Path
from typing import Any

from voxmoe.imaging.namings import Naming, naming_for
from voxmoe.vocabulary import Profile

_WORDS = "Synthetic brain MRI, written by voxmoe phantom"


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _root(naming: Naming) -> Path:
    return Path(Path(naming.image).parts[0])


def _decathlon(profile: Profile, naming: Naming, studies: list[str]) -> dict[Path, bytes]:
    content = {
        "name": "BRATS",
        "description": _WORDS,
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", **{str(label.value): label.name.lower() for label in profile.labels}},
        "numTraining": len(studies),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{study}.nii.gz", "label": f"./labelsTr/{study}.nii.gz"} for study in studies
        ],
        "test": [],
    }
    return {_root(naming) / "dataset.json": _json(content)}


def _nnunet(profile: Profile, naming: Naming, studies: list[str]) -> dict[Path, bytes]:
    content = {
        "description": _WORDS,
        "channel_names": {str(number): modality for number, modality in enumerate(naming.channels)},
        "labels": {"background": 0, **{label.name: label.value for label in profile.labels}},
        "numTraining": len(studies),
        "file_ending": ".nii.gz",
    }
    return {_root(naming) / "dataset.json": _json(content)}


def _bids(profile: Profile, naming: Naming, studies: list[str]) -> dict[Path, bytes]:
    root, seen = _root(naming), {"BIDSVersion": "1.9.0", "GeneratedBy": [{"Name": "voxmoe phantom"}]}
    masks = root / "derivatives" / "lesions"
    table = "".join(f"{label.value}\t{label.name}\n" for label in profile.labels)
    patients = "".join(f"{study.split('_')[0]}\n" for study in studies)
    return {
        root / "dataset_description.json": _json({"Name": _WORDS, "DatasetType": "raw", **seen}),
        root / "participants.tsv": f"participant_id\n{patients}".encode(),
        masks / "dataset_description.json": _json({"Name": f"{_WORDS}: masks", "DatasetType": "derivative", **seen}),
        masks / "dseg.tsv": f"index\tname\n0\tBackground\n{table}".encode(),
    }


_WRITERS = {"msd-task01": _decathlon, "nnunet": _nnunet, "bids": _bids}


def descriptions(profile: Profile, studies: list[str]) -> dict[Path, bytes]:
    """The descriptions of a cohort of these studies; none for the releases whose names say everything."""
    writer = _WRITERS.get(profile.name)
    return writer(profile, naming_for(profile), studies) if writer else {}
