"""Folders as the BraTS releases 2018-2025 lay them out -> the files of each study.

A file's role is read from the end of its name (`_t1ce`, `-t2f`, `-t2W`, `_seg`), whatever the release and the
separator; the release itself, and so the meaning of the label values, from the name of the study. Where that name
fits several releases, the profile stays open until the user names it.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.namings import ROLES, naming_of
from voxmoe.imaging.study import StudyFiles
from voxmoe.vocabulary import PROFILES, PROFILES_BY_NAME, Modality, Profile

_FILE_NAME = re.compile(r"(?:(?P<id>.+)[-_.])?(?P<suffix>[a-z0-9]+)\.nii(?:\.gz)?", re.IGNORECASE)


def profile_named(name: str) -> Profile:
    """The profile of that name or alias; raises `LabelError` listing those that exist."""
    try:
        return PROFILES_BY_NAME[name.lower()]
    except KeyError:
        known = ", ".join(profile.name for profile in PROFILES)
        raise LabelError(f"no profile is called {name!r}; there are {known}") from None


def candidate_profiles(study_id: str) -> tuple[str, ...]:
    """The names of the profiles that a study of this name can have; empty if no release names its studies so."""
    naming = naming_of(study_id)
    return naming.profiles if naming else ()


def _patient_of(study_id: str) -> str:
    naming = naming_of(study_id)
    match = naming.pattern.fullmatch(study_id) if naming else None
    return match["patient"] if match else study_id


@dataclass
class _Group:
    """The files that share a folder and the part of their names before the role."""

    id: str
    images: dict[Modality, Path] = field(default_factory=dict)
    masks: list[Path] = field(default_factory=list)


def _groups_of(folder: Path, names: Iterable[str]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for name in sorted(names):
        match = _FILE_NAME.fullmatch(name)
        if name.startswith(".") or not match or match["suffix"].lower() not in ROLES:
            continue
        study_id = match["id"] or folder.resolve().name
        group = groups.setdefault(study_id, _Group(study_id))
        modality = ROLES[match["suffix"].lower()]
        if modality is None:
            group.masks.append(folder / name)
        elif modality in group.images:
            raise StudyError(
                f"{folder}: {group.images[modality].name} and {name} both claim to be the {modality} image "
                f"of {study_id}; keep one of them"
            )
        else:
            group.images[modality] = folder / name
    return _adopt_stray_mask(list(groups.values()))


def _adopt_stray_mask(groups: list[_Group]) -> list[_Group]:
    """A mask under another name in a study's own folder belongs to that study (BraTS 2020, case 355)."""
    with_images = [group for group in groups if group.images]
    masks_only = [group for group in groups if not group.images]
    if len(with_images) == 1 and len(masks_only) == 1 and not with_images[0].masks:
        with_images[0].masks = masks_only[0].masks
        return with_images
    return groups


def _study_files(group: _Group, profile: Profile | None) -> StudyFiles:
    if len(group.masks) > 1:
        names = " and ".join(path.name for path in group.masks)
        raise StudyError(f"{group.masks[0].parent}: {names} both claim to be the mask of {group.id}; keep one")
    if profile is None:
        candidates = candidate_profiles(group.id)
        profile = PROFILES_BY_NAME[candidates[0]] if len(candidates) == 1 else None
    mask = group.masks[0] if group.masks else None
    return StudyFiles(group.id, _patient_of(group.id), dict(group.images), mask, profile)


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below `root` with its files' names, through links but each real folder once; hidden ones
    left out."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), names


def find_studies(root: Path | str, profile: str | None = None) -> list[StudyFiles]:
    """All studies at or below `root`, sorted by id.

    `profile` names the release for all of them; without it each study's own name decides, where it can. Raises
    `StudyError` if there is no such folder, no study in it, or two studies of one name.
    """
    root = Path(root)
    if not root.is_dir():
        raise StudyError(f"{root}: " + ("is a file, not a folder" if root.exists() else "no such folder"))
    chosen = profile_named(profile) if profile else None
    found: dict[str, list[StudyFiles]] = defaultdict(list)
    for folder, names in _folders(root):
        for group in _groups_of(folder, names):
            if group.images:
                found[group.id].append(_study_files(group, chosen))
    if not found:
        raise StudyError(
            f"{root}: no study found; a study is a set of files such as ID-t1n.nii.gz, ID-t1c.nii.gz, ID-t2w.nii.gz, "
            "ID-t2f.nii.gz (or _t1, _t1ce, _t2, _flair) with ID-seg.nii.gz as its mask"
        )
    for study_id, studies in found.items():
        if len(studies) > 1:
            places = " and ".join(str(next(iter(study.images.values())).parent) for study in studies[:2])
            raise StudyError(f"{root}: study {study_id} lies in {places}; keep one of them")
    return [found[study_id][0] for study_id in sorted(found)]


def find_study(folder: Path | str, profile: str | None = None) -> StudyFiles:
    """The one study in `folder`; raises `StudyError` if there is none or more than one."""
    studies = find_studies(folder, profile)
    if len(studies) > 1:
        names = ", ".join(study.id for study in studies[:4])
        raise StudyError(f"{folder}: holds {len(studies)} studies ({names} ..); name the folder of one of them")
    return studies[0]


def study_from_paths(images: Mapping[Modality, Path], mask: Path | None = None) -> StudyFiles:
    """A study given file by file; its id is what the names of its files begin with."""
    if not images:
        raise StudyError(f"no image was given; at least one of {', '.join(Modality)} is needed")
    matches = [match for path in images.values() if (match := _FILE_NAME.fullmatch(path.name))]
    prefixes = {match["id"] for match in matches if match["suffix"].lower() in ROLES and match["id"]}
    study_id = prefixes.pop() if len(prefixes) == 1 else next(iter(images.values())).name.split(".")[0]
    return StudyFiles(study_id, _patient_of(study_id), dict(images), mask)


def mask_alone(path: Path) -> StudyFiles:
    """A mask without its study; its name says which release it is of, if any does."""
    match = _FILE_NAME.fullmatch(path.name)
    group = _Group(match["id"] if match and match["id"] else path.name.split(".")[0], masks=[path])
    return _study_files(group, None)


def require_profile(files: StudyFiles, profile: str | None = None) -> StudyFiles:
    """`files` with its profile decided; raises `LabelError` with the candidates if the layout leaves it open."""
    if profile:
        return replace(files, profile=profile_named(profile))
    if files.profile is not None:
        return files
    candidates = candidate_profiles(files.id)
    if candidates:
        raise LabelError(
            f"{files.id}: the layout alone does not say which release this is ({' or '.join(candidates)}, whose label "
            "values differ); name it with --profile"
        )
    known = ", ".join(known_profile.name for known_profile in PROFILES)
    raise LabelError(f"{files.id}: no release names its studies so; say what the labels mean with --profile ({known})")
