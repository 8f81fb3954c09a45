"""Phantoms on disk: OUT/STUDY/ with images, mask and truth of each study, and OUT/cohort.json with every truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib

from voxmoe import __version__
from voxmoe.files import write_json
from voxmoe.imaging.namings import naming_for
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.phantom import draw_phantom
from voxmoe.imaging.volume import write_volume
from voxmoe.vocabulary import Profile


def _written_truth(folder: Path, profile: Profile, seed: int, index: int) -> Any | None:
    """The truth of a study that is already there, complete and with the same parameters."""
    naming = naming_for(profile)
    files = [naming.mask_name(folder.name), *(naming.image_name(folder.name, m) for m in profile.modalities)]
    try:
        truth = json.loads((folder / f"{folder.name}-truth.json").read_text())
        same = truth["parameters"] == draw_parameters(profile, seed, index).to_json()
        same &= (truth["voxmoe"], truth["profile"]) == (__version__, profile.name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return truth if same and all((folder / name).is_file() for name in files) else None


def _write_study(out: Path, profile: Profile, seed: int, index: int) -> Any:
    """Write a study unless it is there; its truth comes last and says that the study is complete."""
    naming = naming_for(profile)
    folder = out / naming.study_id(index)
    if truth := _written_truth(folder, profile, seed, index):
        return truth
    for stray in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        stray.unlink()
    phantom = draw_phantom(profile, seed, index)
    for modality, image in phantom.study.images.items():
        write_volume(image, folder / naming.image_name(folder.name, modality))
    if phantom.study.mask is not None:
        write_volume(phantom.study.mask, folder / naming.mask_name(folder.name))
    write_json(folder / f"{folder.name}-truth.json", phantom.truth)
    return phantom.truth


def write_cohort(
    out: Path,
    n: int,
    profile: Profile,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a cohort of n studies below `out` in the profile's layout, and `cohort.json` with their truth.

    Studies that are already there with the same parameters are kept: an interrupted run is called again and ends with
    the same bytes, whatever `jobs` (processes; -1 for one a core) is. `progress` hears (done, n) after each study.
    """
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_write_study)(out, profile, seed, index) for index in range(n)
    )
    truths = []
    for truth in work:
        truths.append(truth)
        if progress:
            progress(len(truths), n)
    cohort = {"voxmoe": __version__, "profile": profile.name, "seed": seed, "n": n, "studies": truths}
    write_json(out / "cohort.json", cohort)
