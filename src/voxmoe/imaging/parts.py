"""What a lesion is made of, the label each part carries in each release, and the part that each label shows."""

from enum import IntEnum
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8

from voxmoe.vocabulary import Profile


class Part(IntEnum):
    """A higher part lies over a lower one."""

    HALO = 1
    CORE = 2
    CYST = 3
    RIM = 4
    CAVITY = 5


PART_KEYS = MappingProxyType(
    {
        Part.HALO: ("SNFH", "ED"),
        Part.CORE: ("NETC", "NCR", "NC", "NET", "GTV"),
        Part.CYST: ("CC", "NETC", "NCR", "NC", "NET", "GTV"),
        Part.RIM: ("ET", "GTV"),
        Part.CAVITY: ("RC",),
    }
)
"""The labels a part can carry: the first that the profile knows; none of them: the part stays unlabelled."""


def part_labels(profile: Profile) -> UInt8[np.ndarray, " P"]:
    """The label value of each part by its number, 0 where the profile has no label for it."""
    values = {label.key: label.value for label in profile.labels}
    table = np.zeros(len(Part) + 1, dtype=np.uint8)
    for part, keys in PART_KEYS.items():
        table[part] = next((values[key] for key in keys if key in values), 0)
    return table


def label_parts(profile: Profile) -> UInt8[np.ndarray, "256"]:
    """The part that each label value shows, 0 where it shows none that is known here.

    What several parts can carry is taken for one of them: non-enhancing tumour for core rather than cyst, and what is
    only known to be tumour for rim, since the meningiomas that are labelled so enhance.
    """
    order = (Part.CYST, Part.CORE, Part.RIM, Part.HALO, Part.CAVITY)  # the later one is meant
    part_of = {key: part for part in order for key in PART_KEYS[part]}
    table = np.zeros(256, dtype=np.uint8)
    for value, label in profile.by_value.items():
        table[value] = part_of.get(label.key, 0)
    return table
