"""Leakage: the same patient, or the same image, in two splits of a dataset or in two datasets, about MRI or CT.

Two studies, or volumes of CT, are paired for what they share, the strongest reason first:

- `patient`: the patient's name;
- `file`: an image or a mask, byte for byte (the hashes that `build` wrote; an empty mask says nothing and is left out);
- `volume`: an image, voxel for voxel in RAS order: other compression, number type, axis order in the file, padding;
- `similar`: an image in other intensities, with noise, resampled, or under a wrong header, seen by its fingerprint;
- `text`: a report, word for word (CT datasets), for each wording one pair of any two splits.

Files and volumes are compared whatever modality they are said to show, fingerprints within each modality. What is
found across splits or datasets is a leak; within one split it is a duplicate, and the same patient there is as it
should be. `THRESHOLD` lies in the gap that docs/audit.md measures: different studies reached 0.69 at most,
copies of a study in other intensities, axes, with noise or half the resolution 0.90 at least.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import joblib

from voxmoe.errors import DatasetError, check_jobs
from voxmoe.files import write_json
from voxmoe.imaging.fingerprint import VERSION, Fingerprint, alike, stack
from voxmoe.vqa.ct.dataset import CTDataset
from voxmoe.vqa.ct.members import Scan, ct_jobs, ct_members
from voxmoe.vqa.dataset import Dataset
from voxmoe.vqa.members import Job, Member, study_jobs, study_members

THRESHOLD = 0.85
"""Fingerprints that correlate at least so well show the same scan."""
REASONS = ("patient", "file", "volume", "similar", "text")
_UNSEEN = frozenset({"patient", "text"})
"""Reasons that say nothing about how alike two images are."""
_BATCH = 256
"""Files fingerprinted between two writes of the cache."""

AnyDataset = Dataset | CTDataset
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Match:
    """Two studies and what they share: reason -> the images it holds for, the patient's name, or the reports' ids."""

    first: Member
    second: Member
    shared: Mapping[str, tuple[str, ...]]
    similarity: float | None
    """Of the fingerprints, the highest of those that reached the threshold; 1 for equal files and volumes."""

    @property
    def is_leak(self) -> bool:
        return (self.first.dataset, self.first.split) != (self.second.dataset, self.second.split)

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "shared": {reason: list(images) for reason, images in self.shared.items()},
            "similarity": self.similarity,
        }


@dataclass(frozen=True)
class Audit:
    """What an audit found, and how much it looked at."""

    studies: Mapping[str, int]
    images: int
    leaks: tuple[Match, ...]
    duplicates: tuple[Match, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "clean": not self.leaks,
            "studies": dict(self.studies),
            "images": self.images,
            "leaks": [match.to_json() for match in self.leaks],
            "duplicates": [match.to_json() for match in self.duplicates],
        }


def _cache_path(dataset: AnyDataset) -> Path:
    return dataset.root / "meta" / "fingerprints.json"


def _read_cache(dataset: AnyDataset) -> dict[str, Fingerprint]:
    """Fingerprints by sha256; none if there is no cache, or one of another version."""
    try:
        content = json.loads(_cache_path(dataset).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if content["version"] != VERSION:
        return {}
    return {digest: Fingerprint.from_json(one) for digest, one in content["fingerprints"].items()}


def _write_cache(dataset: AnyDataset, own: Iterable[Member], prints: Mapping[str, Fingerprint]) -> None:
    """Keep the fingerprints of a dataset's images, unless its folder is read-only."""
    if not os.access(dataset.root / "meta", os.W_OK):
        return
    known = sorted({member.hashes[name] for member in own for name in member.paths} & prints.keys())
    content = {digest: prints[digest].to_json() for digest in known}
    write_json(_cache_path(dataset), {"version": VERSION, "fingerprints": content})


def members(dataset: AnyDataset) -> list[Member]:
    """The studies, or CT volumes, of a dataset with the hashes and places of their files."""
    return list(ct_members(dataset) if isinstance(dataset, CTDataset) else study_members(dataset))


def _jobs(dataset: AnyDataset, own: Sequence[Member], known: Collection[str]) -> list[Job]:
    if isinstance(dataset, CTDataset):
        return ct_jobs([member for member in own if isinstance(member, Scan)], known)
    return study_jobs(dataset, own, known)


