"""Which real mask a study's lesion is shaped by, and how it is moved, turned, stretched and mirrored for that study."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.draws import Rng, chance, triple, uniform
from voxmoe.imaging.phantoms.geometry import Point, as_point, rotation
from voxmoe.imaging.phantoms.masks import Masks, RealMask
from voxmoe.imaging.phantoms.warp import Push, mni_to_world

_PUSHING = 0.5
"""Percent of the brain from which on a lesion pushes its surroundings."""


@dataclass(frozen=True)
class Placement:
    """What is drawn of a lesion that a real mask shapes. All happens in the template, before a brain's own warp."""

    mask: str
    """The mask's digest."""
    mirrored: bool
    """Left and right are changed first; the template is symmetric."""
    rotation: Point
    """Degrees, about the lesion's centre, as `scale` is."""
    scale: Point
    shift: Point
    """mm"""
    push: float
    """How strongly the lesion displaces the brain around it."""

    def centre(self, mask: RealMask) -> Point:
        """Where the lesion's centre comes to lie, in template mm."""
        x, y, z = mask.centre_mni
        return as_point(np.add((-x if self.mirrored else x, y, z), self.shift))

    def to_mask(self, mask: RealMask) -> Float[np.ndarray, "4 4"]:
        """From template mm to the mask's voxels."""
        mirror = np.diag([-1.0 if self.mirrored else 1.0, 1.0, 1.0])
        linear = mirror @ np.diag(1 / np.array(self.scale)) @ rotation(self.rotation).T
        own = np.eye(4)
        own[:3, :3] = linear
        own[:3, 3] = mask.centre_mni - linear @ self.centre(mask)
        return np.asarray(np.linalg.inv(mask.to_mni) @ own)

    def pushes(self, mask: RealMask, anatomy: Anatomy) -> tuple[Push, ...]:
        if not self.push:
            return ()
        reach = 8 + 15 * (mask.solid * float(np.prod(self.scale))) ** (1 / 3)
        return (Push(mni_to_world(anatomy, self.centre(mask)), self.push, reach),)


def draw_placement(rng: Rng, masks: Masks) -> Placement:
    """Any of the masks, each as likely, and small changes by which no two lesions are alike."""
    mask = masks.kept[rng.integers(len(masks.kept))]
    size = uniform(rng, -0.1, 0.1)
    # what was operated on draws its surroundings in as often as it pushes them
    push = uniform(rng, -0.15, 0.1) if mask.hollow else uniform(rng, 0.0, 0.3)
    return Placement(
        mask=mask.digest,
        mirrored=chance(rng, 0.5),
        rotation=triple(rng, -8.0, 8.0),
        scale=as_point(np.exp(size + value) for value in rng.uniform(-0.06, 0.06, 3)),
        shift=triple(rng, -4.0, 4.0),
        push=push if mask.solid > _PUSHING else 0.0,
    )
