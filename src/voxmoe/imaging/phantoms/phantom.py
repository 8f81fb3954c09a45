"""A synthetic study: drawn parameters become a brain with lesions, which is imaged, with the truth beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from voxmoe import __version__
from voxmoe.errors import ImageError
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.parts import Part, part_labels
from voxmoe.imaging.phantoms.acquisition import acquire
from voxmoe.imaging.phantoms.brain import Brain, grow_brain
from voxmoe.imaging.phantoms.diseases import grows_in_ventricles
from voxmoe.imaging.phantoms.foci import pushes
from voxmoe.imaging.phantoms.geometry import Flat, Point
from voxmoe.imaging.phantoms.lesions import Lesions, grow_lesions
from voxmoe.imaging.phantoms.masks import Masks
from voxmoe.imaging.phantoms.parameters import Parameters, draw_parameters
from voxmoe.imaging.phantoms.signal import Scene, make_scene
from voxmoe.imaging.phantoms.tracing import trace_lesions
from voxmoe.imaging.phantoms.voxels import Raster, world_of
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
        at = mask == label.value
        voxels = int(at.sum())
        truth[label.key] = {
            "present": voxels > 0,
            "voxels": voxels,
            "percent": round(100 * voxels / int(brain.inside.sum()), 4),
            "centre_mm": _rounded(world_of(brain.voxels.places(at).mean(axis=1))) if voxels else None,
        }
    return truth


@dataclass(frozen=True, eq=False)
class Subject:
    """A brain with its lesions on a raster, to be imaged as often as wanted."""

    profile: Profile
    seed: int
    index: int
    parameters: Parameters
    scene: Scene
    lesions: Lesions

    @cached_property
    def id(self) -> str:
        return naming_for(self.profile).study_id(self.index)

    @cached_property
    def _flat_mask(self) -> UInt8[np.ndarray, " N"]:
        mask: UInt8[np.ndarray, " N"] = part_labels(self.profile)[self.lesions.parts] * self.scene.brain.inside
        return mask

    def _volume(self, data: Shaped[np.ndarray, "X Y Z"], what: str) -> Volume:
        return Volume(data, self.scene.brain.voxels.raster.affine, f"{self.id} {what}", SRI24.axes)

    @cached_property
    def mask(self) -> Volume:
        return self._volume(self.scene.brain.voxels.on_grid(self._flat_mask), "mask")

    def _shares(self) -> dict[Part, Flat]:
        brain = self.scene.brain
        shares = self.lesions.shares(brain.voxels.raster.spacing)
        return {part: share * brain.inside for part, share in shares.items()}

    def part_fractions(self) -> dict[Part, Float32[np.ndarray, "X Y Z"]]:
        """How much of each voxel each part of the lesions fills, 0 to 1, whether the profile labels it or not."""
        return {part: self.scene.brain.voxels.on_grid(share) for part, share in self._shares().items()}

    def fractions(self) -> dict[str, Float32[np.ndarray, "X Y Z"]]:
        """How much of each voxel each label of the profile fills, 0 to 1; where voxels are coarse more than one can."""
        values, voxels = part_labels(self.profile), self.scene.brain.voxels
        labels = {label.key: np.zeros(len(voxels.index), dtype=np.float32) for label in self.profile.labels}
        for part, share in self._shares().items():
            if values[part]:
                labels[self.profile.by_value[int(values[part])].key] += share
        return {key: voxels.on_grid(share) for key, share in labels.items()}

    def _parameters(self, take: int) -> Parameters:
        """The subject's own, as the scanner of a take sees it."""
        seen = draw_parameters(self.profile, self.seed, self.index, take)
        return replace(self.parameters, modalities=seen.modalities)

    def study(self, take: int = 0) -> Study:
        """The subject's images with its mask. Another `take` is another scanner: other contrasts of the same brain and
        lesions."""
        modalities = self._parameters(take).modalities
        images = {m: self._volume(acquire(self.scene, modalities[m]), m) for m in self.profile.modalities}
        return Study(self.id, images, self.mask)

    def image(self, take: int = 0) -> Phantom:
        """The subject's study of a take, with the truth about it."""
        parameters = self._parameters(take)
        brain = self.scene.brain
        truth = {
            "id": self.id,
            "voxmoe": __version__,
            "profile": self.profile.name,
            "seed": self.seed,
            "index": self.index,
            "brain_voxels": int(brain.inside.sum()),
            "labels": _label_truth(self._flat_mask, brain, self.profile),
            "foci": [
                {"kind": kind, "centre_mm": _rounded(centre)}
                for kind, centre in zip(parameters.kinds, self.lesions.centres, strict=True)
            ],
            "parameters": parameters.to_json(),
        }
        return Phantom(self.study(take), self.profile, truth)


def _brain_and_lesions(
    parameters: Parameters, profile: Profile, raster: Raster, masks: Masks | None
) -> tuple[Brain, Lesions]:
    anatomy, placement = parameters.anatomy, parameters.placement
    cavities = bool(part_labels(profile)[Part.CAVITY])
    if masks is None or placement is None:
        brain = grow_brain(anatomy, pushes(parameters.foci, anatomy), raster)
        return brain, grow_lesions(parameters.foci, brain, anatomy, cavities)
    mask = masks.by_digest[placement.mask]
    brain = grow_brain(anatomy, placement.pushes(mask, anatomy), raster)
    return brain, trace_lesions(mask, placement, brain, anatomy, cavities, grows_in_ventricles(profile))


def draw_subject(profile: Profile, seed: int, index: int, spacing: float = 1.0, masks: Masks | None = None) -> Subject:
    """Subject `index` of the cohort that `seed` names, on voxels of `spacing` mm, its lesions shaped by one of `masks`
    if there are any.

    The same arguments give the same bytes; another spacing gives the same anatomy and lesions to about a voxel. Raises
    `MissingPackageError` if the template it is made from is not installed, `ImageError` for voxels below its own 1 mm.
    """
    if spacing < 1:
        raise ImageError(
            f"phantoms are drawn on voxels of 1 mm or more, not {spacing:g} mm; resample the images of 1 mm"
        )
    parameters = draw_parameters(profile, seed, index, masks=masks)
    brain, lesions = _brain_and_lesions(parameters, profile, Raster(spacing), masks)
    return Subject(profile, seed, index, parameters, make_scene(parameters, brain, lesions), lesions)


def draw_phantom(profile: Profile, seed: int, index: int, spacing: float = 1.0, masks: Masks | None = None) -> Phantom:
    """Study `index` of the cohort that `seed` names: `draw_subject` and its first image."""
    return draw_subject(profile, seed, index, spacing, masks).image()
