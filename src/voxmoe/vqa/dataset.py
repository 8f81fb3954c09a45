"""A cohort of segmented studies -> a VQA dataset on disk, and back into memory (mpLLM, sections 3.2.1 and 4.1).

OUT/data/{train,validation,test}.parquet   one row a question; `datasets.load_dataset(OUT)` reads it
OUT/meta/studies.json                      findings, file hashes and split of each study
OUT/meta/skipped.json                      studies that could not be used, and why
OUT/meta/wordings.jsonl                    the wordings that were drawn from, unless they are the grammar's
OUT/manifest.json                          versions, seed, protocol, profile, counts; written last
OUT/work/STUDY.json                        what is done already, while a build runs or after it was interrupted
"""

import json
import os
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
from voxmoe.errors import DatasetError
from voxmoe.files import atomic_path, write_bytes, write_json
from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.places import place_at
from voxmoe.imaging.study import StudyFiles
from voxmoe.vocabulary import PROFILES_BY_NAME, Label, Modality, Profile
from voxmoe.vqa.protocol import Protocol
from voxmoe.vqa.records import KeptRecords, StudyRecord, Terms, study_record
from voxmoe.vqa.sampling import check_enough
from voxmoe.vqa.type_weights import UNIFORM, TypeWeights
from voxmoe.vqa.wordings.bank import Wordings
from voxmoe.vqa.wordings.file import open_wordings
from voxmoe.vqa.workers import results

SPLITS = ("train", "validation", "test")
EVERY = "all"
"""In the place of a split: the rows of all of them, of a dataset that nothing is trained on."""
HELD_OUT = 0.1
"""Share of patients in each of validation and test."""

_WORDINGS = Path("meta", "wordings.jsonl")
_RECORD = b'{"key":'
"""What a study's record in OUT/work begins with."""
_REPLACED = ("README.md", "croissant.json", *(f"data/{split}.parquet" for split in SPLITS))
"""What a build replaces, and `voxmoe build` beside it."""
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
            pa.struct(
                [("seed", pa.int64()), ("source", pa.string()), ("question", pa.int64()), ("answer", pa.int64())]
            ),
        ),
    ]
)


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


def _is_built(manifest: dict[str, Any]) -> bool:
    """Whether `_write_dataset` wrote a manifest."""
    return {"questions", "protocol", "profiles"} <= manifest.keys()


def _is_begun(out: Path) -> bool:
    """Whether a build has begun there and not ended; raises `DatasetError` if `work` holds what is of no build."""
    files = [path for path in (out / "work").rglob("*") if path.is_file()]
    for file in files:
        with file.open("rb") as stream:
            head = stream.read(len(_RECORD))  # of a damaged record it may be less
            if file.suffix != ".tmp" and not _RECORD.startswith(head):
                raise DatasetError(f"{file}: is of no build, and a build would remove it; choose another folder")
    return bool(files)


def _check_out(cohort: Path, out: Path) -> None:
    """Raises `DatasetError` for a folder in which a build would replace what no build wrote."""
    if out.resolve() == cohort:
        raise DatasetError(f"{out}: is the cohort itself; choose another folder")
    begun = _is_begun(out)
    if (out / "manifest.json").exists():
        if not _is_built(_manifest(out)):
            raise DatasetError(f"{out}: holds a dataset of another kind; choose another folder")
    elif there := next((name for name in _REPLACED if not begun and (out / name).exists()), None):
        raise DatasetError(f"{out}: holds {there} that is of no build; choose another folder")


def _clear_strays(out: Path) -> None:
    """What a process that was killed while it wrote has left."""
    for folder in (out, out / "data", out / "meta"):
        for stray in folder.glob(".*.tmp"):
            stray.unlink()


def _records(
    studies: Sequence[StudyFiles],
    terms: Terms,
    kept: KeptRecords,
    jobs: int,
    cluster: str | None,
    strict: bool,
    progress: Callable[[int, int], None],
) -> list[StudyRecord]:
    """The record of every study, by study: kept from before, or made now and kept as soon as it is there."""
    records = {files.id: record for files in studies if (record := kept.get(files.id))}
    progress(len(records), len(studies))
    missing = [files for files in studies if files.id not in records]
    calls = (joblib.delayed(study_record)(files, terms) for files in missing)
    with results(calls, jobs, cluster) as work:
        for record in work:
            if strict and record.error is not None:
                raise DatasetError(f"study {record.study} cannot be used: {record.error}")
            kept.put(record)
            records[record.study] = record
            progress(len(records), len(studies))
    return [records[files.id] for files in studies]


