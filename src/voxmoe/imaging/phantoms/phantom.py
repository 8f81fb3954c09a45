"""A synthetic study: drawn parameters become a brain, lesions, images and a mask, with the truth beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from voxmoe import __version__
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.phantoms.acquisition import acquire
from voxmoe.imaging.phantoms.brain import Brain, grow_brain
from voxmoe.imaging.phantoms.foci import pushes
from voxmoe.imaging.phantoms.geometry import Point
from voxmoe.imaging.phantoms.lesions import grow_lesions
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.parts import Part, part_labels
from voxmoe.imaging.phantoms.signal import make_scene
from voxmoe.imaging.spaces import SRI24
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume
from voxmoe.vocabulary import Profile


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic study with its mask, what was drawn and what came of it."""

    study: Study
    profile: Profile
    truth: Mapping[str, Any]


def _rounded(point: Point) -> list[float]:
    return [round(value, 2) for value in point]


def _label_truth(mask: UInt8[np.ndarray, " N"], brain: Brain, profile: Profile) -> dict[str, Any]:
    truth = {}
    for label in profile.labels:
        at = brain.voxels.index[mask == label.value]
        centre = None
        if len(at):
            voxel = [float(axis.mean()) for axis in np.unravel_index(at, brain.voxels.shape)]
            centre = _rounded(brain.voxels.world(voxel))
        truth[label.key] = {
            "present": bool(len(at)),
            "voxels": len(at),
            "percent": round(100 * len(at) / int(brain.inside.sum()), 4),
            "centre_mm": centre,
        }
    return truth


def draw_phantom(profile: Profile, seed: int, index: int) -> Phantom:
    """Study `index` of the cohort that `seed` names; the same arguments give the same bytes.

    Raises `AtlasError` if the template it is made from is not installed.
    """
    parameters = draw_parameters(profile, seed, index)
    brain = grow_brain(parameters.anatomy, pushes(parameters.foci, parameters.anatomy))
    labels = part_labels(profile)
    lesions = grow_lesions(parameters.foci, brain, parameters.anatomy, cavities=bool(labels[Part.CAVITY]))
    mask = labels[lesions.parts] * brain.inside
    scene = make_scene(parameters, brain, lesions)
    name = naming_for(profile).study_id(index)

    def volume(data: Shaped[np.ndarray, "X Y Z"], what: str) -> Volume:
        return Volume(data, SRI24.affine, f"{name} {what}", SRI24.axes)

    images = {m: volume(acquire(scene, parameters.modalities[m]), m) for m in profile.modalities}
    truth = {
        "id": name,
        "voxmoe": __version__,
        "profile": profile.name,
        "seed": seed,
        "index": index,
        "brain_voxels": int(brain.inside.sum()),
        "labels": _label_truth(mask, brain, profile),
        "foci": [
            {"kind": focus.kind, "centre_mm": _rounded(centre)}
            for focus, centre in zip(parameters.foci, lesions.centres, strict=True)
        ],
        "parameters": parameters.to_json(),
    }
    return Phantom(Study(name, images, volume(brain.voxels.on_grid(mask), "mask")), profile, truth)
