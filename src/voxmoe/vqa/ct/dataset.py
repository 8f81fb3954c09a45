"""What is said about CTs (`Exchange`) -> a dataset on disk, and back into memory.

OUT/data/{train,validation,test}.parquet   one row an exchange; a split without rows has no file
OUT/meta/skipped.json                      rows of the source that could not be used, and why
OUT/manifest.json                          versions, seed, counts, where images and masks lie; written last
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from voxmoe import __version__
from voxmoe.errors import DatasetError
from voxmoe.files import atomic_path, inside, sha256, write_json
from voxmoe.vqa.ct.exchange import Exchange, from_row, to_row
from voxmoe.vqa.dataset import EVERY, SPLITS, Dataset, images_at, open_dataset, read_split, split_patients

KIND = "ct"
"""What the manifest calls such a dataset."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("image", pa.string()),
        ("patient", pa.string()),
        ("task", pa.string()),
        ("kind", pa.string()),
        ("question", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("letter", pa.string()),
        ("answer", pa.string()),
        ("slice", pa.int32()),
        ("rescale", pa.struct([("slope", pa.float64()), ("intercept", pa.float64())])),
    ]
)


@dataclass(frozen=True)
class CTDataset:
    """A written dataset: its manifest, and the exchanges of each split."""

    root: Path
    manifest: dict[str, Any]

    def exchanges(self, split: str) -> list[Exchange]:
        """Those of a split (of every one, by "all"), in the order of the file; none if it is empty."""
        if split == EVERY:
            return [exchange for each in SPLITS for exchange in self.exchanges(each)]
        if split not in SPLITS:
            raise DatasetError(f"no split is called {split!r}; there are {', '.join(SPLITS)}, and {EVERY} for all rows")
        if not self.manifest["rows"][split]:
            return []
        return [from_row(row) for row in read_split(self.root, split)]

    @property
    def images_root(self) -> Path:
        return images_at(self.root / str(self.manifest["images"]))

    def image(self, exchange: Exchange) -> Path:
        """The volume that is asked about; raises `DatasetError` for a path that leaves the folder of images."""
        return inside(self.images_root, exchange.image)

    def mask(self, exchange: Exchange) -> Path | None:
        """Its mask, which has the same relative name; None where there is none."""
        if self.manifest["masks"] is None:
            return None
        path = inside(self.root / self.manifest["masks"], exchange.image)
        return path if path.is_file() else None


def _told(rescale: tuple[float, float] | None) -> str:
    return "no slope and intercept" if rescale is None else f"slope {rescale[0]:g} and intercept {rescale[1]:g}"


def _check(exchanges: Sequence[Exchange], images: Path) -> None:
    """Raises `DatasetError` where two exchanges contradict each other, or an image lies outside of its folder."""
    if not exchanges:
        raise DatasetError("there is nothing to write: no exchange was given")
    name, times = Counter(exchange.id for exchange in exchanges).most_common(1)[0]
    if times > 1:
        raise DatasetError(f"{name}: {times} exchanges have this id; it has to be unique within a dataset")
    patients: dict[str, str] = {}
    rescales: dict[str, tuple[float, float] | None] = {}
    for exchange in exchanges:
        if exchange.image not in patients:
            inside(images, exchange.image)
        if patients.setdefault(exchange.image, exchange.patient) != exchange.patient:
            raise DatasetError(
                f"{exchange.image}: is said to be of the patients {patients[exchange.image]} and {exchange.patient}; "
                "splits are by patient, so a volume has one"
            )
        if (earlier := rescales.setdefault(exchange.image, exchange.rescale)) != exchange.rescale:
            raise DatasetError(
                f"{exchange.image}: is said to need {_told(earlier)} and, by {exchange.id}, {_told(exchange.rescale)}; "
                "all that is asked about a volume has the same"
            )


def _given_splits(exchanges: Sequence[Exchange], splits: Mapping[str, str]) -> dict[str, str]:
    """Patient -> split, from the splits of images or patients."""
    found: dict[str, str] = {}
    for exchange in exchanges:
        split = splits.get(exchange.image, splits.get(exchange.patient))
        if split not in SPLITS:
            said = "in no split" if split is None else f"in the split {split!r}"
            raise DatasetError(f"{exchange.image}: is {said}; each volume needs one of {', '.join(SPLITS)}")
        if found.setdefault(exchange.patient, split) != split:
            raise DatasetError(
                f"patient {exchange.patient} is in the splits {found[exchange.patient]} and {split}; draw the splits "
                "anew, by patient, or write one dataset a split and audit them against each other"
            )
    return found


def _written(out: Path, folder: Path) -> str:
    """How the manifest names a folder: relative to OUT if it lies there, so that both can be moved."""
    folder, out = folder.resolve(), out.resolve()
    return folder.relative_to(out).as_posix() if folder.is_relative_to(out) else str(folder)


