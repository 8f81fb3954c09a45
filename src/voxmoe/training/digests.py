"""What images are known by: the hash of their voxels and spacing, remembered for files that have not changed since.

The voxels are those that are read, in RAS order, so it is the same for a file, its copy in another compression or axis
order, and the volume in memory; a header that is corrected makes it another. It takes a fraction of the time of reading
a file, and is not taken again as long as the file's size and time of change, and the code that reads it, stay the same.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voxmoe.files import write_json
from voxmoe.imaging.places import Channel, Place, file_of
from voxmoe.imaging.study import Study, StudyFiles
from voxmoe.imaging.volume import Volume
from voxmoe.training.cache import DIGESTS, code_digest, key_of, mark_used, place

Digests = dict[str, str]
"""By modality, and "mask"."""
MASK = "mask"
CT = "ct"
_READING = (Volume.__module__, Channel.__module__)
"""The code that reads voxels from files."""


def volume_digest(volume: Volume) -> str:
    spacing = [round(mm, 6) for mm in volume.spacing]
    digest = hashlib.sha256(f"{volume.data.dtype.str} {volume.shape} {spacing}".encode())
    digest.update(np.ravel(volume.data, order="F").data)
    return digest.hexdigest()


def study_digests(study: Study, with_mask: bool = False) -> Digests:
    """The digests of a study's images, and of its mask where that is wanted."""
    volumes = {str(modality): volume for modality, volume in study.images.items()}
    if with_mask and study.mask is not None:
        volumes[MASK] = study.mask
    return {role: volume_digest(volume) for role, volume in volumes.items()}


def files_of(files: StudyFiles, with_mask: bool = False) -> dict[str, Place]:
    """Where the images of a study lie, by modality, and its mask where that is wanted."""
    images = {str(modality): place for modality, place in files.images.items()}
    return {**images, MASK: files.mask} if with_mask and files.mask is not None else images


def _note(image: Place, role: str) -> Path:
    # Masks, CTs and other images are each read by rules of their own, so the same file may have several digests.
    read_as = role if role in (MASK, CT) else "image"
    where = str(file_of(image).resolve()), image.index if isinstance(image, Channel) else None
    return place(DIGESTS, key_of(place=where, read_as=read_as, code=code_digest(_READING)), ".json")


class FileStates:
    """Size and time of change of files, taken before they are read: what changes in between is not remembered."""

    def __init__(self, paths: Mapping[str, Place]) -> None:
        self.paths = paths
        self.states = {role: self._state(file_of(path)) for role, path in paths.items()}

    @staticmethod
    def _state(path: Path) -> list[int]:
        try:
            status = path.stat()
        except OSError:
            return []
        return [status.st_size, status.st_mtime_ns]

    def remembered(self) -> Digests | None:
        """The digests of all files if each is as it was when its digest was taken."""
        found = {}
        for role, path in self.paths.items():
            note = _note(path, role)
            try:
                told = json.loads(note.read_text())
            except (OSError, ValueError):
                return None
            if told["state"] != self.states[role]:
                return None
            found[role] = told["digest"]
            mark_used(note)
        return found

    def remember(self, digests: Digests) -> None:
        for role, path in self.paths.items():
            told = {"file": str(path), "state": self.states[role], "digest": digests[role]}
            write_json(_note(path, role), told)
