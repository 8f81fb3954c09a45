"""Findings of what a user names: a study's folder, or a mask alone."""

from pathlib import Path

from voxmoe.errors import AtlasError
from voxmoe.imaging.atlas import RegionMap, region_map
from voxmoe.imaging.layouts import find_study, mask_alone, require_profile
from voxmoe.imaging.study import check_same_grid, load_study
from voxmoe.imaging.volume import Volume, read_image, read_mask
from voxmoe.vocabulary import Modality
from voxmoe.vqa.findings import Brain, Findings, find, measure_brain
from voxmoe.vqa.protocol import Protocol, protocol_named


def brain_of(images: dict[Modality, Volume], protocol: Protocol) -> Brain:
    """The brain measured on T1, or on the first modality there is: skull-stripped, all show the same brain."""
    modality = next(modality for modality in Modality if modality in images)
    return measure_brain(images[modality], modality, protocol)


def _regions(mask: Volume, atlas: str, space: str | None, required: bool) -> RegionMap | str:
    try:
        return region_map(mask, atlas, space)
    except AtlasError as error:
        if required:
            raise
        return str(error)


def measure(
    target: Path,
    *,
    profile: str | None = None,
    protocol: str = "paper-v2",
    t1: Path | None = None,
    atlas: str | None = None,
    space: str | None = None,
) -> Findings:
    """Findings of the study in a folder, or of a mask file with the T1 image given, if any.

    An atlas or space that was asked for has to fit; the default one, where it does not, leaves the regions out with
    the reason.
    """
    rules = protocol_named(protocol)
    images: dict[Modality, Volume] = {}
    if target.is_dir():
        files = require_profile(find_study(target, profile), profile)
        assert files.profile is not None
        study = load_study(files, with_mask=True)
        assert study.mask is not None
        mask, meaning, images = study.mask, files.profile, dict(study.images)
    else:
        mask = read_mask(target)
        files = require_profile(mask_alone(target), profile)
        assert files.profile is not None
        meaning = files.profile
    if t1 is not None:
        images[Modality.T1] = read_image(t1)
        check_same_grid(mask, images[Modality.T1])
    brain = brain_of(images, rules) if images else None
    regions = _regions(mask, atlas or rules.atlas, space, required=bool(atlas or space))
    return find(mask, meaning, rules, brain, regions)
