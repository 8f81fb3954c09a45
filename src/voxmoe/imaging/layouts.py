"""Folders as BraTS 2018-2025, the Decathlon, nnU-Net and BIDS lay them out -> the files of each study.

In folders of no other layout a file's role is read from the end of its name (`_t1ce`, `-t2f`, `-t2W`, `_seg`), whatever
the release and the separator; the release itself, and so the meaning of the label values, from the name of the study.
Where that name fits several releases, the profile stays open until the user names it.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging import bids, dataset_json, decathlon
from voxmoe.imaging.namings import ROLES, naming_of, patient_of
from voxmoe.imaging.places import Place, claim, file_of
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
    return tuple(name for name in naming.profiles if not PROFILES_BY_NAME[name].labels_from) if naming else ()


@dataclass
class _Group:
    """The files that share a folder and the part of their names before the role."""

    id: str
    images: dict[Modality, Place] = field(default_factory=dict)
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
        else:
            claim(group.images, modality, folder / name, f"the {modality} image of {study_id}")
    return _adopt_stray_mask(list(groups.values()))


def _adopt_stray_mask(groups: list[_Group]) -> list[_Group]:
    """A mask in a study's own folder that is named after no study belongs to that study (BraTS 2020, case 355)."""
    with_images = [group for group in groups if group.images]
    masks_only = [group for group in groups if not group.images and not naming_of(group.id)]
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
    return StudyFiles(group.id, patient_of(group.id), dict(group.images), mask, profile)


def _studies_in(
    folder: Path, subfolders: list[str], names: list[str], chosen: Profile | None, masks_alone: bool = False
) -> list[StudyFiles]:
    """The studies of one folder, on demand with masks that have no images. Where it is a dataset of a layout of its
    own, `subfolders` is emptied: they are part of it."""
    found = None
    if not decathlon.MASKS_OF.keys().isdisjoint(subfolders):
        found = decathlon.studies_of(folder, chosen)
    elif any(name.startswith("sub-") for name in subfolders) and bids.is_bids(folder):
        found = bids.studies_of(folder, chosen)
    if found is not None:
        subfolders.clear()
        return found
    groups = _groups_of(folder, names)
    return [_study_files(group, chosen) for group in groups if group.images or (masks_alone and group.masks)]


