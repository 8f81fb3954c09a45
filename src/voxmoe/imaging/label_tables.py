"""What a dataset itself says of its label values, as a profile: {name: values} -> labels.

Names that one release uses too, as keys or in full, take that release's keys and names, with the dataset's own values;
any other table becomes a profile of its own names.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from voxmoe.errors import LabelError
from voxmoe.vocabulary import PROFILES, Label, Profile

Table = Mapping[str, tuple[int, ...]]
"""Label name -> the values of its voxels; more than one for a region that several values make up."""
_BACKGROUND = "background"


def _plain(name: str) -> str:
    """A name without case, spaces and dashes, in one spelling."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("tumour", "tumor").replace("oedema", "edema")


def _known(names: list[str]) -> list[tuple[str, str]]:
    """Key and name of the labels that these names mean in one release, in their order; none if no release has them all.

    Where releases give one key different names, the one that most of them use is taken.
    """
    found = Counter[tuple[tuple[str, str], ...]]()
    for profile in PROFILES:
        if profile.labels_from is None:
            pairs = [(label.key, label.name) for label in profile.labels]
            meaning = {_plain(said): pair for pair in pairs for said in pair}
            labels = tuple(meaning[name] for name in map(_plain, names) if name in meaning)
            found[labels] += len(set(labels)) == len(names)
    labels, releases = found.most_common(1)[0]
    return list(labels) if releases else []


def _check(table: Table, source: Path) -> None:
    if not table:
        raise LabelError(f"{source}: names no label but the background; a label and its value are needed")
    for name, values in table.items():
        if not values or not all(1 <= value <= 255 for value in values):
            told = ", ".join(map(str, values)) or "no value"
            raise LabelError(f"{source}: label {name!r} has {told}; whole values from 1 to 255 are allowed")


def table_profile(name: str, table: Table, source: Path) -> Profile:
    """The profile `name` of a table that stands in the file `source`; raises `LabelError` if it is no table."""
    labels = {said: values for said, values in table.items() if _plain(said) != _BACKGROUND and values != (0,)}
    _check(labels, source)
    ordered = sorted(labels, key=lambda said: labels[said])
    known = _known(ordered) or [(said, said) for said in ordered]
    return Profile(
        name,
        f"labels as {source.name} says",
        tuple(
            Label(labels[said][0], key, full_name, labels[said][1:])
            for said, (key, full_name) in zip(ordered, known, strict=True)
        ),
        labels_from=str(source),
    )
