"""How each BraTS release names its studies and their files: one entry a release, read and written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from voxmoe.vocabulary import Modality, Profile

MODALITY_SUFFIXES = {
    Modality.T1: ("t1", "t1n", "t1w"),
    Modality.T1GD: ("t1gd", "t1ce", "t1c", "t1post"),
    Modality.T2: ("t2", "t2w"),
    Modality.FLAIR: ("flair", "t2f", "fla", "t2flair"),
}
"""Endings of file names, lower case, that say which modality an image is, whatever the release."""
MASK_SUFFIXES = ("seg", "segm", "gtv")
ROLES: Mapping[str, Modality | None] = {
    **{suffix: modality for modality, suffixes in MODALITY_SUFFIXES.items() for suffix in suffixes},
    **dict.fromkeys(MASK_SUFFIXES),
}
"""Ending -> modality, or None for a mask."""


@dataclass(frozen=True)
class Naming:
    """One release: the pattern of its studies' names and how a study of a given number is named in it."""

    profiles: tuple[str, ...]
    """More than one where the name does not say which release it is."""
    pattern: re.Pattern[str]
    """Its group `patient` ties the time points of a patient together."""
    study: str
    """Takes the study's number."""
    suffixes: tuple[str, str, str, str]
    """In the order of `Modality`."""
    separator: str = "-"
    mask: str = "seg"

    def study_id(self, number: int) -> str:
        return self.study.format(number)

    def image_name(self, study: str, modality: Modality) -> str:
        return f"{study}{self.separator}{self.suffixes[tuple(Modality).index(modality)]}.nii.gz"

    def mask_name(self, study: str) -> str:
        return f"{study}{self.separator}{self.mask}.nii.gz"


def _before_2023(profile: str, pattern: str, study: str) -> Naming:
    suffixes = ("t1", "t1ce", "t2", "flair")
    return Naming((profile,), re.compile(pattern, re.IGNORECASE), study, suffixes, separator="_")


def _since_2023(profiles: str, pattern: str, study: str, separator: str = "-", mask: str = "seg") -> Naming:
    suffixes = ("t1n", "t1c", "t2w", "t2f")
    return Naming(tuple(profiles.split()), re.compile(pattern, re.IGNORECASE), study, suffixes, separator, mask)


NAMINGS = (
    _before_2023("brats-2018", r"(?P<patient>Brats1[78]_.+_\d+)", "Brats18_VOX_{:05d}_1"),
    _before_2023("brats-2019", r"(?P<patient>BraTS19_.+_\d+)", "BraTS19_VOX_{:05d}_1"),
    _before_2023("brats-2020", r"(?P<patient>BraTS20_(Training|Validation)_\d+)", "BraTS20_Training_{:03d}"),
    _before_2023("brats-2021", r"(?P<patient>BraTS2021_\d+)", "BraTS2021_{:05d}"),
    _since_2023("gli-2023", r"(?P<patient>BraTS-GLI-\d+)-0\d\d", "BraTS-GLI-{:05d}-000"),
    _since_2023("gli-2024", r"(?P<patient>BraTS-GLI-\d+)-1\d\d", "BraTS-GLI-{:05d}-100"),
    _since_2023("met-2024 met-2025", r"(?P<patient>BraTS-MET-\d+)-\d+", "BraTS-MET-{:05d}-000"),
    _since_2023("goat-2024", r"(?P<patient>BraTS-GoAT-\d+)", "BraTS-GoAT-{:05d}"),
    _since_2023("ped-2023 ped-2024", r"(?P<patient>BraTS-PED-\d+)-\d+", "BraTS-PED-{:05d}-000"),
    _since_2023("ssa-2023", r"(?P<patient>BraTS-SSA-\d+)-\d+", "BraTS-SSA-{:05d}-000"),
    _since_2023("men-rt-2024", r"(?P<patient>BraTS-MEN-RT-\d+)-\d+", "BraTS-MEN-RT-{:04d}-1", "_", "gtv"),
    _since_2023("men-2023", r"(?P<patient>BraTS-MEN-\d+)-\d+", "BraTS-MEN-{:05d}-000"),
)


def naming_of(study_id: str) -> Naming | None:
    """The release that names a study so, if any does."""
    return next((naming for naming in NAMINGS if naming.pattern.fullmatch(study_id)), None)


def naming_for(profile: Profile) -> Naming:
    """How the release of a profile names things."""
    return next(naming for naming in NAMINGS if profile.name in naming.profiles)
