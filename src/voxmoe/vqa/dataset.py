"""A cohort of segmented studies -> a VQA dataset on disk, and back into memory (mpLLM, sections 3.2.1 and 4.1).

OUT/data/{train,validation,test}.parquet   one row a question; `datasets.load_dataset(OUT)` reads it
OUT/meta/studies.json                      findings, file hashes and split of each study
OUT/meta/skipped.json                      studies that could not be used, and why
OUT/manifest.json                          versions, seed, protocol, profile, counts; written last
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from voxmoe import __version__
from voxmoe.errors import DatasetError, VoxmoeError
from voxmoe.files import atomic_path, sha256, write_json
from voxmoe.imaging.atlas import region_map
from voxmoe.imaging.layouts import find_studies, profile_named, require_profile
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.vocabulary import NOT_ASKED, Modality, Profile, Task
from voxmoe.vqa.encoding import encode
from voxmoe.vqa.findings import Findings, find, to_json
from voxmoe.vqa.measure import brain_of
from voxmoe.vqa.protocol import Protocol
from voxmoe.vqa.sampling import Question, apply_draw, draw_questions

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1
"""Share of patients in each of validation and test."""

_TARGETS = pa.struct(
    [
        ("volume", pa.int8()),
        ("region", pa.list_(pa.int8())),
        ("shape", pa.int8()),
        ("spread", pa.int8()),
        ("out_of_scope", pa.int8()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("study", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("label_name", pa.string()),
        ("kind", pa.string()),
        ("topic", pa.string()),
        ("tasks", pa.list_(pa.string())),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("volume", pa.string()),
        ("region", pa.list_(pa.string())),
        ("shape", pa.string()),
        ("spread", pa.string()),
        ("targets", _TARGETS),
        ("images", pa.struct([(str(modality), pa.string()) for modality in Modality])),
        ("mask", pa.string()),
        (
            "draw",
            pa.struct([("seed", pa.int64()), ("question", pa.int64()), ("answer", pa.int64())]),
        ),
    ]
)


@dataclass(frozen=True)
class StudyRecord:
    """What a study contributes: its rows, its findings and the hashes of its files; or why it contributes nothing."""

    study: str
    patient: str
    rows: list[dict[str, Any]]
    findings: dict[str, Any] | None
    hashes: dict[str, str]
    error: str | None = None


def study_findings(study: Study, profile: Profile, protocol: Protocol, atlas: str | None = None) -> Findings:
    """Findings of a loaded study with a mask; the brain is measured on T1, or on the first modality there is."""
    if study.mask is None:
        raise DatasetError(f"{study.id}: has no mask, so nothing can be measured")
    brain = brain_of(dict(study.images), protocol)
    return find(study.mask, profile, protocol, brain, region_map(study.mask, atlas or protocol.atlas))


def _row(
    files: StudyFiles, number: int, question: Question, findings: Findings, seed: int, root: Path
) -> dict[str, Any]:
    draw = question.draw
    label = findings.labels[draw.label]
    answers = {task: label.answer(task) for task in draw.tasks}
    exclusive = {
        str(task): answers[task][0] if task in answers else NOT_ASKED for task in (Task.VOLUME, Task.SHAPE, Task.SPREAD)
    }
    return {
        "id": f"{files.id}#{number:02d}",
        "study": files.id,
        "patient": files.patient,
        "label": draw.label,
        "label_name": next(known.name for known in profile_named(findings.profile).labels if known.key == draw.label),
        "kind": str(draw.kind),
        "topic": question.topic,
        "tasks": [str(task) for task in draw.tasks],
        "question": question.text,
        "answer": question.answer,
        **exclusive,
        "region": list(answers.get(Task.REGION, ())),
        "targets": encode(draw.kind, answers),
        "images": {str(m): str(path.relative_to(root)) for m, path in files.images.items()},
        "mask": str(files.mask.relative_to(root)) if files.mask else None,
        "draw": {"seed": seed, "question": draw.question, "answer": draw.answer},
    }


def study_record(
    files: StudyFiles, profile: str | None, protocol: Protocol, atlas: str | None, seed: int, root: Path
) -> StudyRecord:
    """Everything that one study contributes. A study that cannot be used is returned with its error, not raised."""
    try:
        files = require_profile(files, profile)
        assert files.profile is not None
        study = load_study(files, with_mask=True)
        findings = study_findings(study, files.profile, protocol, atlas)
        questions = [
            apply_draw(draw, files.profile, findings.labels) for draw in draw_questions(files.id, files.profile, seed)
        ]
    except VoxmoeError as error:
        return StudyRecord(files.id, files.patient, [], None, {}, str(error))
    rows = [_row(files, number, question, findings, seed, root) for number, question in enumerate(questions)]
    hashes = {str(modality): sha256(path) for modality, path in files.images.items()}
    if files.mask is not None:
        hashes["mask"] = sha256(files.mask)
    return StudyRecord(files.id, files.patient, rows, to_json(findings), hashes)


def split_patients(patients: Sequence[str], seed: int) -> dict[str, str]:
    """Patient -> split, 80/10/10 by patient. With fewer than three patients nothing is held out for validation, then
    test."""
    names = sorted(set(patients))
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    held_out = max(1, round(HELD_OUT * len(names)))
    test = held_out if len(names) > 1 else 0
    validation = held_out if len(names) > 2 else 0
    return {
        names[index]: "test" if place < test else "validation" if place < test + validation else "train"
        for place, index in enumerate(order)
    }


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A split without rows has no file: readers of Parquet stumble over empty ones."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")


@dataclass(frozen=True)
class BuildReport:
    """What a build did: questions in each split, and the studies left out with their reasons."""

    studies: int
    questions: dict[str, int]
    skipped: dict[str, str]


def build_dataset(
    cohort: Path,
    out: Path,
    protocol: Protocol,
    *,
    profile: str | None = None,
    atlas: str | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build the dataset of all segmented studies of a cohort folder.

    A study that cannot be used is left out and listed. Raises `StudyError` if there is no study at all and
    `DatasetError` if none can be used. The same cohort, protocol and seed give the same bytes, whatever `jobs` is.
    """
    studies = find_studies(cohort, profile)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(study_record)(files, profile, protocol, atlas, seed, cohort) for files in studies
    )
    records = []
    for record in work:
        records.append(record)
        progress(len(records), len(studies))
    used = [record for record in records if record.error is None]
    skipped = {record.study: record.error for record in records if record.error is not None}
    if not used:
        first, reason = next(iter(skipped.items()))
        raise DatasetError(f"{cohort}: none of {len(records)} studies can be used; the first, {first}: {reason}")
    splits = split_patients([record.patient for record in used], seed)
    counts = Counter[str]()
    for split in SPLITS:
        rows = [row for record in used if splits[record.patient] == split for row in record.rows]
        counts[split] = len(rows)
        _write_rows(out / "data" / f"{split}.parquet", rows)
    write_json(
        out / "meta" / "studies.json",
        [
            {
                "study": record.study,
                "patient": record.patient,
                "split": splits[record.patient],
                "sha256": record.hashes,
                "findings": record.findings,
            }
            for record in used
        ],
    )
    write_json(out / "meta" / "skipped.json", skipped)
    write_json(
        out / "manifest.json",
        {
            "voxmoe": __version__,
            "images": str(cohort.resolve()),
            "profiles": sorted({record.findings["profile"] for record in used if record.findings}),
            "protocol": protocol.model_dump(),
            "atlas": sorted({str(record.findings["atlas"]["name"]) for record in used if record.findings}),
            "seed": seed,
            "studies": len(used),
            "skipped": len(skipped),
            "questions": dict(counts),
        },
    )
    return BuildReport(len(used), dict(counts), skipped)


