"""What is drawn of a patient before anything is painted: phase of contrast and findings."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from voxmoe.imaging.phantoms.draws import Rng, chance, uniform
from voxmoe.imaging.torso.labels import SIDES, Side

Zone = Literal["upper", "lower"]
"""Half of a lung by height."""
ZONES: tuple[Zone, Zone] = ("upper", "lower")


class Phase(StrEnum):
    """When after contrast a scan was taken."""

    NONE = "non-contrast"
    ARTERIAL = "arterial"
    VENOUS = "portal venous"


HEALTHY = 0.08
"""The chance of a patient without findings; the chances below are those of the others."""
NODULE_COUNTS = (0.32, 0.22, 0.18, 0.16, 0.12)
CHANCES = {
    "effusion": 0.35,  # each side
    "consolidation": 0.45,
    "emphysema": 0.35,
    "cardiomegaly": 0.45,
    "coronary calcification": 0.45,
    "aortic calcification": 0.45,
    "liver cyst": 0.4,
    "liver metastasis": 0.4,
    "fatty liver": 0.35,
    "splenomegaly": 0.45,
    "kidney stone": 0.3,  # each side
    "kidney cyst": 0.3,  # each side
}
"""Of each finding, drawn apart from all others."""
NODULE_MM = (8.0, 30.0)
LIVER_MM = (12.0, 48.0)
STONE_MM = (7.0, 14.0)
KIDNEY_CYST_MM = (15.0, 42.0)
EFFUSION_SHARE = (0.03, 0.5)
"""Of the side of the chest that it lies in."""


@dataclass(frozen=True)
class Nodule:
    side: Side
    zone: Zone
    diameter_mm: float
    calcified: bool


@dataclass(frozen=True)
class Plan:
    """Lengths in mm; sides are the patient's."""

    phase: Phase
    nodules: tuple[Nodule, ...] = ()
    effusions: tuple[tuple[Side, float], ...] = ()
    """Each with its share of the side of the chest."""
    consolidation: tuple[Side, Zone] | None = None
    emphysema: bool = False
    cardiomegaly: bool = False
    coronary_calcification: bool = False
    aortic_calcification: bool = False
    liver_cysts: tuple[float, ...] = ()
    liver_metastases: tuple[float, ...] = ()
    fatty_liver: bool = False
    splenomegaly: bool = False
    kidney_stones: tuple[tuple[Side, float], ...] = ()
    kidney_cysts: tuple[tuple[Side, float], ...] = ()


def _side(rng: Rng) -> Side:
    return SIDES[int(rng.integers(2))]


def _zone(rng: Rng) -> Zone:
    return ZONES[int(rng.integers(2))]


def _nodules(rng: Rng) -> tuple[Nodule, ...]:
    count = int(rng.choice(len(NODULE_COUNTS), p=NODULE_COUNTS))
    return tuple(Nodule(_side(rng), _zone(rng), uniform(rng, *NODULE_MM), chance(rng, 0.3)) for _ in range(count))


def _liver(rng: Rng, name: str) -> tuple[float, ...]:
    count = int(rng.integers(1, 4)) if chance(rng, CHANCES[name]) else 0
    return tuple(uniform(rng, *LIVER_MM) for _ in range(count))


def _each_side(rng: Rng, name: str, low: float, high: float) -> tuple[tuple[Side, float], ...]:
    return tuple((side, uniform(rng, low, high)) for side in SIDES if chance(rng, CHANCES[name]))


def _effusion_share(rng: Rng) -> float:
    """Small, moderate and large ones alike often."""
    low, high = ((EFFUSION_SHARE[0], 0.09), (0.12, 0.27), (0.33, EFFUSION_SHARE[1]))[int(rng.integers(3))]
    return uniform(rng, low, high)


def draw_plan(rng: Rng) -> Plan:
    phase = list(Phase)[int(rng.integers(3))]
    if chance(rng, HEALTHY):
        return Plan(phase)
    return Plan(
        phase,
        nodules=_nodules(rng),
        effusions=tuple((side, _effusion_share(rng)) for side in SIDES if chance(rng, CHANCES["effusion"])),
        consolidation=(_side(rng), _zone(rng)) if chance(rng, CHANCES["consolidation"]) else None,
        emphysema=chance(rng, CHANCES["emphysema"]),
        cardiomegaly=chance(rng, CHANCES["cardiomegaly"]),
        coronary_calcification=chance(rng, CHANCES["coronary calcification"]),
        aortic_calcification=chance(rng, CHANCES["aortic calcification"]),
        liver_cysts=_liver(rng, "liver cyst"),
        liver_metastases=_liver(rng, "liver metastasis"),
        fatty_liver=chance(rng, CHANCES["fatty liver"]),
        splenomegaly=chance(rng, CHANCES["splenomegaly"]),
        kidney_stones=_each_side(rng, "kidney stone", *STONE_MM),
        kidney_cysts=_each_side(rng, "kidney cyst", *KIDNEY_CYST_MM),
    )
