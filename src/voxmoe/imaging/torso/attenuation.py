"""HU of tissues by phase of contrast, drawn within their true ranges."""

from dataclasses import dataclass

from voxmoe.imaging.phantoms.draws import Rng, uniform
from voxmoe.imaging.torso.plan import Phase

Range = tuple[float, float]

FIXED: dict[str, Range] = {
    "air": (-1000.0, -995.0),
    "fat": (-110.0, -90.0),
    "lung": (-890.0, -790.0),
    "emphysema": (-985.0, -965.0),
    "cortical bone": (500.0, 1000.0),
    "marrow": (150.0, 300.0),
    "disc": (70.0, 110.0),
    "cartilage": (80.0, 150.0),
    "fluid": (0.0, 20.0),
    "gastric content": (10.0, 50.0),
    "calcium": (600.0, 1100.0),
    "stone": (600.0, 1200.0),
}
"""HU that contrast does not change."""
BY_PHASE: dict[str, dict[Phase, Range]] = {
    "muscle": {Phase.NONE: (45, 60), Phase.ARTERIAL: (50, 65), Phase.VENOUS: (55, 75)},
    "myocardium": {Phase.NONE: (38, 50), Phase.ARTERIAL: (90, 130), Phase.VENOUS: (95, 130)},
    "artery": {Phase.NONE: (35, 50), Phase.ARTERIAL: (260, 400), Phase.VENOUS: (130, 180)},
    "vein": {Phase.NONE: (35, 50), Phase.ARTERIAL: (45, 80), Phase.VENOUS: (140, 190)},
    "liver": {Phase.NONE: (52, 65), Phase.ARTERIAL: (60, 78), Phase.VENOUS: (100, 125)},
    "fatty liver": {Phase.NONE: (0, 25), Phase.ARTERIAL: (5, 35), Phase.VENOUS: (45, 70)},
    "spleen": {Phase.NONE: (43, 52), Phase.ARTERIAL: (95, 140), Phase.VENOUS: (105, 135)},
    "renal cortex": {Phase.NONE: (28, 38), Phase.ARTERIAL: (160, 210), Phase.VENOUS: (160, 210)},
    "renal medulla": {Phase.NONE: (26, 36), Phase.ARTERIAL: (50, 80), Phase.VENOUS: (140, 190)},
    "consolidation": {Phase.NONE: (20, 45), Phase.ARTERIAL: (45, 80), Phase.VENOUS: (55, 95)},
    "nodule": {Phase.NONE: (20, 50), Phase.ARTERIAL: (35, 80), Phase.VENOUS: (40, 90)},
}
"""HU that contrast changes."""
METASTASIS_BELOW_LIVER: Range = (28.0, 45.0)
"""How much darker than the liver around it a metastasis is, HU (or brighter, in a fatty liver without contrast)."""


@dataclass(frozen=True)
class Attenuation:
    """The HU of each tissue of one patient in one phase."""

    phase: Phase
    hu: dict[str, float]

    def __getitem__(self, tissue: str) -> float:
        return self.hu[tissue]


def draw_attenuation(rng: Rng, phase: Phase) -> Attenuation:
    ranges = {**FIXED, **{tissue: by_phase[phase] for tissue, by_phase in BY_PHASE.items()}}
    return Attenuation(phase, {tissue: uniform(rng, *span) for tissue, span in ranges.items()})
