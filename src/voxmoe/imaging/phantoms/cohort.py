"""Phantoms on disk: images, mask and truth of each study as the release lays them out (`namings.py`), and
OUT/cohort.json with every truth."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib

from voxmoe import __version__
from voxmoe.errors import StudyError, check_jobs
from voxmoe.files import write_bytes, write_json
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.phantoms.descriptions import descriptions
from voxmoe.imaging.phantoms.masks import Masks
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.phantom import draw_phantom
from voxmoe.imaging.places import file_of
from voxmoe.imaging.volume import write_volumes
from voxmoe.vocabulary import Modality, Profile

_DRAWING = ".drawing"
"""Holds an empty folder for each study of a run that has not ended: its files may lie there before their truth."""


def _images(out: Path, study: str, profile: Profile) -> dict[Path, list[Modality]]:
    """Each file of images with the modalities that it holds, in the order of its channels."""
    naming, files = naming_for(profile), defaultdict(list)
    for modality in naming.channels or profile.modalities:
        files[out / file_of(naming.image_place(study, modality))].append(modality)
    return files


def _written_truth(
    file: Path, files: list[Path], profile: Profile, seed: int, index: int, masks: Masks | None
) -> Any | None:
    """The truth of a study that is already there, complete and with the same parameters."""
    try:
        truth = json.loads(file.read_text())
        same = truth["parameters"] == draw_parameters(profile, seed, index, masks=masks).to_json()
        same &= (truth["voxmoe"], truth["profile"]) == (__version__, profile.name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return truth if same and all(file.is_file() for file in files) else None


def _check_free(out: Path, profile: Profile, n: int) -> None:
    """Raises `StudyError` for a file that a cohort would replace and that is of no phantom."""
    naming = naming_for(profile)
    studies = [naming.study_id(index) for index in range(n)]
    for study in studies:
        if (out / naming.truth_path(study)).is_file() or (out / _DRAWING / study).is_dir():
            continue
        for file in (*_images(out, study, profile), out / naming.mask_path(study)):
            if file.exists():
                raise StudyError(f"{file}: is no phantom, and one would take its place; choose another folder")
    if (out / "cohort.json").is_file() or (out / _DRAWING).is_dir():
        return
    for name in descriptions(profile, studies):
        if (out / name).exists():
            raise StudyError(f"{out / name}: describes no phantoms and would be replaced; choose another folder")


def _write_study(out: Path, profile: Profile, seed: int, index: int, masks: Masks | None) -> Any:
    """Write a study unless it is there; its truth comes last and says that the study is complete."""
    naming = naming_for(profile)
    study = naming.study_id(index)
    images, mask = _images(out, study, profile), out / naming.mask_path(study)
    files, truth_file = [*images, mask], out / naming.truth_path(study)
    if truth := _written_truth(truth_file, files, profile, seed, index, masks):
        return truth
    for file in (*files, truth_file):
        for stray in file.parent.glob(f".{file.name}.*.tmp"):  # of a process that was killed while it wrote
            stray.unlink()
    phantom = draw_phantom(profile, seed, index, masks=masks)
    (out / _DRAWING / study).mkdir(parents=True, exist_ok=True)
    truth_file.unlink(missing_ok=True)  # of other parameters: what it says of these images would be wrong
    for file, modalities in images.items():
        write_volumes([phantom.study.images[modality] for modality in modalities], file)
    assert phantom.study.mask is not None
    write_volumes([phantom.study.mask], mask)
    write_json(truth_file, phantom.truth)
    return phantom.truth


def write_cohort(
    out: Path,
    n: int,
    profile: Profile,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    masks: Masks | None = None,
) -> None:
    """Write a cohort of n studies below `out` in the profile's layout, and `cohort.json` with their truth; with
    `masks`, which are named there by their digest, lesions are shaped by these.

    Studies that are already there with the same parameters are kept: an interrupted run is called again and ends with
    the same bytes, whatever `jobs` (processes; -1 for one a core) is. `progress` hears (done, n) after each study.
    Raises `JobsError` for 0 jobs, and `StudyError` before anything is written for files of the same names that are no
    phantoms.
    """
    check_jobs(jobs)
    _check_free(out, profile, n)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_write_study)(out, profile, seed, index, masks) for index in range(n)
    )
    truths = []
    for truth in work:
        truths.append(truth)
        if progress:
            progress(len(truths), n)
    for file, content in descriptions(profile, [truth["id"] for truth in truths]).items():
        write_bytes(out / file, content)
    cohort = {"voxmoe": __version__, "profile": profile.name, "seed": seed, "n": n}
    if masks is not None:
        cohort["masks"] = {"digest": masks.digest, "n": len(masks.kept)}
    write_json(out / "cohort.json", {**cohort, "studies": truths})
    _end(out, [truth["id"] for truth in truths])


def _end(out: Path, studies: list[str]) -> None:
    """The marks of these studies are no longer needed; those of others that were never finished stay."""
    for study in studies:
        if (out / _DRAWING / study).is_dir():
            (out / _DRAWING / study).rmdir()
    if (out / _DRAWING).is_dir() and not any((out / _DRAWING).iterdir()):
        (out / _DRAWING).rmdir()