@dataclass(frozen=True)
class Dataset:
    """A built dataset: its manifest, and the rows of each split as dictionaries."""

    root: Path
    manifest: dict[str, Any]

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The rows of a split; none if it is empty."""
        if split not in SPLITS:
            raise DatasetError(f"no split is called {split!r}; there are {', '.join(SPLITS)}")
        if not self.manifest["questions"][split]:
            return []
        rows: list[dict[str, Any]] = pq.read_table(self.root / "data" / f"{split}.parquet").to_pylist()
        return rows

    @property
    def images_root(self) -> Path:
        return Path(self.manifest["images"])

    @property
    def label_values(self) -> dict[str, int]:
        """Label key -> value in the masks, of the dataset's one profile."""
        profiles = self.manifest["profiles"]
        if len(profiles) != 1:
            raise DatasetError(f"{self.root}: mixes the profiles {', '.join(profiles)}; build one dataset for each")
        return {label.key: label.value for label in profile_named(profiles[0]).labels}

    def study_files(self, row: dict[str, Any]) -> StudyFiles:
        """The files of the study that a row asks about."""
        images = {
            modality: self.images_root / row["images"][modality] for modality in Modality if row["images"][modality]
        }
        mask = self.images_root / row["mask"] if row["mask"] else None
        return StudyFiles(row["study"], row["patient"], images, mask)


def open_dataset(root: Path | str) -> Dataset:
    """The dataset in a folder that `build_dataset` wrote; raises `DatasetError` if it is missing or incomplete."""
    root = Path(root)
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except FileNotFoundError:
        raise DatasetError(f"{root}: no finished dataset here; make one with voxmoe build COHORT {root}") from None
    for split in SPLITS:
        if manifest["questions"][split] and not (root / "data" / f"{split}.parquet").is_file():
            raise DatasetError(f"{root}: data/{split}.parquet is missing; build the dataset again")
    return Dataset(root, manifest)
