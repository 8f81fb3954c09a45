"""dataset.json of nnU-Net and of the Medical Segmentation Decathlon: which channel is which modality, and what the
label values mean.

Read as nnU-Net 2 writes it ("channel_names"; "labels": name -> value, or values of a region) and as the Decathlon and
nnU-Net 1 do ("modality"; "labels": value -> name).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.label_tables import table_profile
from voxmoe.imaging.namings import MODALITY_SUFFIXES, ROLES
from voxmoe.vocabulary import Modality, Profile

FILE_NAME = "dataset.json"
_NIFTI = (".nii", ".nii.gz")


def _modality(name: object, path: Path) -> Modality:
    modality = ROLES.get(re.sub(r"[^a-z0-9]", "", str(name).lower()))
    if modality is None:
        allowed = "; ".join(f"{modality}: {', '.join(names)}" for modality, names in MODALITY_SUFFIXES.items())
        raise StudyError(f"{path}: channel {name!r} is no modality that is known here; there are {allowed}")
    return modality


def _channels(table: object, path: Path) -> tuple[Modality, ...]:
    names = list(table.values()) if isinstance(table, dict) else []
    if not isinstance(table, dict) or not names or {*table} != {str(number) for number in range(len(names))}:
        raise StudyError(f'{path}: its channels are {table!r}; a table from "0" on to the name of each is needed')
    found: dict[Modality, object] = {}
    for number in range(len(names)):
        name = table[str(number)]
        modality = _modality(name, path)
        if modality in found:
            raise StudyError(f"{path}: the channels {found[modality]!r} and {name!r} both claim to be {modality}")
        found[modality] = name
    return tuple(found)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _label_values(labels: object, path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> values, from either way to write it."""
    table: dict[str, tuple[int, ...]] = {}
    for left, right in labels.items() if isinstance(labels, dict) else [("labels", labels)]:
        values: list[Any] = right if isinstance(right, list) else [right]
        if left.isdecimal() and isinstance(right, str):
            table[right] = (*table.get(right, ()), int(left))
        elif all(map(_is_whole, values)):
            table[left] = tuple(values)
        else:
            raise LabelError(
                f'{path}: its labels have {left!r}: {right!r}; a name and its value or values ("edema": 1), or a value '
                'and its name ("1": "edema"), are needed'
            )
    if any(name.lower() == "ignore" for name in table):
        raise LabelError(f'{path}: has a label "ignore": its masks are annotated in part, so nothing can be measured')
    return table


@dataclass(frozen=True)
class Description:
    """A dataset.json, each part checked when it is asked for."""

    path: Path
    content: Mapping[str, Any]

    @property
    def channels(self) -> tuple[Modality, ...] | None:
        """The modality of each channel in order, None if it does not say; raises `StudyError` for unknown ones."""
        table = self.content.get("channel_names", self.content.get("modality"))
        return None if table is None else _channels(table, self.path)

    def profile(self, layout: str) -> Profile | None:
        """Its labels, as a profile named after the layout and the dataset's folder; None if it names none.

        Raises `LabelError` if they are not names with values.
        """
        if "labels" not in self.content:
            return None
        table = _label_values(self.content["labels"], self.path)
        return table_profile(f"{layout}:{self.path.parent.name}", table, self.path)


def read_description(dataset: Path) -> Description:
    """The dataset.json in a dataset's folder; raises `StudyError` if it is missing, broken, or of other files than
    NIfTI."""
    path = dataset / FILE_NAME
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise StudyError(
            f"{path}: no such file; it says which channel is which modality and what the labels mean, so it has to "
            "lie beside imagesTr"
        ) from None
    except (ValueError, OSError) as error:
        raise StudyError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: holds no JSON object; one with channels and labels is needed")
    ending = content.get("file_ending", ".nii.gz")
    if ending not in _NIFTI:
        raise StudyError(f"{path}: its file_ending is {ending!r}; {' and '.join(_NIFTI)} are read here")
    return Description(path, content)
