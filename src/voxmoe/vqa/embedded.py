"""A dataset with its images inside, for `datasets.load_dataset`: one folder that stands by itself.

OUT/data/SPLIT.parquet             the questions, as in the dataset
OUT/studies/SPLIT-*-of-*.parquet   one row a study: the bytes of its images and its mask as `datasets.Nifti`
OUT/README.md                      the card, which names the questions and the studies as two configurations

An image is stored once a study, not once a question: 24 questions about a study would hold it 24 times.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from voxmoe.errors import DatasetError
from voxmoe.files import atomic_path, write_bytes
from voxmoe.imaging.places import Channel, Place, file_of
from voxmoe.imaging.study import StudyFiles
from voxmoe.imaging.volume import nifti_bytes, scan_image
from voxmoe.vocabulary import Modality
from voxmoe.vqa.card import dataset_card
from voxmoe.vqa.dataset import SPLITS, Dataset

STUDIES_A_FILE = 32
"""About 270 MB of the paper's studies."""
_IMAGES = (*map(str, Modality), "mask")
_NAMES = ("study", "patient")
_FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in _NAMES} | {
    name: {"_type": "Nifti"} for name in _IMAGES
}
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _NAMES),
        *((name, pa.struct([("bytes", pa.binary()), ("path", pa.string())])) for name in _IMAGES),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def _embedded(place: Place | None, known: str) -> dict[str, Any] | None:
    """A file as it is; a channel of a 4D file as a file of its own."""
    if place is None:
        return None
    path = file_of(place)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}), so it cannot be embedded") from None
    if hashlib.sha256(content).hexdigest() != known.partition("#")[0]:
        raise DatasetError(f"{path}: is not the file that the dataset was built from; build the dataset again")
    if isinstance(place, Channel):
        name = f"{path.name.partition('.')[0]}_{place.index:04d}.nii.gz"
        return {"bytes": nifti_bytes([scan_image(place)], gzipped=True), "path": name}
    return {"bytes": content, "path": path.name}


def _row(files: StudyFiles, hashes: dict[str, str]) -> dict[str, Any]:
    places = {**{str(modality): place for modality, place in files.images.items()}, "mask": files.mask}
    images = {name: _embedded(places.get(name), hashes.get(name, "")) for name in _IMAGES}
    return {"study": files.id, "patient": files.patient, **images}


def _studies(dataset: Dataset, split: str) -> list[StudyFiles]:
    first = {row["study"]: row for row in reversed(dataset.rows(split))}
    return [dataset.study_files(first[study]) for study in sorted(first)]


def _files_of(studies: list[StudyFiles], split: str) -> Iterator[tuple[str, list[StudyFiles]]]:
    """The name of each file below OUT/studies, and the studies in it."""
    count = -(-len(studies) // STUDIES_A_FILE)
    for number in range(count):
        name = f"{split}-{number:05d}-of-{count:05d}.parquet"
        yield name, studies[number * STUDIES_A_FILE : (number + 1) * STUDIES_A_FILE]


def _earlier(out: Path) -> list[Path]:
    """The Parquet files of an export that was here before: of another cohort there may have been more.

    Raises `DatasetError` if the folder's card is that of something else.
    """
    card = out / "README.md"
    if card.is_file() and "config_name: studies" not in card.read_text(errors="replace"):
        raise DatasetError(f"{card}: is not of an earlier export, which would replace it; choose another folder")
    found = [out / "data" / f"{split}.parquet" for split in SPLITS]
    return found + [file for split in SPLITS for file in out.glob(f"studies/{split}-*-of-*.parquet")]


def write_embedded(dataset: Dataset, out: Path, progress: Callable[[int, int], None]) -> None:
    """Write the questions, the studies with their images, and the card.

    Raises `DatasetError` for an image that is gone, or is not the one that the dataset was built from, and if `out`
    holds something else than an earlier export.
    """
    recorded = json.loads((dataset.root / "meta" / "studies.json").read_text())
    hashes = {record["study"]: record["sha256"] for record in recorded}
    for file in _earlier(out):
        file.unlink(missing_ok=True)
    done = 0
    for split in SPLITS:
        if not dataset.manifest["questions"][split]:
            continue
        with atomic_path(out / "data" / f"{split}.parquet") as temporary:
            shutil.copyfile(dataset.root / "data" / f"{split}.parquet", temporary)
        for name, studies in _files_of(_studies(dataset, split), split):
            # images are compressed already; a group of rows for each study, so that a reader holds one at a time
            with (
                atomic_path(out / "studies" / name) as temporary,
                pq.ParquetWriter(temporary, SCHEMA, compression="none", use_dictionary=False) as writer,
            ):
                for files in studies:
                    writer.write_table(pa.Table.from_pylist([_row(files, hashes[files.id])], schema=SCHEMA))
                    done += 1
                    progress(done, len(hashes))
    write_bytes(out / "README.md", dataset_card(dataset, embedded=True).encode())
