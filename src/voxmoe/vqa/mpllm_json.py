"""A dataset in the layout that the public code of mpLLM reads (its README and its reader of question files).

OUT/train.json, val.json and test.json, each a list of questions. Paths begin with the cohort's folder, so that the
reader finds the arrays that its own preparation makes beside it: COHORT_npy/STUDY/FILE.nii.gz.npy.

Decided here, where that code leaves it open: `type` is the first task asked, since it names no combinations; a label
that touches no labelled region is "N/A", as the code writes it; what cannot be answered counts as the answer "unknown".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxmoe.errors import DatasetError
from voxmoe.files import write_json
from voxmoe.imaging.places import Channel, place_at
from voxmoe.vocabulary import ABSENT, NO_REGION, REGIONS, Kind, Modality, Task
from voxmoe.vqa.dataset import SPLITS, Dataset
from voxmoe.vqa.sampling import listed

Row = dict[str, Any]

FILES = {"train": "train.json", "validation": "val.json", "test": "test.json"}
_TASKS = {Task.VOLUME: "area", Task.REGION: "region", Task.SHAPE: "shape", Task.SPREAD: "satellite"}
"""What that code calls the tasks, in the order of its numbers from 1."""
_HEAD = 1 << 16
"""Characters of a file that its first question ends in."""
_UNKNOWN = "unknown"
_KINDS = {Kind.PARTIAL: "partially_unknown", Kind.OUT_OF_SCOPE: _UNKNOWN}
_MODALITIES = {Modality.T1GD: "t1c", Modality.T1: "t1n", Modality.T2: "t2w", Modality.FLAIR: "t2f"}


def _regions(row: Row) -> tuple[str, ...]:
    return tuple(ABSENT if region == NO_REGION else region for region in row["region"])


def _answer(row: Row, task: Task) -> str:
    return listed(_regions(row)) if task is Task.REGION else str(row[task])


def _numbers(row: Row) -> list[int | list[int]]:
    targets = row["targets"]
    regions = sorted((ABSENT, *REGIONS).index(region) + 1 for region in _regions(row))
    return [targets["volume"], regions or [0], targets["shape"], targets["spread"], targets["out_of_scope"]]


def entry(row: Row, number: int, volume: int, cohort: str) -> Row:
    """A row of a dataset as one entry of the layout: the question's number, and the study's."""
    tasks = [Task(task) for task in row["tasks"]]
    unknown = bool(row["targets"]["out_of_scope"])
    kind = _KINDS.get(Kind(row["kind"])) or _TASKS[tasks[0]]
    images = {name: row["images"][modality] for modality, name in _MODALITIES.items()}
    if channel := next(
        (path for path in images.values() if path and isinstance(place_at(Path(), path), Channel)), None
    ):
        raise DatasetError(
            f"{channel}: is a channel of a 4D file, where this layout has a file for each image; export as nifti, or "
            "split the cohort's files and build again"
        )
    folder = (Path(cohort) / next(path for path in images.values() if path)).parent
    return {
        "question": row["question"],
        "answer_vqa": [*([_answer(row, task)] for task in tasks), *([[_UNKNOWN]] if unknown else [])],
        "answer_gen": row["answer"],
        "type": kind,
        "label_name": row["label_name"],
        "volume_file_id": volume,
        "volume_file_dir": str(folder),
        "volume_seg_file": f"{cohort}/{row['mask']}",
        "volume_non_seg_files": {name: f"{cohort}/{path}" for name, path in images.items() if path},
        "img_id": volume,
        "q_lang": "en",
        "qid": number,
        "location": "Brain",
        "answer_type": "OPEN",
        "base_type": "VQA",
        "content_type": kind,
        "study_name": row["patient"],
        "answer": row["answer"],
        "combo": [*(list(_TASKS).index(task) + 1 for task in tasks), *([len(_TASKS) + 1] if unknown else [])],
        "answer_vqa_numeric": _numbers(row),
    }


def _check_free(file: Path) -> None:
    """Raises `DatasetError` for a file that is there and holds no questions of this layout."""
    if file.is_file():
        with file.open(errors="replace") as stream:
            head = stream.read(_HEAD)
        if head.strip() != "[]" and '"answer_vqa_numeric"' not in head:
            raise DatasetError(f"{file}: is not of an earlier export, which would replace it; choose another folder")


def write_mpllm(dataset: Dataset, out: Path, progress: Callable[[int, int], None]) -> None:
    """Write the questions of every split; their numbers run on across splits, in the order of studies.

    Raises `DatasetError` for a study of 4D files, and if files of other content have the names of these.
    """
    for name in FILES.values():
        _check_free(out / name)
    by_split = {split: dataset.rows(split) for split in SPLITS}
    ids = sorted((row["study"], row["id"]) for rows in by_split.values() for row in rows)
    numbers = {id: number for number, (_, id) in enumerate(ids)}
    volumes = {study: number for number, study in enumerate(dict.fromkeys(study for study, _ in ids))}
    cohort = dataset.images_root.name
    for done, (split, rows) in enumerate(by_split.items(), start=1):
        entries = [entry(row, numbers[row["id"]], volumes[row["study"]], cohort) for row in rows]
        write_json(out / FILES[split], entries)
        progress(done, len(by_split))
