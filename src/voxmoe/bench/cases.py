"""What is measured: the scans in the folder that VOXMOE_REAL_DATA names, else phantoms drawn in memory."""

import os
from dataclasses import dataclass
from pathlib import Path

from voxmoe.imaging.layouts import mask_alone, profile_named, require_profile
from voxmoe.imaging.phantoms import draw_phantom
from voxmoe.imaging.volume import Volume, read_mask
from voxmoe.vocabulary import Profile

PHANTOMS = 4


@dataclass(frozen=True, eq=False)
class MaskCase:
    name: str
    mask: Volume
    profile: Profile


def real_files(*patterns: str) -> list[Path]:
    """The files of the real data that fit any of the patterns; none where VOXMOE_REAL_DATA is not set."""
    root = os.environ.get("VOXMOE_REAL_DATA")
    return sorted({path for pattern in patterns for path in Path(root).glob(pattern)}) if root else []


def _real_mask(path: Path) -> MaskCase:
    profile = require_profile(mask_alone(path)).profile
    assert profile is not None
    return MaskCase(path.name.split(".")[0], read_mask(path), profile)


def _phantom_mask(index: int) -> MaskCase:
    phantom = draw_phantom(profile_named("gli-2024"), seed=0, index=index)
    assert phantom.study.mask is not None
    return MaskCase(phantom.study.id, phantom.study.mask, phantom.profile)


def mask_cases() -> tuple[str, list[MaskCase]]:
    """What the masks are, and the masks."""
    if paths := real_files("gli2024_masks/*.nii.gz", "brats/*/*[-_]seg.nii.gz"):
        return "real masks", [_real_mask(path) for path in paths]
    return "phantoms", [_phantom_mask(index) for index in range(PHANTOMS)]
