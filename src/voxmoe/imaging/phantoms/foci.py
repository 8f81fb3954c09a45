"""A lesion as it is drawn: where, how large each part is, and how rough. Volumes are percent of the brain."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.draws import Rng, chance, draw_seed, lognormal, uniform
from voxmoe.imaging.phantoms.geometry import Point, as_point
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.phantoms.warp import Push, mni_to_world

MENINGIOMA = "meningioma"


@dataclass(frozen=True, kw_only=True)
class Focus:
    """One lesion."""

    kind: str
    centre_mni: Point
    axes: Point
    """Relative lengths along its own axes; their product is 1."""
    rotation: Point
    tumour: float = 0.0
    cavity: float = 0.0
    halo: float = 0.0
    enhancing: float = 0.0
    """The share of the tumour that enhances."""
    cyst: float = 0.0
    """The share of the core that is fluid."""
    patchiness: float
    """How far enhancement leaves the tumour's rim, mm."""
    roughness: float
    grain: float
    fingers: float
    sparing: float
    """How far the halo shuns grey matter, mm."""
    smallest: int = 1
    """Islands of the halo with fewer voxels are left out."""
    hugging: float = 0.0
    """How much the halo follows the ventricles' walls, 0 to 1."""
    push: float = 0.0
    seed: int

    @property
    def solid(self) -> float:
        """What takes up room."""
        return self.tumour + self.cavity

    @property
    def extra_axial(self) -> bool:
        """Whether it grows beside the brain's tissue and so through fluid."""
        return self.kind == MENINGIOMA


def draw_site(rng: Rng, name: str) -> Point:
    sites = load_template().sites[name]
    return as_point(sites[rng.integers(len(sites))] + rng.uniform(-0.5, 0.5, 3))


def draw_near(rng: Rng, centre: Point, distance: float) -> Point:
    direction = rng.standard_normal(3)
    return as_point(np.array(centre) + distance * direction / np.linalg.norm(direction))


def draw_focus(rng: Rng, kind: str, centre: Point, **given: Any) -> Focus:
    """A focus of random shape; what is `given` stands instead of what is drawn."""
    stretch = rng.normal(0, 0.22, 3)
    drawn = {
        "axes": as_point(np.exp(stretch - stretch.mean())),
        "rotation": as_point(rng.uniform(-90, 90, 3)),
        "patchiness": uniform(rng, 0.5, 3.5),
        "roughness": uniform(rng, 0.12, 0.4),
        "grain": uniform(rng, 0.5, 1.4),
        "fingers": uniform(rng, 3.0, 8.0),
        "sparing": uniform(rng, 2.0, 12.0),
        "seed": draw_seed(rng),
    }
    return Focus(kind=kind, centre_mni=centre, **{**drawn, **given})


def draw_satellites(rng: Rng, focus: Focus, most: int) -> list[Focus]:
    """Small islands near a focus."""
    mixed = 0 < focus.enhancing < 1
    radius = 12 + 11 * focus.solid ** (1 / 3)
    return [
        draw_focus(
            rng,
            "satellite",
            draw_near(rng, focus.centre_mni, radius * uniform(rng, 0.7, 1.4)),
            tumour=lognormal(rng, 0.006, 1.2, 0.0003, 0.15) if focus.tumour else 0.0,
            halo=lognormal(rng, 0.05, 1.2, 0.002, 0.5) if focus.halo else 0.0,
            enhancing=float(rng.choice((0.0, 1.0, 0.7), p=(0.2, 0.5, 0.3))) if mixed else float(focus.enhancing >= 1),
            cavity=lognormal(rng, 0.004, 1.2, 0.0005, 0.1) if focus.cavity and chance(rng, 0.2) else 0.0,
            grain=0.5 * focus.grain,
        )
        for _ in range(int(rng.integers(0, most + 1)))
    ]


def pushes(foci: tuple[Focus, ...], anatomy: Anatomy) -> tuple[Push, ...]:
    """How the foci displace the brain around them."""
    return tuple(
        Push(mni_to_world(anatomy, focus.centre_mni), focus.push, 8 + 15 * focus.solid ** (1 / 3))
        for focus in foci
        if focus.push
    )
