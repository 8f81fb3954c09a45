"""Tissue to signal: what all modalities of a study show, each as bright as its contrast has it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.contrasts import Contrast
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Flat
from voxmoe.imaging.phantoms.lesions import Lesions
from voxmoe.imaging.phantoms.parameters import Parameters

_NEGLIGIBLE = 0.02


@dataclass(frozen=True, eq=False)
class Overlay:
    """A tissue that lies over the brain's own in K of the drawn voxels."""

    tissue: str
    at: Int[np.ndarray, " K"]
    share: Float32[np.ndarray, " K"]
    """How much of each voxel it fills."""
    mottle: Float32[np.ndarray, "2 K"] | None = None
    """Uneven brightness of lesions; modalities see mixtures of the two fields."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What all modalities of a study share: the brain, and what lies over it, the lowest first."""

    brain: Brain
    overlays: tuple[Overlay, ...]
    near_surface: Flat
    """1 at the brain's surface, where the coils are near, falling inwards."""


def _bright_spots(parameters: Parameters, brain: Brain, rng: Rng) -> Flat:
    """FLAIR-bright white matter that nobody would segment: caps along the ventricles, spots in the depth."""
    caps = np.float32(parameters.caps) * np.exp(-np.clip(brain.ventricle, 0, None) / 2.0)
    caps *= np.clip(0.6 + 0.6 * brain.voxels.noise(rng, 16.0), 0, 1)
    field = brain.voxels.noise(rng, 5.0)
    threshold = np.quantile(field[::50], 1 - parameters.spots)
    small = np.clip((field - np.float32(threshold)) / 0.35, 0, 1) * (brain.depth > 9)
    return np.asarray(np.maximum(caps, small * 0.9) * np.clip(brain.white * 1.3 - 0.2, 0, 1), dtype=np.float32)


def _overlay(tissue: str, share: Flat, mottle: tuple[Flat, Flat] | None = None) -> Overlay:
    at = np.flatnonzero(share > _NEGLIGIBLE)
    uneven = None if mottle is None else np.stack([field.take(at) for field in mottle])
    return Overlay(tissue, at, share.take(at), uneven)


def make_scene(parameters: Parameters, brain: Brain, lesions: Lesions) -> Scene:
    rng = np.random.default_rng([parameters.seed, 0])
    spots = _bright_spots(parameters, brain, rng)
    sheets = np.maximum(np.clip(1.6 - np.abs(brain.depth - 0.3), 0, 1), brain.dural_folds)
    dura = np.float32(parameters.dura) * sheets * np.clip(0.3 + 0.7 * brain.voxels.noise(rng, 18.0), 0, 1)
    mottle = brain.voxels.noise(rng, 12.0), brain.voxels.noise(rng, 12.0)
    overlays = [
        _overlay("spots", spots),
        _overlay("dura", dura),
        _overlay("plexus", brain.plexus),
        _overlay("vessel", brain.vessel),
        *(_overlay(part.name.lower(), share, mottle) for part, share in lesions.soft.items()),
    ]
    return Scene(brain, tuple(overlays), np.exp(np.clip(brain.depth, 0, None) / np.float32(-14)))


def tissue_signal(scene: Scene, contrast: Contrast) -> Flat:
    """The signal of every voxel, white matter being 1."""
    brain = scene.brain
    light = {tissue: np.float32(value) for tissue, value in contrast.brightness.items()}
    image = brain.white + brain.csf * light["csf"]
    image += brain.grey * light["grey"]
    image += brain.deep * light["deep"]
    rng = np.random.default_rng([contrast.seed, 1])
    angle = rng.uniform(0, 2 * np.pi)
    texture = brain.voxels.noise(rng, max(2.4, 1.5 * brain.voxels.raster.spacing))
    for overlay in scene.overlays:
        value = light[overlay.tissue]
        if overlay.mottle is not None:
            roughness = np.float32(0.03 if overlay.tissue in _FLUIDS else 0.07)
            mottle = np.float32(np.cos(angle)) * overlay.mottle[0] + np.float32(np.sin(angle)) * overlay.mottle[1]
            value = value * (1 + roughness * (mottle + np.float32(0.3) * texture.take(overlay.at)))
        below = image.take(overlay.at)
        image[overlay.at] = below + overlay.share * (value - below)
    texture *= np.float32(contrast.texture)
    texture += 1
    image *= texture
    return image


_FLUIDS = {part.name.lower() for part in (Part.CYST, Part.CAVITY)}
