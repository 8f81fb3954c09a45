"""What a lesion is made of, and the label each part carries in each release."""

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
