"""What is drawn of a brain."""

from dataclasses import dataclass

import numpy as np

from voxmoe.imaging.phantoms.draws import Rng, draw_seed, triple, uniform
from voxmoe.imaging.phantoms.geometry import Point, as_point


@dataclass(frozen=True)
class Anatomy:
    """The parameters of a brain: angles in degrees, lengths in mm, the rest as factors."""

    rotation: Point
    scale: Point
    shear: Point
    shift: Point
    elastic: tuple[float, float, float]
    """Amplitudes of the displacement at the scales 48, 24 and 12 mm."""
    ventricles: float
    """How far the ventricles' walls are moved outwards."""
    sulci: float
    folding: float
    strip_offset: float
    strip_roughness: float
    vessels: int
    vessel_radius: float
    plexus_radius: float
    pineal_radius: float
    seed: int


def draw_anatomy(rng: Rng) -> Anatomy:
    size = uniform(rng, -0.05, 0.05)
    return Anatomy(
        rotation=triple(rng, -6.0, 6.0),
        scale=as_point(np.exp(size + value) for value in rng.uniform(-0.045, 0.045, 3)),
        shear=triple(rng, -0.04, 0.04),
        shift=triple(rng, -3.0, 3.0),
        elastic=(uniform(rng, 1.5, 3.6), uniform(rng, 1.0, 2.3), uniform(rng, 0.4, 1.1)),
        ventricles=float(np.clip(rng.gamma(1.5, 1.0) - 1.0, -1.0, 3.5)),
        sulci=uniform(rng, -0.5, 1.3),
        folding=uniform(rng, 0.4, 1.1),
        strip_offset=uniform(rng, -0.3, 1.8),
        strip_roughness=uniform(rng, 0.2, 1.0),
        vessels=int(rng.integers(20, 60)),
        vessel_radius=uniform(rng, 0.5, 1.1),
        plexus_radius=uniform(rng, 0.8, 2.8),
        pineal_radius=uniform(rng, 0.5, 3.0),
        seed=draw_seed(rng),
    )
