"""A segmentation mask -> volume, region, shape and spread of each label (mpLLM, section 3.2.1 and Appendix A)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from voxmoe.errors import ImageError
from voxmoe.imaging.atlas import RegionMap
from voxmoe.imaging.grid import bounding_box
from voxmoe.imaging.study import check_labels, check_same_grid
from voxmoe.imaging.volume import Volume, where_label
from voxmoe.vocabulary import ABSENT, NO_REGION, REGIONS, Profile, Task
from voxmoe.vqa.components import Shape, core_shape, find_components, mean_shape
from voxmoe.vqa.protocol import Protocol

NO_BRAIN_IMAGE = "no T1 image: the brain's volume is unknown"


@dataclass(frozen=True)
class LabelFindings:
    """What is found of one label. A field is None where it does not apply or, with a reason, cannot be computed."""

    present: bool
    voxels: int
    volume_mm3: float
    relative_volume: float | None
    """In the protocol's percent of the brain."""
    brain_fraction: float | None
    """Mask voxels over brain voxels, 0 to 1."""
    volume: str | None
    regions: Mapping[str, tuple[str, ...]] | None
    """Each region that the label touches with its sides; empty if it touches none that the atlas labels."""
    shape: str
    shape_numbers: Shape | None
    spread: str
    components: int
    """Those that the protocol counts."""
    core_fraction: float | None
    reasons: Mapping[str, str]
    """Why a field is None, by the field's name in the JSON form."""

    def answer(self, task: Task) -> tuple[str, ...]:
        """The answer terms to a task: one, or for region one or more."""
        if task is Task.REGION:
            if not self.present:
                return (ABSENT,)
            return tuple(sorted(self.regions)) or (NO_REGION,) if self.regions is not None else ()
        term = {Task.VOLUME: self.volume, Task.SHAPE: self.shape, Task.SPREAD: self.spread}[task]
        return (term,) if term is not None else ()


@dataclass(frozen=True)
class Findings:
    """The findings of all labels of a mask, and by which rules and atlas they were made."""

    protocol: str
    profile: str
    labels: Mapping[str, LabelFindings]
    brain_voxels: int | None
    brain_from: str | None
    atlas: str | None
    space: str | None


@dataclass(frozen=True)
class Brain:
    """How many voxels the brain has, and which image says so."""

    voxels: int
    source: str


def measure_brain(image: Volume, name: str, protocol: Protocol) -> Brain:
    """Count the brain voxels of a skull-stripped image (the T1 by the paper's protocol)."""
    if protocol.brain_threshold is None:
        voxels = int(np.count_nonzero(image.data))
    else:
        voxels = int((image.data > protocol.brain_threshold).sum())
    if voxels == 0:
        raise ImageError(f"{image.source}: no voxel counts as brain; a skull-stripped {name} image is needed")
    return Brain(voxels, name)


def _absent(brain: Brain | str) -> LabelFindings:
    return LabelFindings(
        present=False,
        voxels=0,
        volume_mm3=0.0,
        relative_volume=0.0 if isinstance(brain, Brain) else None,
        brain_fraction=0.0 if isinstance(brain, Brain) else None,
        volume=ABSENT,
        regions={},
        shape=ABSENT,
        shape_numbers=None,
        spread=ABSENT,
        components=0,
        core_fraction=None,
        reasons={"shape numbers": "the label is absent", "core_fraction": "the label is absent"},
    )


