"""What an audit compares: the studies of a dataset with the hashes and places of their files, and how one is read."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from voxmoe.errors import DatasetError, ImageError
from voxmoe.imaging.fingerprint import Fingerprint, fingerprint
from voxmoe.imaging.places import Place, digests, file_of
from voxmoe.imaging.volume import read_images
from voxmoe.vocabulary import Modality
from voxmoe.vqa.dataset import SPLITS, Dataset

_MASK = "mask"


@dataclass(frozen=True)
class Member:
    """A study, or one CT volume, as a member of a dataset."""

    dataset: str
    study: str
    patient: str
    split: str
    hashes: Mapping[str, str] = field(repr=False)
    """What tells each image (by modality) from others, and the mask unless it is empty: the sha256 of its file, with
    the channel in a 4D file."""
    paths: Mapping[str, Place] = field(repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The reports about it: the id of each, and a hash of its words."""

    def to_json(self) -> dict[str, str]:
        return {"dataset": self.dataset, "study": self.study, "patient": self.patient, "split": self.split}


def study_members(dataset: Dataset) -> list[Member]:
    """The studies of a dataset with the hashes and places of their files."""
    row_of = {row["study"]: row for split in SPLITS for row in dataset.rows(split)}
    found = []
    for record in _studies(dataset):
        images = dataset.study_files(row_of[record["study"]]).images
        paths = {str(modality): images[modality] for modality in Modality if modality in images}
        names = [*paths, *([_MASK] if _MASK in record["sha256"] and _has_labels(record) else [])]
        hashes = {name: record["sha256"][name] for name in names}
        place = (str(dataset.root), record["study"], record["patient"], record["split"])
        found.append(Member(*place, hashes, paths))
    return found


def _studies(dataset: Dataset) -> list[dict[str, Any]]:
    path = dataset.root / "meta" / "studies.json"
    try:
        studies: list[dict[str, Any]] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        raise DatasetError(f"{path}: missing or broken; build the dataset again") from None
    return studies


def _has_labels(record: Mapping[str, Any]) -> bool:
    return any(label["present"] for label in record["findings"]["labels"].values())


@dataclass(frozen=True)
class Job:
    """The reading of one file."""

    digests: tuple[str, ...]
    """Of the images that it holds."""
    run: Callable[[], dict[str, Fingerprint]]


def require_files(places: Iterable[Place], root: Path, images_root: Path) -> None:
    """Raises `ImageError` if a file, or a folder that is one image, is not there."""
    missing = [path for path in dict.fromkeys(map(file_of, places)) if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
        raise ImageError(
            f"{missing[0]}: no such file{more}; the images of {root} are looked for in {images_root}: "
            "put them back there, name the folder that they are in now by VOXMOE_IMAGES=FOLDER, or build the dataset "
            "again"
        )


def _fingerprint_file(images: Mapping[str, Place]) -> dict[str, Fingerprint]:
    """The fingerprints of the images of one file by their digests."""
    found = digests(images.values())
    for digest, place in images.items():
        if found[place] != digest:
            raise DatasetError(f"{file_of(place)}: has changed since the dataset was built; build the dataset again")
    return {digest: fingerprint(volume) for digest, volume in read_images(images).items()}


def study_jobs(dataset: Dataset, own: Sequence[Member], known: Collection[str]) -> list[Job]:
    """What there is to read for the images whose digests are not known."""
    new = {member.hashes[name]: place for member in own for name, place in member.paths.items()}
    new = {digest: place for digest, place in new.items() if digest not in known}
    require_files(new.values(), dataset.root, dataset.images_root)
    files: dict[Path, dict[str, Place]] = defaultdict(dict)
    for digest, place in new.items():
        files[file_of(place)][digest] = place
    return [Job(tuple(images), partial(_fingerprint_file, images)) for images in files.values()]
