"""What the values of a torso's label array mean: the one table of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

Side = Literal["right", "left"]
"""Of the patient."""
SIDES: tuple[Side, Side] = ("right", "left")


@dataclass(frozen=True)
class Label:
    """One value of the array: an organ, or a finding that lies in one."""

    value: int
    name: str
    side: Side | None = None
    finding: bool = False

    @property
    def key(self) -> str:
        """Its name with its side, as truths list volumes."""
        return f"{self.name}, {self.side}" if self.side else self.name


LABELS = (
    Label(1, "bone"),
    Label(2, "lung", "right"),
    Label(3, "lung", "left"),
    Label(4, "airway"),
    Label(5, "heart"),
    Label(6, "aorta"),
    Label(7, "liver"),
    Label(8, "spleen"),
    Label(9, "kidney", "right"),
    Label(10, "kidney", "left"),
    Label(11, "stomach"),
    Label(20, "nodule", "right", finding=True),
    Label(21, "nodule", "left", finding=True),
    Label(22, "effusion", "right", finding=True),
    Label(23, "effusion", "left", finding=True),
    Label(24, "consolidation", "right", finding=True),
    Label(25, "consolidation", "left", finding=True),
    Label(26, "emphysema", "right", finding=True),
    Label(27, "emphysema", "left", finding=True),
    Label(28, "coronary calcification", finding=True),
    Label(29, "aortic calcification", finding=True),
    Label(30, "liver cyst", finding=True),
    Label(31, "liver metastasis", finding=True),
    Label(32, "kidney stone", "right", finding=True),
    Label(33, "kidney stone", "left", finding=True),
    Label(34, "kidney cyst", "right", finding=True),
    Label(35, "kidney cyst", "left", finding=True),
)
"""0 is everything else: air, fat, muscle, bowel, veins."""
BY_VALUE = {label.value: label for label in LABELS}
_VALUES = {(label.name, label.side): label.value for label in LABELS}

IN_LUNGS = ("lung", "nodule", "effusion", "consolidation", "emphysema")
"""What together fills a side of the chest."""


def value_of(name: str, side: Side | None = None) -> int:
    """The value of an organ or a finding; KeyError for what is not in the table."""
    return _VALUES[name, side]


def where(labels: UInt8[np.ndarray, "*shape"], *names: str, side: Side | None = None) -> Bool[np.ndarray, "*shape"]:
    """The voxels of what has any of the names, of one side or of both."""
    chosen = np.zeros(256, dtype=bool)
    for label in LABELS:
        chosen[label.value] = label.name in names and (side is None or label.side == side)
    found: np.ndarray = chosen[labels]
    return found
