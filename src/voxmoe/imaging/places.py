"""Where an image lies: in a file of its own, or in one channel of a 4D file. Written as `FILE`, or `FILE#2`."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from voxmoe.errors import StudyError
from voxmoe.files import sha256

_CHANNEL = re.compile(r"(?P<path>.+)#(?P<index>\d+)")


@dataclass(frozen=True)
class Channel:
    """One channel of a 4D file, counted from 0."""

    path: Path
    index: int
    count: int | None = None
    """How many channels the file has to have, where that is known."""

    def __str__(self) -> str:
        return f"{self.path}#{self.index}"


Place = Path | Channel
Lies = TypeVar("Lies", bound=Place)
Role = TypeVar("Role")


def file_of(place: Place) -> Path:
    """The file that has to be opened."""
    return place.path if isinstance(place, Channel) else place


def below(place: Place, root: Path) -> str:
    """How a place is written in a dataset: its file as seen from `root`, and its channel."""
    path = os.path.relpath(file_of(place), root)
    return f"{path}#{place.index}" if isinstance(place, Channel) else path


def place_at(root: Path, written: str) -> Place:
    """The place that `below` wrote."""
    if match := _CHANNEL.fullmatch(written):
        return Channel(root / match["path"], int(match["index"]))
    return root / written


def digests(places: Iterable[Place]) -> dict[Place, str]:
    """What tells the content of each place from others: the sha256 of its file, with its channel; a file is read
    once."""
    places = list(places)
    of_file = {path: sha256(path) for path in {file_of(place) for place in places}}
    return {
        place: of_file[file_of(place)] + (f"#{place.index}" if isinstance(place, Channel) else "") for place in places
    }


def claim(places: dict[Role, Lies], role: Role, place: Lies, meaning: str) -> None:
    """Enter a place under its role; raises `StudyError` if another file has that role already."""
    if role in places:
        first, second = file_of(places[role]), file_of(place)
        raise StudyError(
            f"{second.parent}: {first.name} and {second.name} both claim to be {meaning}; keep one of them"
        )
    places[role] = place
