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
    "cyst": (-5.0, 8.0),
    "gastric content": (10.0, 50.0),
    "calcium": (600.0, 1100.0),
    "stone": (600.0, 1200.0),
}
"""HU that contrast does not change."""
BY_PHASE: dict[str, dict[Phase, Range]] = {
    "muscle": {Phase.NONE: (45.0, 60.0), Phase.ARTERIAL: (50.0, 65.0), Phase.VENOUS: (55.0, 75.0)},
    "myocardium": {Phase.NONE: (38.0, 50.0), Phase.ARTERIAL: (90.0, 130.0), Phase.VENOUS: (95.0, 130.0)},
    "artery": {Phase.NONE: (35.0, 50.0), Phase.ARTERIAL: (260.0, 400.0), Phase.VENOUS: (130.0, 180.0)},
    "vein": {Phase.NONE: (35.0, 50.0), Phase.ARTERIAL: (45.0, 80.0), Phase.VENOUS: (140.0, 190.0)},
    "liver": {Phase.NONE: (52.0, 65.0), Phase.ARTERIAL: (60.0, 78.0), Phase.VENOUS: (100.0, 125.0)},
    "fatty liver": {Phase.NONE: (28.0, 40.0), Phase.ARTERIAL: (28.0, 45.0), Phase.VENOUS: (45.0, 70.0)},
    "spleen": {Phase.NONE: (43.0, 52.0), Phase.ARTERIAL: (95.0, 140.0), Phase.VENOUS: (105.0, 135.0)},
    "renal cortex": {Phase.NONE: (28.0, 38.0), Phase.ARTERIAL: (160.0, 210.0), Phase.VENOUS: (160.0, 210.0)},
    "renal medulla": {Phase.NONE: (26.0, 36.0), Phase.ARTERIAL: (50.0, 80.0), Phase.VENOUS: (140.0, 190.0)},
    "consolidation": {Phase.NONE: (20.0, 45.0), Phase.ARTERIAL: (45.0, 80.0), Phase.VENOUS: (55.0, 95.0)},
    "nodule": {Phase.NONE: (20.0, 50.0), Phase.ARTERIAL: (35.0, 80.0), Phase.VENOUS: (40.0, 90.0)},
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
