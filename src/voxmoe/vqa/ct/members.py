"""The volumes of a CT dataset as an audit compares them. It hashes their files, once: DATASET/meta/files.json.

A volume that is a folder (a DICOM series) has the hash of the hashes of its files.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voxmoe.files import sha256, write_json
from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.fingerprint import Fingerprint, fingerprint
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.imaging.places import file_of
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.dataset import CTDataset
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.dataset import SPLITS
from voxmoe.vqa.members import Job, Member, require_files

_IMAGE = "image"


@dataclass(frozen=True)
class Scan(Member):
    """One volume of a CT dataset."""

    rescale: tuple[float, float] | None = None


def _files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _signature(files: Sequence[Path]) -> list[list[Any]]:
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _digest(files: Sequence[Path]) -> str:
    found = [sha256(file) for file in files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _read_known(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known: dict[str, dict[str, Any]] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return known


def _digests(dataset: CTDataset, images: Mapping[str, Path]) -> dict[str, str]:
    """Image -> what tells its content from that of others; files that have not changed are not read again."""
    cache = dataset.root / "meta" / "files.json"
    known = _read_known(cache)
    found = {}
    for image, path in images.items():
        files = _files_of(path)
        signature = _signature(files)
        same = known.get(image, {}).get("files") == signature
        found[image] = known[image] if same else {"files": signature, "sha256": _digest(files)}
    if found != known and os.access(cache.parent, os.W_OK):
        write_json(cache, found)
    return {image: str(entry["sha256"]) for image, entry in found.items()}


def text_hash(text: str) -> str:
    """Equal for the same words, whatever their case and the blanks between them."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def ct_members(dataset: CTDataset) -> list[Scan]:
    """The volumes of a dataset; raises `ImageError` if one is not there, `DatasetError` if one leaves its folder."""
    about: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
    for split in SPLITS:
        for exchange in dataset.exchanges(split):
            about[exchange.image, split].append(exchange)
    images = {image: dataset.image(own[0]) for (image, _), own in about.items()}
    require_files(images.values(), dataset.root, dataset.images_root)
    hashes = _digests(dataset, images)
    return [
        Scan(
            str(dataset.root),
            image,
            own[0].patient,
            split,
            {_IMAGE: hashes[image]},
            {_IMAGE: images[image]},
            {one.id: text_hash(one.answer) for one in own if one.task is CTTask.REPORT},
            own[0].rescale,
        )
        for (image, split), own in about.items()
    ]


def _fingerprint(digest: str, path: Path, rescale: tuple[float, float] | None) -> dict[str, Fingerprint]:
    return {digest: fingerprint(read_ct(path, None if rescale is None else Rescale(*rescale)), ct=True)}


def ct_jobs(own: Sequence[Scan], known: Collection[str]) -> list[Job]:
    """What there is to read for the volumes whose digests are not known."""
    new = {member.hashes[_IMAGE]: member for member in own if member.hashes[_IMAGE] not in known}
    return [
        Job((digest,), partial(_fingerprint, digest, file_of(member.paths[_IMAGE]), member.rescale))
        for digest, member in new.items()
    ]
