"""Findings of what a user names: a study, a mask alone, or all of a folder."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import joblib

from voxmoe.errors import AtlasError, VoxmoeError
from voxmoe.imaging.atlas import RegionMap, region_map
from voxmoe.imaging.layouts import find_masks, find_study, mask_alone, require_profile
from voxmoe.imaging.study import StudyFiles, check_same_grid, load_study
from voxmoe.imaging.volume import Volume, read_image, read_mask
from voxmoe.vocabulary import Modality, Profile
from voxmoe.vqa.findings import NO_BRAIN_IMAGE, Brain, Findings, find, measure_brain
from voxmoe.vqa.protocol import Protocol, protocol_named
from voxmoe.vqa.workers import results

_LARGEST_BRAIN_MM3 = 2.5e6
"""An image in which more than this counts as brain shows the skull too: no brain is as large, and no head as small."""


def brain_of(images: Mapping[Modality, Volume], protocol: Protocol) -> Brain | str:
    """The brain measured on T1, or on the first modality there is: skull-stripped, all show the same brain.

    Or, where it cannot be, the reason.
    """
    if not images:
        return NO_BRAIN_IMAGE
    modality = next(modality for modality in Modality if modality in images)
    image = images[modality]
    brain = measure_brain(image, modality, protocol)
    if brain.voxels * image.voxel_mm3 > _LARGEST_BRAIN_MM3:
        litres = brain.voxels * image.voxel_mm3 / 1e6
        return (
            f"{image.source}: {litres:.1f} l of it are not background, where a brain has at most "
            f"{_LARGEST_BRAIN_MM3 / 1e6:g}: a skull-stripped {modality} image, 0 around the brain, is needed"
        )
    return brain


def regions_of(scan: Volume, atlas: str, space: str | None, required: bool = False) -> RegionMap | str:
    """The regions on a scan's grid, or, where they cannot be told and are not `required`, the reason."""
    try:
        return region_map(scan, atlas, space)
    except AtlasError as error:
        if required:
            raise
        return str(error)


def findings_of(
    mask: Volume,
    images: Mapping[Modality, Volume],
    profile: Profile,
    rules: Protocol,
    atlas: str | None = None,
    space: str | None = None,
    required: bool = False,
) -> Findings:
    """Findings of a mask, with the brain and the regions that the images beside it and its grid tell; regions that are
    not `required` are left out with the reason where they cannot be told."""
    regions = regions_of(mask, atlas or rules.atlas, space, required)
    return find(mask, profile, rules, brain_of(images, rules), regions)


def files_of(target: Path, profile: str | None = None) -> StudyFiles:
    """The study in a folder (or DATASET/STUDY), or a mask by itself; raises `StudyError` if there is none."""
    if target.is_dir() or not (target.exists() or target.name.lower().endswith((".nii", ".nii.gz"))):
        return find_study(target, profile)
    return mask_alone(target, profile)


def measure(
    target: Path,
    *,
    profile: str | None = None,
    protocol: str = "paper-v2",
    t1: Path | None = None,
    atlas: str | None = None,
    space: str | None = None,
    without: Collection[Modality] = (),
) -> Findings:
    """Findings of the study in a folder (or DATASET/STUDY), or of a mask file with the T1 image given, if any; the
    modalities `without` are not looked at.

    An atlas or space that was asked for has to fit; the default one, where it does not, leaves the regions out with
    the reason.
    """
    return _measure(files_of(target, profile), _Asked(profile, protocol_named(protocol), atlas, space), t1, without)


def measure_all(
    folder: Path,
    *,
    profile: str | None = None,
    protocol: str = "paper-v2",
    atlas: str | None = None,
    space: str | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[StudyFiles, Findings | str]]:
    """Findings of every mask at or below a folder, of studies and of those that lie there alone, in the order of their
    paths, by `jobs` processes (-1 for one a core); the reason in place of those of a study that cannot be used.

    Raises `StudyError` if there is no mask, and `JobsError` for 0 jobs.
    """
    files = find_masks(folder, profile)
    asked = _Asked(profile, protocol_named(protocol), atlas, space)
    found: dict[int, Findings | str] = {}
    progress(0, len(files))
    with results((joblib.delayed(_try)(number, one, asked) for number, one in enumerate(files)), jobs) as work:
        for number, outcome in work:
            found[number] = outcome
            progress(len(found), len(files))
    return [(one, found[number]) for number, one in enumerate(files)]


@dataclass(frozen=True)
class _Asked:
    """What a user asks for beside the study."""

    profile: str | None
    rules: Protocol
    atlas: str | None
    space: str | None


def _try(number: int, files: StudyFiles, asked: _Asked) -> tuple[int, Findings | str]:
    """The findings of one of many, or why there are none."""
    try:
        return number, _measure(files, asked)
    except VoxmoeError as error:
        return number, str(error)


def _measure(files: StudyFiles, asked: _Asked, t1: Path | None = None, without: Collection[Modality] = ()) -> Findings:
    images: dict[Modality, Volume] = {}
    alone = read_mask(files.mask) if files.mask is not None and not files.images else None
    files = require_profile(files, asked.profile)
    assert files.profile is not None
    if alone is not None:
        mask = alone
    else:
        study = load_study(files, with_mask=True)
        assert study.mask is not None
        mask = study.mask
        images = {modality: image for modality, image in study.images.items() if modality not in without}
    if t1 is not None:
        images[Modality.T1] = read_image(t1)
        check_same_grid(mask, images[Modality.T1])
    required = bool(asked.atlas or asked.space)
    return findings_of(mask, images, files.profile, asked.rules, asked.atlas, asked.space or files.space, required)
