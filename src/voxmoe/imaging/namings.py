"""How each BraTS release names its studies and their files: one entry a release, read and written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxmoe.imaging.places import Channel, Place
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
    """One release: the pattern of its studies' names, how a study of a given number is named in it, and where its
    files lie below the cohort's folder."""

    profiles: tuple[str, ...]
    """More than one where the name does not say which release it is."""
    pattern: re.Pattern[str] | None
    """Its group `patient` ties the time points of a patient together; None where studies are named at will."""
    study: str
    """Takes the study's number."""
    suffixes: tuple[str, str, str, str]
    """In the order of `Modality`."""
    image: str
    """Takes study, patient and suffix, as `mask` and `truth` take study and patient."""
    mask: str
    truth: str
    channels: tuple[Modality, ...] = ()
    """The modalities in the order of the channels, where files or their numbers have such an order."""

    def study_id(self, number: int) -> str:
        return self.study.format(number)

    def _path(self, template: str, study: str, suffix: str = "") -> Path:
        return Path(template.format(study=study, patient=patient_of(study), suffix=suffix))

    def image_place(self, study: str, modality: Modality) -> Place:
        path = self._path(self.image, study, self.suffixes[tuple(Modality).index(modality)])
        if "{suffix}" in self.image:
            return path
        return Channel(path, self.channels.index(modality), len(self.channels))

    def mask_path(self, study: str) -> Path:
        return self._path(self.mask, study)

    def truth_path(self, study: str) -> Path:
        return self._path(self.truth, study)


def _naming(
    profiles: str, pattern: str, study: str, suffixes: tuple[str, str, str, str], separator: str, mask: str
) -> Naming:
    """A release that gives each study a folder of its own."""
    start = "{study}/{study}" + separator
    return Naming(
        profiles=tuple(profiles.split()),
        pattern=re.compile(pattern, re.IGNORECASE),
        study=study,
        suffixes=suffixes,
        image=start + "{suffix}.nii.gz",
        mask=f"{start}{mask}.nii.gz",
        truth="{study}/{study}-truth.json",
    )


def _before_2023(profile: str, pattern: str, study: str) -> Naming:
    return _naming(profile, pattern, study, ("t1", "t1ce", "t2", "flair"), "_", "seg")


def _since_2023(profiles: str, pattern: str, study: str, separator: str = "-", mask: str = "seg") -> Naming:
    return _naming(profiles, pattern, study, ("t1n", "t1c", "t2w", "t2f"), separator, mask)


_CHANNELS = (Modality.FLAIR, Modality.T1, Modality.T1GD, Modality.T2)
"""The Decathlon's order; nnU-Net takes any."""

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
    Naming(
        profiles=("msd-task01",),
        pattern=re.compile(r"(?P<patient>BRATS_(\d{3}|[1-9]\d{3,}))"),
        study="BRATS_{:03d}",
        suffixes=("", "", "", ""),
        image="Task01_BrainTumour/imagesTr/{study}.nii.gz",
        mask="Task01_BrainTumour/labelsTr/{study}.nii.gz",
        truth="truth/{study}.json",
        channels=_CHANNELS,
    ),
    Naming(
        profiles=("nnunet",),
        pattern=None,
        study="VOX_{:03d}",
        suffixes=("0001", "0002", "0003", "0000"),
        image="Dataset001_Phantom/imagesTr/{study}_{suffix}.nii.gz",
        mask="Dataset001_Phantom/labelsTr/{study}.nii.gz",
        truth="truth/{study}.json",
        channels=_CHANNELS,
    ),
    Naming(
        profiles=("bids",),
        pattern=re.compile(r"(?P<patient>sub-[a-z0-9]+)(_ses-[a-z0-9]+)?", re.IGNORECASE),
        study="sub-{:03d}_ses-01",
        suffixes=("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR"),
        image="phantom/{patient}/ses-01/anat/{study}_{suffix}.nii.gz",
        mask="phantom/derivatives/lesions/{patient}/ses-01/anat/{study}_dseg.nii.gz",
        truth="truth/{study}.json",
    ),
)


def naming_of(study_id: str) -> Naming | None:
    """The release that names a study so, if any does."""
    return next((naming for naming in NAMINGS if naming.pattern and naming.pattern.fullmatch(study_id)), None)


def patient_of(study_id: str) -> str:
    """The patient as the study's name tells it; the study itself where no release names its studies so."""
    naming = naming_of(study_id)
    match = naming.pattern.fullmatch(study_id) if naming and naming.pattern else None
    return match["patient"] if match else study_id


def naming_for(profile: Profile) -> Naming:
    """How the release of a profile names things."""
    return next(naming for naming in NAMINGS if profile.name in naming.profiles)