def _walk(root: Path, chosen: Profile | None, masks_alone: bool = False) -> Iterator[StudyFiles]:
    """The studies of every folder at or below `root`, through links but each real folder once; hidden ones left out."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from _studies_in(Path(folder), subfolders, names, chosen, masks_alone)


def _part_of_bids(root: Path, chosen: Profile | None) -> list[StudyFiles]:
    """The studies of a BIDS subject or session, whose masks can lie elsewhere in the dataset; none if it is none."""
    root = root.absolute()
    dataset = bids.dataset_around(root)
    studies = bids.studies_of(dataset, chosen) if dataset else []
    return [study for study in studies if any(root in file_of(place).parents for place in study.images.values())]


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise StudyError(f"{root}: " + ("is a file, not a folder" if root.exists() else "no such folder"))


def _chosen(profile: str | None) -> Profile | None:
    """The profile that a user names for all studies; none if it leaves the labels to each dataset."""
    named = profile_named(profile) if profile else None
    return None if named is None or named.labels_from else named


def find_studies(root: Path | str, profile: str | None = None) -> list[StudyFiles]:
    """All studies at or below `root`, sorted by id.

    `profile` names the release for all of them; without it, or where it leaves the labels to the dataset ("nnunet",
    "bids"), the dataset or each study's own name decides, where it can. Raises `StudyError` if there is no such folder,
    no study in it, or two studies of one name.
    """
    root = Path(root)
    _check_folder(root)
    chosen = _chosen(profile)
    found: dict[str, list[StudyFiles]] = defaultdict(list)
    for study in _part_of_bids(root, chosen) or _walk(root, chosen):
        found[study.id].append(study)
    if not found:
        raise StudyError(
            f"{root}: no study found; a study is a set of files such as ID-t1n.nii.gz, ID-t1c.nii.gz, ID-t2w.nii.gz, "
            "ID-t2f.nii.gz (or _t1, _t1ce, _t2, _flair) with ID-seg.nii.gz as its mask; datasets of the Decathlon's "
            "Task01, of nnU-Net and BIDS are named by their own folder"
        )
    for study_id, studies in found.items():
        if len(studies) > 1:
            places = " and ".join(str(file_of(next(iter(study.images.values()))).parent) for study in studies[:2])
            raise StudyError(f"{root}: study {study_id} lies in {places}; keep one of them")
    return [found[study_id][0] for study_id in sorted(found)]


def find_masks(root: Path | str, profile: str | None = None) -> list[StudyFiles]:
    """All masks at or below `root`, those of studies and those that lie there alone, sorted by path.

    `profile` counts as in `find_studies`. Raises `StudyError` if there is no such folder or no mask in it.
    """
    root = Path(root)
    _check_folder(root)
    chosen = _chosen(profile)
    studies = _part_of_bids(root, chosen) or _walk(root, chosen, masks_alone=True)
    found = {files.mask: files for files in studies if files.mask is not None}
    if not found:
        raise StudyError(
            f"{root}: no mask found; a mask is ID-seg.nii.gz (or _seg, _gtv), beside the images of its study or alone, "
            "or lies where the Decathlon's Task01, nnU-Net or BIDS have it"
        )
    return [found[mask] for mask in sorted(found)]


def _named_study(path: Path, profile: str | None) -> StudyFiles:
    """DATASET/STUDY, where studies have no folders of their own; raises `StudyError` if there is none of that name."""
    studies: list[StudyFiles] = []
    if path.parent.is_dir():
        _, subfolders, names = next(os.walk(path.parent))
        studies = _studies_in(path.parent, subfolders, names, _chosen(profile))
    for study in studies:
        if study.id == path.name:
            return study
    held = f", and {path.parent} holds no study of that name but {_some(studies)}" if studies else ""
    raise StudyError(f"{path}: no such folder{held}")


def _some(studies: list[StudyFiles]) -> str:
    names = sorted(study.id for study in studies)
    return ", ".join(names[:4]) + (" .." if len(names) > 4 else "")


def find_study(folder: Path | str, profile: str | None = None) -> StudyFiles:
    """The one study in `folder`, or the study of that name in the folder above; raises `StudyError` if there is none
    or more than one."""
    folder = Path(folder)
    if not folder.exists():
        return _named_study(folder, profile)
    studies = find_studies(folder, profile)
    if len(studies) > 1:
        raise StudyError(
            f"{folder}: holds {len(studies)} studies ({_some(studies)}); name the folder of one of them, or where they "
            "have none, DATASET/STUDY"
        )
    return studies[0]


def study_from_paths(images: Mapping[Modality, Path], mask: Path | None = None) -> StudyFiles:
    """A study given file by file; its id is what the names of its files begin with."""
    if not images:
        raise StudyError(f"no image was given; at least one of {', '.join(Modality)} is needed")
    matches = [match for path in images.values() if (match := _FILE_NAME.fullmatch(path.name))]
    prefixes = {match["id"] for match in matches if match["suffix"].lower() in ROLES and match["id"]}
    study_id = prefixes.pop() if len(prefixes) == 1 else next(iter(images.values())).name.split(".")[0]
    return StudyFiles(study_id, patient_of(study_id), dict(images), mask)


def mask_alone(path: Path, profile: str | None = None) -> StudyFiles:
    """A mask without its study; `profile`, or the dataset that it lies in, or its name says what its labels mean, if
    any does."""
    match, stem = _FILE_NAME.fullmatch(path.name), path.name.split(".")[0]
    group = _Group(match["id"] if match and match["id"] and not naming_of(stem) else stem, masks=[path])
    if chosen := _chosen(profile):
        return _study_files(group, chosen)
    dataset = path.absolute().parent.parent
    if path.absolute().parent.name in decathlon.MASKS_OF.values() and (dataset / dataset_json.FILE_NAME).is_file():
        return _study_files(group, decathlon.labels_of(dataset))
    return _study_files(group, bids.labels_of(path))


def require_profile(files: StudyFiles, profile: str | None = None) -> StudyFiles:
    """`files` with its profile decided; raises `LabelError` with the candidates if the layout leaves it open."""
    if chosen := _chosen(profile):
        return replace(files, profile=chosen)
    if files.profile is not None:
        return files
    candidates = candidate_profiles(files.id)
    if candidates:
        raise LabelError(
            f"{files.id}: the layout alone does not say which release this is ({' or '.join(candidates)}, whose label "
            "values differ); name it with --profile"
        )
    known = ", ".join(known_profile.name for known_profile in PROFILES if not known_profile.labels_from)
    raise LabelError(
        f"{files.id}: no release names its studies so; say what the labels mean with --profile ({known}), or in the "
        "dataset itself (dataset.json of nnU-Net, dseg.tsv of BIDS)"
    )