def _write_split(path: Path, exchanges: Sequence[Exchange]) -> None:
    if not exchanges:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        table = pa.Table.from_pylist([to_row(exchange) for exchange in exchanges], schema=SCHEMA)
        pq.write_table(table, temporary, compression="zstd")


def _is_own(path: Path) -> bool:
    """Whether a Parquet file has the columns that `_write_split` gives it."""
    try:
        return bool(pq.read_schema(path).equals(SCHEMA))
    except (pa.ArrowException, OSError):
        return False


def check_out(out: Path) -> None:
    """Raises `DatasetError` for a folder in which a dataset would replace what is of none. One that was interrupted
    has left its splits without a manifest."""
    if (out / "manifest.json").exists():
        if not is_ct_dataset(out):
            raise DatasetError(f"{out}: holds a dataset of another kind; choose another folder")
        return
    for path in (out / "data" / f"{split}.parquet" for split in SPLITS):
        if path.exists() and not _is_own(path):
            raise DatasetError(f"{out}: holds data/{path.name} that is of no dataset of CTs; choose another folder")


def _counts(exchanges: Iterable[Exchange], key: str) -> dict[str, int]:
    return dict(sorted(Counter(str(getattr(exchange, key)) for exchange in exchanges).items()))


def write_ct_dataset(
    exchanges: Iterable[Exchange],
    out: Path,
    images: Path,
    *,
    seed: int = 0,
    splits: Mapping[str, str] | None = None,
    masks: Path | None = None,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write a dataset below `out` and return its manifest; the same exchanges and seed give the same bytes.

    `splits` are the published ones: of each patient, or of each image. Without them they are drawn by patient,
    80/10/10. `masks` is a folder of masks with the names of the images. Raises `DatasetError` if there are no
    exchanges, ids are not unique, one image has two patients or rescales or one patient two splits, a path leaves
    `images`, or `out` holds what this did not write.
    """
    check_out(out)
    every = list(exchanges)
    _check(every, images)
    if masks is not None and not masks.is_dir():
        raise DatasetError(f"{masks}: no such folder; name the one of masks that have the names of the images")
    of_patient = (
        split_patients([exchange.patient for exchange in every], seed)
        if splits is None
        else _given_splits(every, splits)
    )
    by_split = {split: [one for one in every if of_patient[one.patient] == split] for split in SPLITS}
    (out / "manifest.json").unlink(missing_ok=True)  # of an earlier dataset: what lies here now is not whole
    for split, own in by_split.items():
        _write_split(out / "data" / f"{split}.parquet", own)
    write_json(out / "meta" / "skipped.json", dict(skipped or {}))
    manifest = {
        "voxmoe": __version__,
        "kind": KIND,
        "images": _written(out, images),
        "masks": None if masks is None else _written(out, masks),
        "seed": seed,
        "splits": "drawn" if splits is None else "given",
        "rows": {split: len(own) for split, own in by_split.items()},
        "patients": {split: len({one.patient for one in own}) for split, own in by_split.items()},
        "volumes": {split: len({one.image for one in own}) for split, own in by_split.items()},
        "counts": {
            key: {split: _counts(own, key) for split, own in by_split.items()} for key in ("task", "kind", "source")
        },
        "skipped": len(skipped or {}),
        "sha256": {split: sha256(out / "data" / f"{split}.parquet") for split, own in by_split.items() if own},
    }
    write_json(out / "manifest.json", manifest)
    return manifest


def _manifest(root: Path) -> dict[str, Any] | None:
    """None where there is none, or it cannot be read."""
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_ct_dataset(place: Path | str) -> bool:
    """Whether a folder holds a dataset that `write_ct_dataset` wrote."""
    manifest = _manifest(Path(place))
    return manifest is not None and manifest.get("kind") == KIND


def open_ct_dataset(place: Path | str) -> CTDataset:
    """The dataset in a folder that `write_ct_dataset` wrote; raises `DatasetError` if it is none or incomplete."""
    root = Path(place)
    manifest = _manifest(root)
    if manifest is None:
        raise DatasetError(f"{root}: no finished dataset here; make one with voxmoe collect")
    if manifest.get("kind") != KIND:
        raise DatasetError(f"{root}: a dataset about MRI studies (voxmoe build); one about CTs is needed here")
    for split in SPLITS:
        if manifest["rows"][split] and not (root / "data" / f"{split}.parquet").is_file():
            raise DatasetError(f"{root}: data/{split}.parquet is missing; write the dataset again")
    return CTDataset(root, manifest)


def open_any(place: Path | str) -> Dataset | CTDataset:
    """A dataset of either kind."""
    return open_ct_dataset(place) if is_ct_dataset(place) else open_dataset(place)
