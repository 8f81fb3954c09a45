"""What is true of a torso: drawn sizes, and everything that is measured in its label array."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from voxmoe import __version__
from voxmoe.errors import DatasetError
from voxmoe.imaging.phantoms.geometry import Point
from voxmoe.imaging.torso.frame import Frame
from voxmoe.imaging.torso.labels import BY_VALUE, IN_LUNGS, SIDES, Side, where
from voxmoe.imaging.torso.plan import Phase, Zone

CARDIOMEGALY = 0.5
"""The heart is enlarged above this cardiothoracic ratio."""
SPLENOMEGALY_MM3 = 250_000.0
"""The spleen is enlarged above this volume."""
MODERATE, LARGE = 0.1, 0.3
"""An effusion is moderate and large from these shares of its side of the chest."""
Grade = Literal["small", "moderate", "large"]


def grade_of(share: float) -> Grade:
    """How large an effusion is that fills `share` of its side of the chest."""
    return "large" if share >= LARGE else "moderate" if share >= MODERATE else "small"


@dataclass(frozen=True)
class Lesion:
    """One finding that lies somewhere. All the spots of a vessel's calcification are one, and so are all bullae."""

    name: str
    """As `labels.LABELS` has it."""
    side: Side | None
    volume_mm3: float
    """By the voxels of its label."""
    centre_mm: Point
    """In world coordinates, RAS."""
    slices: tuple[int, int]
    """The first and the last one that it reaches, from inferior."""
    zone: Zone | None = None
    """Of findings in a lung: the half, by height, in which its centre lies."""
    diameter_mm: float | None = None
    """Of round ones, as drawn."""
    calcified: bool = False
    share: float | None = None
    """Of effusions and emphysema: of their side of the chest."""

    @property
    def grade(self) -> Grade:
        """Of an effusion."""
        return grade_of(self.share or 0.0)


@dataclass(frozen=True)
class TorsoTruth:
    """Everything that may be asked about a torso."""

    id: str
    version: str
    seed: int
    index: int
    phase: Phase
    shape: tuple[int, int, int]
    spacing_mm: Point
    volumes_mm3: Mapping[str, float]
    """Of each label, by `Label.key`; what is absent has none."""
    lung_slices: Mapping[Side, tuple[int, int]]
    """The lowest and the highest slice of each side of the chest."""
    cardiothoracic_ratio: float
    """Largest width of the heart by largest width of the chest's inside."""
    fatty_liver: bool
    lesions: tuple[Lesion, ...]

    @property
    def cardiomegaly(self) -> bool:
        return self.cardiothoracic_ratio > CARDIOMEGALY

    @property
    def splenomegaly(self) -> bool:
        return self.volumes_mm3["spleen"] > SPLENOMEGALY_MM3

    def of(self, name: str, side: Side | None = None) -> tuple[Lesion, ...]:
        """The lesions of a name, of one side or of both."""
        return tuple(each for each in self.lesions if each.name == name and side in (None, each.side))

    def present(self, finding: str) -> bool:
        """Whether there is any of a finding: the name of a lesion, cardiomegaly, splenomegaly or fatty liver."""
        if finding in ("cardiomegaly", "splenomegaly", "fatty liver"):
            return bool(getattr(self, finding.replace(" ", "_")))
        return bool(self.of(finding))

    def sides(self, name: str) -> tuple[Side, ...]:
        return tuple(side for side in SIDES if self.of(name, side))

    def to_json(self) -> dict[str, Any]:
        """As a line of truth.jsonl holds it."""
        return asdict(self) | {"phase": str(self.phase)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TorsoTruth":
        """Raises `DatasetError` for what `to_json` did not write."""
        try:
            lesions = tuple(
                Lesion(**{**each, "centre_mm": tuple(each["centre_mm"]), "slices": tuple(each["slices"])})
                for each in content["lesions"]
            )
            own = {
                "phase": Phase(content["phase"]),
                "shape": tuple(content["shape"]),
                "spacing_mm": tuple(content["spacing_mm"]),
                "lung_slices": {side: tuple(span) for side, span in content["lung_slices"].items()},
                "lesions": lesions,
            }
            return cls(**{**content, **own})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"not the truth of a CT phantom ({error}); `voxmoe phantom OUT --ct` writes it"
            ) from None


@dataclass(frozen=True)
class Drawn:
    """What painting knows of a lesion and its label does not show."""

    value: int
    """Of its label."""
    voxels: UInt8[np.ndarray, "X Y Z"]
    """Its own voxels, 1 in the box that starts at `start`."""
    start: tuple[int, int, int]
    diameter_mm: float | None = None
    calcified: bool = False


def _lesion(
    drawn: Drawn, frame: Frame, lung_slices: Mapping[Side, tuple[int, int]], chest: Mapping[Side, int]
) -> Lesion:
    label = BY_VALUE[drawn.value]
    places = np.argwhere(drawn.voxels) + drawn.start
    middle = places.mean(axis=0)
    x, y, z = (round(float(at), 1) for at in (frame.affine @ [*middle, 1.0])[:3])
    zone: Zone | None = None
    if label.side and label.name in ("nodule", "consolidation"):
        zone = "upper" if middle[2] > sum(lung_slices[label.side]) / 2 else "lower"
    share = len(places) / chest[label.side] if label.side and label.name in ("effusion", "emphysema") else None
    return Lesion(
        name=label.name,
        side=label.side,
        volume_mm3=round(len(places) * frame.voxel_mm3, 1),
        centre_mm=(x, y, z),
        slices=(int(places[:, 2].min()), int(places[:, 2].max())),
        zone=zone,
        diameter_mm=None if drawn.diameter_mm is None else round(drawn.diameter_mm, 1),
        calcified=drawn.calcified,
        share=None if share is None else round(share, 4),
    )


def _width(labels: UInt8[np.ndarray, "X Y Z"], *names: str) -> int:
    along = np.flatnonzero(where(labels, *names).any(axis=(1, 2)))
    return int(along[-1] - along[0] + 1) if len(along) else 0


def measured(
    id: str,
    seed: int,
    index: int,
    phase: Phase,
    frame: Frame,
    labels: UInt8[np.ndarray, "X Y Z"],
    drawn: list[Drawn],
    fatty_liver: bool,
) -> TorsoTruth:
    counts = np.bincount(labels.ravel(order="K"), minlength=256)
    lung_slices, chest = {}, {}
    for side in SIDES:
        inside = where(labels, *IN_LUNGS, side=side)
        heights = np.flatnonzero(inside.any(axis=(0, 1)))
        lung_slices[side] = (int(heights[0]), int(heights[-1]))
        chest[side] = int(inside.sum())
    return TorsoTruth(
        id=id,
        version=__version__,
        seed=seed,
        index=index,
        phase=phase,
        shape=frame.shape,
        spacing_mm=frame.spacing,
        volumes_mm3={
            label.key: round(int(counts[value]) * frame.voxel_mm3, 1)
            for value, label in BY_VALUE.items()
            if counts[value]
        },
        lung_slices=lung_slices,
        cardiothoracic_ratio=round(_width(labels, "heart", "coronary calcification") / _width(labels, *IN_LUNGS), 4),
        fatty_liver=fatty_liver,
        lesions=tuple(_lesion(each, frame, lung_slices, chest) for each in drawn),
    )
