"""A study: the co-registered modalities of one examination, with a mask where one exists, on one grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.places import Place
from voxmoe.imaging.volume import Volume, label_values, read_images, read_mask
from voxmoe.vocabulary import Modality, Profile


@dataclass(frozen=True)
class StudyFiles:
    """Where the parts of a study lie. `profile` is None where the layout alone does not decide it."""

    id: str
    patient: str
    images: Mapping[Modality, Place]
    mask: Path | None = None
    profile: Profile | None = None
    space: str | None = None
    """The standard space that the layout says the study lies in; where it says none, the grid may."""
    held_out: bool = False
    """A test case whose mask its release keeps back: nothing is amiss where it has none."""


@dataclass(frozen=True, eq=False)
class Study:
    """The loaded study: at least one modality, all on one RAS grid. A missing modality is simply not there."""

    id: str
    images: Mapping[Modality, Volume]
    mask: Volume | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise StudyError(f"{self.id}: no image; at least one of {', '.join(Modality)} is needed")
        reference = self.reference
        for volume in (*self.images.values(), *([self.mask] if self.mask else [])):
            check_same_grid(reference, volume)

    @property
    def reference(self) -> Volume:
        return next(iter(self.images.values()))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that are present, in the vocabulary's order."""
        return tuple(modality for modality in Modality if modality in self.images)

    @cached_property
    def foreground(self) -> Bool[np.ndarray, "X Y Z"]:
        """The voxels in which any modality is not zero (the images are skull-stripped)."""
        foreground = np.zeros(self.reference.shape, dtype=bool, order="F")
        for volume in self.images.values():
            foreground |= volume.data != 0
        return foreground


def check_same_grid(reference: Volume, volume: Volume) -> None:
    """Raise `StudyError` unless both volumes lie on one grid."""
    if not reference.same_grid(volume):
        raise StudyError(
            f"{volume.source}: lies on another grid than {reference.source}: {volume.describe_grid()} against "
            f"{reference.describe_grid()}; register and resample all files of a study to one grid first"
        )


def check_labels(mask: Volume, profile: Profile) -> None:
    """Raise `LabelError` if the mask holds a label value that the profile does not know."""
    unknown = [int(value) for value in label_values(mask) if int(value) not in profile.by_value]
    if unknown:
        allowed = ", ".join(f"{value} {label.key}" for label in profile.labels for value in label.values)
        table = profile.labels_from
        mend = f"mend {table}, or name" if table else "name"
        raise LabelError(
            f"{mask.source}: label value {', '.join(map(str, unknown))} is not in {table or f'profile {profile.name}'} "
            f"(0 background, {allowed}); {mend} the mask's own release with --profile"
        )


def load_mask(path: Path, profile: Profile) -> Volume:
    mask = read_mask(path)
    check_labels(mask, profile)
    return mask


def load_study(files: StudyFiles, with_mask: bool = False, scan: bool = False) -> Study:
    """Read the images of a study (and its mask) and check that they belong together.

    With `scan`, images are read as `scan_image` does, for those who count voxels and no more. Raises `ImageError`,
    `LabelError` or `StudyError`, each naming the file.
    """
    places = {modality: files.images[modality] for modality in Modality if modality in files.images}
    images = read_images(places, scan)
    mask = None
    if with_mask:
        if files.mask is None:
            raise StudyError(f"{files.id}: has no mask")
        mask = load_mask(files.mask, files.profile) if files.profile else read_mask(files.mask)
    return Study(files.id, images, mask)