def _label_values(used: list[StudyRecord]) -> dict[str, dict[str, list[int]]]:
    """Profile -> label key -> its values; raises `DatasetError` if the studies of one profile do not agree on them."""
    found: dict[str, dict[str, list[int]]] = {}
    for record in used:
        assert record.findings is not None
        profile = record.findings["profile"]
        if found.setdefault(profile, record.labels) != record.labels:
            raise DatasetError(
                f"study {record.study} has the labels {record.labels}, others of {profile} have {found[profile]}; "
                "build them apart, or say with --profile what the labels of all mean"
            )
    return found


def _keep_wordings(out: Path, wordings: Path | None) -> None:
    """Rows that were drawn from a file can be rebuilt from the dataset alone."""
    copy = out / _WORDINGS
    if wordings is None:
        copy.unlink(missing_ok=True)
    else:
        write_bytes(copy, wordings.read_bytes())


def _write_dataset(out: Path, terms: Terms, used: list[StudyRecord], skipped: dict[str, str]) -> dict[str, int]:
    """Everything below `out`, the manifest last; returns the questions in each split."""
    labels = _label_values(used)
    (out / "manifest.json").unlink(missing_ok=True)  # of an earlier build: what lies here now is not whole
    _keep_wordings(out, terms.wordings)
    splits = split_patients([record.patient for record in used], terms.seed)
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
            "images": str(terms.root),
            "profiles": sorted(labels),
            "labels": labels,
            "protocol": terms.protocol.model_dump(),
            "atlas": sorted({str(record.findings["atlas"]["name"]) for record in used if record.findings}),
            "atlas_from": terms.atlas,
            "seed": terms.seed,
            "wordings": terms.source,
            "type_weights": terms.type_weights.model_dump(mode="json"),
            "studies": len(used),
            "skipped": len(skipped),
            "questions": dict(counts),
        },
    )
    return dict(counts)