def fingerprints(
    datasets: Mapping[str, AnyDataset],
    of: Mapping[str, list[Member]],
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, Fingerprint]:
    """The fingerprint of every image of the datasets by its digest, from their caches or else from the files.

    Raises `ImageError` if a file is missing or broken, `DatasetError` if it is not the one the dataset was built from.
    """
    check_jobs(jobs)
    prints: dict[str, Fingerprint] = {}
    for dataset in datasets.values():
        prints |= _read_cache(dataset)
    known, reading, done = set(prints), list[Job](), 0
    for root, own in of.items():
        new = _jobs(datasets[root], own, known)
        known.update(digest for job in new for digest in job.digests)
        reading += new
    for start in range(0, len(reading), _BATCH):
        work = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
            joblib.delayed(job.run)() for job in reading[start : start + _BATCH]
        )
        for found in work:
            prints |= found
            done += len(found)
            progress(done, sum(len(job.digests) for job in reading))
        for root, dataset in datasets.items():
            _write_cache(dataset, of[root], prints)
    return prints


Image = tuple[int, str]
"""A member's number, and the name of one of its images."""
Found = tuple[Image, Image, float]


def _equal(images: Iterable[tuple[Image, str]]) -> Iterator[Found]:
    """All pairs of images of different members that have the same key."""
    groups = defaultdict(list)
    for image, key in images:
        groups[key].append(image)
    for group in groups.values():
        for first, second in combinations(group, 2):
            if first[0] != second[0]:
                yield first, second, 1.0


def _equal_texts(every: Sequence[Member]) -> Iterator[Found]:
    """For each text and any two splits or datasets that hold it, the first member of either."""
    groups: dict[str, dict[tuple[str, str], Image]] = defaultdict(dict)
    for number, member in enumerate(every):
        for id, text in member.texts.items():
            groups[text].setdefault((member.dataset, member.split), (number, id))
    for group in groups.values():
        for first, second in combinations(group.values(), 2):
            yield first, second, 1.0


def _similar(every: Sequence[Member], prints: Mapping[str, Fingerprint], threshold: float) -> Iterator[Found]:
    for name in dict.fromkeys(name for member in every for name in member.paths):
        numbers = [number for number, member in enumerate(every) if name in member.paths]
        rows = stack([prints[every[number].hashes[name]] for number in numbers])
        for i, j, similarity in alike(rows, threshold):
            yield (numbers[i], name), (numbers[j], name), similarity


def _image_name(first: str, second: str) -> str:
    return first if first == second else f"{first} = {second}"


def find_matches(every: Sequence[Member], prints: Mapping[str, Fingerprint], threshold: float) -> list[Match]:
    """All pairs of studies that share something, in the order of the studies."""
    files = [((number, name), digest) for number, member in enumerate(every) for name, digest in member.hashes.items()]
    volumes = [(image, prints[digest].voxels) for image, digest in files if image[1] in every[image[0]].paths]
    patients = [((number, member.patient), member.patient) for number, member in enumerate(every)]
    found = {
        "patient": _equal(patients),
        "file": _equal(files),
        "volume": _equal(volumes),
        "similar": _similar(every, prints, threshold),
        "text": _equal_texts(every),
    }
    shared: dict[tuple[int, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    scores: dict[tuple[int, int], float] = {}
    said = set()
    for reason in REASONS:
        for (i, first), (j, second), score in found[reason]:
            pair, name = (i, j), _image_name(first, second)
            if (pair, name) in said:
                continue  # an equal file is an equal volume and a similar one: the strongest reason is enough
            said.add((pair, name))
            shared[pair][reason].append(name)
            if reason not in _UNSEEN:
                scores[pair] = max(scores.get(pair, 0.0), score)
    return [
        Match(every[i], every[j], {reason: tuple(names) for reason, names in why.items()}, scores.get((i, j)))
        for (i, j), why in sorted(shared.items())
    ]


def audit(
    datasets: Sequence[AnyDataset],
    *,
    threshold: float = THRESHOLD,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Compare every study of the datasets with every other."""
    by_root = {str(dataset.root): dataset for dataset in datasets}
    if len({dataset.root.resolve() for dataset in datasets}) < len(datasets):
        raise DatasetError("a dataset is named twice; name each once")
    of = {root: members(dataset) for root, dataset in by_root.items()}
    prints = fingerprints(by_root, of, jobs, progress)
    every = [member for own in of.values() for member in own]
    matches = find_matches(every, prints, threshold)
    return Audit(
        studies={root: len(own) for root, own in of.items()},
        images=sum(len(member.paths) for member in every),
        leaks=tuple(match for match in matches if match.is_leak),
        duplicates=tuple(match for match in matches if not match.is_leak and set(match.shared) != {"patient"}),
    )
