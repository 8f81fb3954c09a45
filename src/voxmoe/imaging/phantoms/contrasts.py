"""How each modality is acquired, and how bright it shows each tissue."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from voxmoe.imaging.phantoms.draws import Rng, chance, draw_seed, lognormal, triple, uniform
from voxmoe.vocabulary import Modality

Range = tuple[float, float]

_BRIGHTNESS: Mapping[str, tuple[Range, Range, Range]] = MappingProxyType(
    {
        "csf": ((0.25, 0.5), (2.3, 4.0), (0.2, 0.5)),
        "grey": ((0.70, 0.88), (1.12, 1.45), (1.04, 1.28)),
        "deep": ((0.82, 0.95), (1.0, 1.2), (1.02, 1.16)),
        "vessel": ((0.6, 1.0), (0.2, 0.9), (0.3, 0.9)),
        "plexus": ((0.5, 0.85), (1.5, 2.4), (0.7, 1.3)),
        "dura": ((0.5, 0.9), (0.3, 1.2), (0.5, 1.3)),
        "spots": ((0.85, 0.97), (1.2, 1.5), (1.25, 1.6)),
        "halo": ((0.78, 1.02), (1.35, 2.1), (1.2, 2.0)),
        "core": ((0.55, 1.0), (1.4, 2.8), (1.05, 2.3)),
        "cyst": ((0.4, 0.65), (2.0, 3.4), (0.5, 1.3)),
        "rim": ((0.76, 1.05), (1.2, 2.1), (1.05, 1.75)),
        "cavity": ((0.28, 0.55), (2.2, 4.0), (0.25, 1.0)),
    }
)
"""The range of each tissue's brightness in T1, T2 and FLAIR, white matter being 1."""
_UPTAKE: Mapping[str, Range] = MappingProxyType(
    {"vessel": (1.6, 3.6), "plexus": (1.6, 3.0), "dura": (1.2, 2.6), "rim": (1.12, 2.6)}
)
"""How many times brighter the contrast agent makes what it reaches."""
_NO_UPTAKE = (0.92, 1.08)
"""What the agent does not reach is in T1Gd as in T1, but for how the two are acquired."""
_GAMMA: Mapping[Modality, Range] = MappingProxyType(
    {
        Modality.T1: (0.88, 1.15),
        Modality.T1GD: (0.88, 1.15),
        Modality.T2: (0.65, 1.15),
        Modality.FLAIR: (0.8, 1.15),
    }
)


@dataclass(frozen=True)
class Contrast:
    """The parameters of one modality. Brightness, noise and texture are relative to white matter."""

    brightness: Mapping[str, float]
    scale: float
    """The stored intensity of white matter."""
    gamma: float
    bias: float
    shading: tuple[float, float, float]
    """Brightening towards right, front and top; the cortex, nearer to the coils, has `rim_shading`."""
    rim_shading: float
    noise: float
    texture: float
    blur: tuple[float, float, float]
    """Weight of both neighbours along each axis."""
    thick_axis: int
    thickness: float
    """Slice thickness in mm along `thick_axis`; 1 leaves the grid as it is."""
    cut: float
    """The share of the width that the field of view misses on the right; one low value stands there."""
    seed: int


def _enhanced(rng: Rng, t1: Mapping[str, float]) -> dict[str, float]:
    """Brightness in T1Gd; of what enhances, faint uptake is as frequent as strong."""
    uptake = {tissue: _UPTAKE.get(tissue, _NO_UPTAKE) for tissue in t1}
    return {tissue: t1[tissue] * float(np.exp(uniform(rng, *np.log(uptake[tissue])))) for tissue in t1}


def _acquired(rng: Rng, modality: Modality, brightness: Mapping[str, float]) -> Contrast:
    return Contrast(
        brightness=brightness,
        scale=lognormal(rng, 700.0, 0.7, 120.0, 5000.0),
        gamma=uniform(rng, *_GAMMA[modality]),
        bias=uniform(rng, 0.02, 0.12),
        shading=(uniform(rng, -0.12, 0.12), uniform(rng, -0.15, 0.15), uniform(rng, -0.15, 0.15)),
        rim_shading=uniform(rng, 0.0, 0.3) if chance(rng, 0.5) else 0.0,
        noise=uniform(rng, 0.01, 0.06),
        texture=uniform(rng, 0.01, 0.04),
        blur=triple(rng, 0.02, 0.24),
        thick_axis=int(rng.choice(3, p=(0.2, 0.2, 0.6))),
        thickness=uniform(rng, 2.0, 5.5) if chance(rng, 0.35) else 1.0,
        cut=uniform(rng, 0.02, 0.1) if chance(rng, 0.02) else 0.0,
        seed=draw_seed(rng),
    )


def draw_contrasts(rng: Rng) -> dict[Modality, Contrast]:
    """How one scanner sees a patient in all modalities."""
    t1, t2, flair = (
        {tissue: uniform(rng, *ranges[column]) for tissue, ranges in _BRIGHTNESS.items()} for column in range(3)
    )
    flair["halo"] = max(flair["halo"], 1.08 * flair["grey"])
    brightness = {Modality.T1: t1, Modality.T1GD: _enhanced(rng, t1), Modality.T2: t2, Modality.FLAIR: flair}
    return {modality: _acquired(rng, modality, brightness[modality]) for modality in Modality}