def build_dataset(
    cohort: Path,
    out: Path,
    protocol: Protocol,
    *,
    profile: str | None = None,
    atlas: str | None = None,
    space: str | None = None,
    seed: int = 0,
    wordings: Path | None = None,
    type_weights: TypeWeights = UNIFORM,
    jobs: int = 1,
    cluster: str | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build the dataset of all segmented studies of a cohort folder, by `jobs` processes or on a Dask `cluster`.

    `space` is that of studies whose grid does not say it. Questions are worded by the grammar, or by a file of
    `wordings`; `type_weights` say how often each type is drawn.
    A study that cannot be used is left out and listed; with `strict` it is a `DatasetError`. Raises `StudyError` if
    there is no study at all, and `DatasetError` if none can be used or `out` holds what no build wrote. The same
    cohort, protocol and seed give the same bytes, whoever did the work and however often it was interrupted: what was
    measured before is not measured again.
    """
    cohort = cohort.resolve()
    _check_out(cohort, out)
    atlas = atlas or protocol.atlas
    atlas = str(Path(atlas).resolve()) if Path(atlas).is_file() else atlas
    wordings = wordings and wordings.resolve()
    source = open_wordings(wordings)
    terms = Terms(cohort, profile, protocol, atlas, seed, source.source, wordings, type_weights, space)
    found = find_studies(cohort, profile)
    studies = [files for files in found if files.mask or not files.held_out]
    if not studies:
        raise DatasetError(f"{cohort}: holds {len(found)} test cases and no mask; nothing can be asked without masks")
    check_enough(source, max((len(files.profile.labels) for files in studies if files.profile), default=1))
    kept = KeptRecords(out / "work", studies, terms)
    _clear_strays(out)
    records = _records(studies, terms, kept, jobs, cluster, strict, progress)
    used = [record for record in records if record.error is None]
    skipped = {record.study: record.error for record in records if record.error is not None}
    if not used:
        first, reason = next(iter(skipped.items()))
        raise DatasetError(f"{cohort}: none of {len(records)} studies can be used; the first, {first}: {reason}")
    questions = _write_dataset(out, terms, used, skipped)
    kept.clear()
    return BuildReport(len(used), questions, skipped)


def read_split(root: Path, split: str) -> list[dict[str, Any]]:
    """The rows in the file of a split, of a dataset of either kind; raises `DatasetError` if it is damaged."""
    path = root / "data" / f"{split}.parquet"
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{path}: not a whole Parquet file ({reason}); build the dataset again") from None
    return rows


@dataclass(frozen=True)
class Dataset:
    """A built dataset: its manifest, and the rows of each split as dictionaries."""

    root: Path
    manifest: dict[str, Any]

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The rows of a split (of every one, by `EVERY`); none if it is empty."""
        if split == EVERY:
            return [row for each in SPLITS for row in self.rows(each)]
        if split not in SPLITS:
            raise DatasetError(f"no split is called {split!r}; there are {', '.join(SPLITS)}, and {EVERY} for all rows")
        if not self.manifest["questions"][split]:
            return []
        return read_split(self.root, split)

    @property
    def wordings(self) -> Wordings:
        """The source that the rows were drawn from; `sampling.rebuild` takes it."""
        kept = self.root / _WORDINGS
        return open_wordings(kept if kept.is_file() else None)

    @property
    def findings(self) -> dict[str, dict[str, Any]]:
        """Study -> its findings in their JSON form."""
        studies = json.loads((self.root / "meta" / "studies.json").read_text())
        return {study["study"]: study["findings"] for study in studies}

    @property
    def images_root(self) -> Path:
        return images_at(Path(self.manifest["images"]))

    @property
    def profile(self) -> str:
        """The name of its one profile; raises `DatasetError` if it mixes several."""
        names: list[str] = self.manifest["profiles"]
        if len(names) != 1:
            raise DatasetError(f"{self.root}: mixes the profiles {', '.join(names)}; build one dataset for each")
        return names[0]

    @property
    def label_values(self) -> dict[str, list[int]]:
        """Label key -> its values in the masks, of the dataset's one profile."""
        profile = self.profile
        values: dict[str, list[int]] = self.manifest["labels"][profile]
        return values

    def profile_called(self, name: str) -> Profile:
        """A profile of the dataset: that of a release, or one of the dataset's own table, with what that says."""
        if name in PROFILES_BY_NAME:
            return PROFILES_BY_NAME[name]
        values: dict[str, list[int]] = self.manifest["labels"][name]
        names = {row["label"]: row["label_name"] for split in SPLITS for row in self.rows(split)}
        labels = [Label(first, key, names.get(key, key), tuple(also)) for key, (first, *also) in values.items()]
        return Profile(name, f"the label table of {self.root.name}", tuple(labels))

    def study_files(self, row: dict[str, Any]) -> StudyFiles:
        """The files of the study that a row asks about."""
        images = {
            modality: place_at(self.images_root, row["images"][modality])
            for modality in Modality
            if row["images"][modality]
        }
        mask = self.images_root / row["mask"] if row["mask"] else None
        return StudyFiles(row["study"], row["patient"], images, mask)


def images_at(built_from: Path) -> Path:
    """Where the images of a dataset lie: where it was built from, or if that is gone in the folder that the environment
    variable VOXMOE_IMAGES names."""
    moved = os.environ.get("VOXMOE_IMAGES")
    return Path(moved) if moved and not built_from.is_dir() else built_from


def _manifest(root: Path) -> dict[str, Any]:
    """The manifest in a folder; raises `DatasetError` if there is none, or it cannot be read."""
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{root}: no finished dataset here; make one with voxmoe build COHORT {root}") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); build the dataset again") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is damaged ({error}); build the dataset anew in an empty folder") from None
    return manifest if isinstance(manifest, dict) else {}


def open_dataset(root: Path | str) -> Dataset:
    """The dataset in a folder that `build_dataset` wrote; raises `DatasetError` if it is missing or incomplete."""
    root = Path(root)
    manifest = _manifest(root)
    if manifest.get("kind") == "ct":
        raise DatasetError(f"{root}: a dataset about CTs (voxmoe collect); one about MRI studies is needed here")
    if not {"images", "questions"} <= manifest.keys():
        raise DatasetError(f"{root}: its manifest.json is of no dataset; make one with voxmoe build COHORT {root}")
    for split in SPLITS:
        if manifest["questions"][split] and not (root / "data" / f"{split}.parquet").is_file():
            raise DatasetError(f"{root}: data/{split}.parquet is missing; build the dataset again")
    return Dataset(root, manifest)