def _touched_regions(mask: Bool[np.ndarray, "X Y Z"], codes: np.ndarray) -> dict[str, tuple[str, ...]]:
    touched = np.flatnonzero(np.bincount(codes[mask], minlength=1)[1:])
    sides: dict[str, list[str]] = {}
    for code in touched:
        sides.setdefault(REGIONS[code // 2], []).append(("left", "right")[code % 2])
    return {region: tuple(found) for region, found in sides.items()}


def _label_findings(
    everywhere: Bool[np.ndarray, "X Y Z"],
    voxels: int,
    mask: Volume,
    protocol: Protocol,
    brain: Brain | str,
    codes: UInt8[np.ndarray, "X Y Z"] | str,
) -> LabelFindings:
    if voxels == 0:
        return _absent(brain)
    box = bounding_box(everywhere)
    here = everywhere[box.slices]
    reasons = {}
    if isinstance(brain, str):
        reasons["volume"] = brain
    if isinstance(codes, str):
        reasons["regions"] = codes
    relative = protocol.relative_volume(voxels, brain.voxels) if isinstance(brain, Brain) else None
    components = find_components(here, protocol.connectivity)
    if protocol.fragment_mm3:
        components = components.without_fragments(protocol.fragment_mm3 / mask.voxel_mm3)
    count = len(components.voxels)
    by_core = count == 1 or components.core_fraction >= protocol.core_fraction
    numbers = (core_shape if by_core else mean_shape)(components, mask.spacing, protocol.solid_voxels)
    counted_mm3 = int(components.voxels.sum()) * mask.voxel_mm3
    return LabelFindings(
        present=True,
        voxels=voxels,
        volume_mm3=voxels * mask.voxel_mm3,
        relative_volume=relative,
        brain_fraction=voxels / brain.voxels if isinstance(brain, Brain) else None,
        volume=protocol.volume_category(relative) if relative is not None else None,
        regions=None if isinstance(codes, str) else _touched_regions(here, codes[box.slices]),
        shape=protocol.shape_category(counted_mm3, numbers.sphericity, numbers.elongation),
        shape_numbers=numbers,
        spread=protocol.spread_category(count, components.core_fraction),
        components=count,
        core_fraction=components.core_fraction,
        reasons=reasons,
    )


def find(
    mask: Volume,
    profile: Profile,
    protocol: Protocol,
    brain: Brain | str = NO_BRAIN_IMAGE,
    regions: RegionMap | str = "no atlas was given",
) -> Findings:
    """Findings of every label of `profile` in a mask [X, Y, Z] of label values.

    With a reason in place of `brain` the relative volume is None, with one in place of `regions` (on the mask's grid)
    the regions are; everything else is given. Raises `LabelError` for a value that the profile does not know and
    `StudyError` for a region map on another grid.
    """
    box = bounding_box(mask.data)
    lesions = mask.crop(box.slices)
    places = {label.key: where_label(lesions.data, label.values) for label in profile.labels}
    voxels = {key: int(np.count_nonzero(place)) for key, place in places.items()}
    overlap = any(label.also for label in profile.labels)
    if overlap or sum(voxels.values()) != np.count_nonzero(lesions.data):
        check_labels(lesions, profile)
    atlas = None if isinstance(regions, str) else regions
    if atlas is not None:
        check_same_grid(mask, atlas.grid)
    codes = regions if isinstance(regions, str) else regions.codes[box.slices]
    labels = {key: _label_findings(place, voxels[key], mask, protocol, brain, codes) for key, place in places.items()}
    return Findings(
        protocol=protocol.name,
        profile=profile.name,
        labels=labels,
        brain_voxels=brain.voxels if isinstance(brain, Brain) else None,
        brain_from=brain.source if isinstance(brain, Brain) else None,
        atlas=atlas.atlas if atlas else None,
        space=atlas.space if atlas else None,
    )


def _label_json(found: LabelFindings) -> dict[str, Any]:
    numbers = found.shape_numbers
    return {
        "present": found.present,
        "volume_mm3": found.volume_mm3,
        "volume": {
            "fraction": found.brain_fraction,
            "percent": found.relative_volume,
            "category": found.volume,
        },
        "regions": sorted(found.regions) if found.regions is not None else None,
        "sides": (
            {region: list(sides) for region, sides in sorted(found.regions.items())}
            if found.regions is not None
            else None
        ),
        "shape": {
            "category": found.shape,
            **{name: getattr(numbers, name) if numbers else None for name in Shape.__dataclass_fields__},
        },
        "spread": {
            "category": found.spread,
            "components": found.components,
            "core_fraction": found.core_fraction,
        },
        "reasons": dict(found.reasons),
    }


def to_json(findings: Findings) -> dict[str, Any]:
    """The findings as `voxmoe findings --json` prints them."""
    return {
        "protocol": findings.protocol,
        "profile": findings.profile,
        "brain": {"voxels": findings.brain_voxels, "from": findings.brain_from},
        "atlas": {"name": findings.atlas, "space": findings.space},
        "labels": {key: _label_json(found) for key, found in findings.labels.items()},
    }
