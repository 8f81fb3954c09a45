"""How each release names the folder of a study and its files."""

from dataclasses import dataclass
from types import MappingProxyType

from voxmoe.vocabulary import Modality, Profile


@dataclass(frozen=True)
class FileNames:
    """The names of a release; `study` takes the index."""

    study: str
    separator: str
    suffixes: tuple[str, str, str, str]
    """In the order of `Modality`."""
    mask: str = "seg"


_OLD = ("t1", "t1ce", "t2", "flair")
_NEW = ("t1n", "t1c", "t2w", "t2f")
FILE_NAMES = MappingProxyType(
    {
        "gli-2024": FileNames("BraTS-GLI-{:05d}-100", "-", _NEW),
        "met-2024": FileNames("BraTS-MET-{:05d}-000", "-", _NEW),
        "met-2025": FileNames("BraTS-MET-{:05d}-000", "-", _NEW),
        "goat-2024": FileNames("BraTS-GoAT-{:05d}", "-", _NEW),
        "brats-2018": FileNames("Brats18_VOX_{:05d}_1", "_", _OLD),
        "brats-2019": FileNames("BraTS19_VOX_{:05d}_1", "_", _OLD),
        "brats-2020": FileNames("BraTS20_Training_{:03d}", "_", _OLD),
        "brats-2021": FileNames("BraTS2021_{:05d}", "_", _OLD),
        "gli-2023": FileNames("BraTS-GLI-{:05d}-000", "-", _NEW),
        "ped-2023": FileNames("BraTS-PED-{:05d}-000", "-", _NEW),
        "ped-2024": FileNames("BraTS-PED-{:05d}-000", "-", _NEW),
        "ssa-2023": FileNames("BraTS-SSA-{:05d}-000", "-", _NEW),
        "men-2023": FileNames("BraTS-MEN-{:05d}-000", "-", _NEW),
        "men-rt-2024": FileNames("BraTS-MEN-RT-{:04d}-1", "_", _NEW, "gtv"),
    }
)


def study_id(profile: Profile, index: int) -> str:
    return FILE_NAMES[profile.name].study.format(index)


def image_name(profile: Profile, study: str, modality: Modality) -> str:
    names = FILE_NAMES[profile.name]
    suffix = dict(zip(Modality, names.suffixes, strict=True))[modality]
    return f"{study}{names.separator}{suffix}.nii.gz"


def mask_name(profile: Profile, study: str) -> str:
    names = FILE_NAMES[profile.name]
    return f"{study}{names.separator}{names.mask}.nii.gz"
