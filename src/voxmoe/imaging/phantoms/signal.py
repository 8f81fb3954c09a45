"""Tissue to signal: what all modalities of a study show, each as bright as its contrast has it."""

from dataclasses import dataclass

import numpy as np

from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.contrasts import Contrast
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Flat
from voxmoe.imaging.phantoms.lesions import Lesions
from voxmoe.imaging.phantoms.parameters import Parameters
from voxmoe.imaging.phantoms.parts import Part


@dataclass(frozen=True, eq=False)
class Scene:
    """What all modalities of a study share: the brain, its lesions and its harmless findings, each 0 to 1."""

    brain: Brain
    lesions: Lesions
    spots: Flat
    dura: Flat


def _bright_spots(parameters: Parameters, brain: Brain, rng: Rng) -> Flat:
    """FLAIR-bright white matter that nobody would segment: caps along the ventricles, spots in the depth."""
    caps = np.float32(parameters.caps) * np.exp(-np.clip(brain.ventricle, 0, None) / 2.0)
    caps *= np.clip(0.6 + 0.6 * brain.voxels.noise(rng, 16.0), 0, 1)
    field = brain.voxels.noise(rng, 5.0)
    threshold = np.quantile(field[::50], 1 - parameters.spots)
    small = np.clip((field - np.float32(threshold)) / 0.35, 0, 1) * (brain.depth > 9)
    return np.asarray(np.maximum(caps, small * 0.9) * np.clip(brain.white * 1.3 - 0.2, 0, 1), dtype=np.float32)


def make_scene(parameters: Parameters, brain: Brain, lesions: Lesions) -> Scene:
    rng = np.random.default_rng([parameters.seed, 0])
    spots = _bright_spots(parameters, brain, rng)
    rim = np.clip(1.6 - np.abs(brain.depth - 0.3), 0, 1) * np.float32(parameters.dura)
    return Scene(brain, lesions, spots, rim * np.clip(0.3 + 0.7 * brain.voxels.noise(rng, 18.0), 0, 1))


def _mix(image: Flat, share: Flat, value: Flat) -> None:
    """Lay a tissue over the image where its share is not negligible."""
    at = np.flatnonzero(share > 0.02)
    image[at] += share[at] * (value[at] - image[at])


def tissue_signal(scene: Scene, contrast: Contrast, rng: Rng) -> Flat:
    """The signal of every voxel, white matter being 1."""
    brain = scene.brain
    light = {tissue: np.float32(value) for tissue, value in contrast.brightness.items()}
    image = brain.white + brain.csf * light["csf"]
    image += brain.grey * light["grey"] + brain.deep * light["deep"]
    over = {"spots": scene.spots, "dura": scene.dura, "plexus": brain.plexus, "vessel": brain.vessel}
    for tissue, share in over.items():
        _mix(image, share, np.full_like(image, light[tissue]))
    texture = brain.voxels.noise(rng, 2.4)
    mottle = brain.voxels.noise(rng, 6.0)
    for part, share in scene.lesions.soft.items():
        roughness = np.float32(0.04 if part in (Part.CYST, Part.CAVITY) else 0.1)
        _mix(image, share, light[part.name.lower()] * (1 + roughness * (mottle + 0.5 * texture)))
    return image * (1 + np.float32(contrast.texture) * texture)
