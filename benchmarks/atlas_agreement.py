"""How far the embedded region atlases agree with LPBA40, which the paper uses.

    python benchmarks/atlas_agreement.py LPBA40.nii.gz COHORT.. [--masks FOLDER]

COHORT holds segmented studies of known profiles; FOLDER holds masks alone, in the paper's own space. Prints, for each
atlas, Markdown tables: by region, how often "the label touches the region" is said alike (a case is a label that is
present in a study), and how the regions overlap within the lesions and within the whole head; and how often the whole
set of regions is the same. docs/regions.md keeps the figures.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxmoe.imaging.atlas import region_map
from voxmoe.imaging.layouts import find_studies, mask_alone, require_profile
from voxmoe.imaging.parcellations import PARCELLATIONS
from voxmoe.imaging.study import load_mask
from voxmoe.imaging.volume import Volume
from voxmoe.vocabulary import REGIONS


@dataclass(frozen=True)
class Case:
    """A label that is present in a study."""

    study: str
    label: str
    mask: Volume
    value: int


def cases(cohorts: list[Path], masks: Path | None) -> Iterator[Case]:
    studies = [files for cohort in cohorts for files in find_studies(cohort) if files.mask]
    studies += [mask_alone(path) for path in sorted(masks.glob("*.nii.gz"))] if masks else []
    for files in map(require_profile, studies):
        mask = load_mask(files.mask, files.profile)
        for label in files.profile.labels:
            if (mask.data == label.value).any():
                yield Case(files.id, label.key, mask, label.value)


def regions_of(codes: np.ndarray) -> np.ndarray:
    """Codes of region and side -> the region's number from 1, 0 for none."""
    return (codes + 1) // 2


def touched(regions: np.ndarray) -> np.ndarray:
    """Which of the nine regions occur [9]."""
    return np.bincount(regions, minlength=len(REGIONS) + 1)[1:] > 0


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two yes/no sayings; not a number where both always say the same one thing."""
    observed = np.mean(a == b)
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float((observed - chance) / (1 - chance)) if chance < 1 else float("nan")


def dice(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The overlap of each region [9] between two arrays of region numbers."""
    size = len(REGIONS) + 1
    joint = np.bincount(ours.astype(np.int64) * size + theirs, minlength=size * size).reshape(size, size)
    return (2 * joint.diagonal() / np.maximum(joint.sum(axis=0) + joint.sum(axis=1), 1))[1:]


def compare(atlas: str, lpba40: str, found: list[Case]) -> None:
    said, lesions, heads = [], [], {}
    sides = []
    for case in found:
        ours, theirs = region_map(case.mask, atlas), region_map(case.mask, lpba40)
        here = case.mask.data == case.value
        a, b = ours.codes[here], theirs.codes[here]
        said.append((touched(regions_of(a)), touched(regions_of(b))))
        lesions.append((regions_of(a), regions_of(b)))
        both = (a > 0) & (b > 0)
        sides.append(((a[both] - 1) % 2 == (b[both] - 1) % 2).tolist())
        heads[ours.space] = (regions_of(ours.codes).ravel("K"), regions_of(theirs.codes).ravel("K"))
    a, b = (np.array(each) for each in zip(*said, strict=True))  # cases, regions
    in_lesions = dice(*(np.concatenate(each) for each in zip(*lesions, strict=True)))
    in_heads = {space: dice(*both) for space, both in heads.items()}
    ours, theirs = (np.concatenate(each) for each in zip(*lesions, strict=True))
    both = (ours > 0) & (theirs > 0)
    print(f"\n### {atlas}\n")
    print(f"{len(found)} labels of {len({case.study for case in found})} studies. ", end="")
    print(f"The same set of regions: {100 * np.mean((a == b).all(axis=1)):.0f} %; ", end="")
    print(f"mean Jaccard of the sets {np.mean((a & b).sum(axis=1) / np.maximum((a | b).sum(axis=1), 1)):.2f}; ", end="")
    print(f"all nine regions together: accuracy {100 * np.mean(a == b):.1f} %, kappa {kappa(a, b):.2f}. ", end="")
    print(f"No labelled region: {(~a.any(axis=1)).sum()} by {atlas}, {(~b.any(axis=1)).sum()} by LPBA40. ", end="")
    print(f"Of the lesion voxels that both label ({100 * both.mean():.0f} %), ", end="")
    print(f"{100 * np.mean(ours[both] == theirs[both]):.1f} % have the same region and ", end="")
    print(f"{100 * np.mean(np.concatenate(sides)):.1f} % the same side.\n")
    print("| region | LPBA40 says yes | atlas says yes | accuracy % | kappa | Dice in lesions |", end="")
    print("".join(f" Dice in the head, {space} |" for space in in_heads))
    print("|---|---:|---:|---:|---:|---:|" + "---:|" * len(in_heads))
    for index, region in enumerate(REGIONS):
        x, y = a[:, index], b[:, index]
        print(f"| {region} | {y.sum()} | {x.sum()} | {100 * np.mean(x == y):.1f} | {kappa(x, y):z.2f} ", end="")
        print(f"| {in_lesions[index]:.2f} |" + "".join(f" {each[index]:.2f} |" for each in in_heads.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lpba40", help="the file of LPBA40 labels on the SRI24 grid")
    parser.add_argument("cohorts", type=Path, nargs="+", metavar="COHORT")
    parser.add_argument("--masks", type=Path, help="a folder of masks alone")
    options = parser.parse_args()
    found = list(cases(options.cohorts, options.masks))
    for atlas in PARCELLATIONS:
        compare(atlas, options.lpba40, found)


if __name__ == "__main__":
    main()
