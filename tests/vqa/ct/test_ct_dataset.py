"""Exchanges come back as they were written, by patient; what contradicts itself or leaves its folder is refused."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from voxmoe.errors import DatasetError
from voxmoe.files import sha256
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.dataset import CTDataset, is_ct_dataset, open_any, open_ct_dataset, write_ct_dataset
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.dataset import SPLITS, open_dataset


def exchanges(patients: int = 10) -> list[Exchange]:
    found = []
    for number in range(patients):
        image, patient = f"scans/{number}.nii.gz", f"p{number}"
        rescale = None if number % 2 else (1.0, -1024.0)
        found += [
            Exchange(f"{number}c", "own", image, patient, CTTask.CLOSED, "side", "Where?", "left", ("right", "left")),
            Exchange(f"{number}o", "own", image, patient, CTTask.OPEN, "side", "Where?", "left", slice=number),
            Exchange(f"{number}r", "own", image, patient, CTTask.REPORT, "report", "Say.", "A."),
        ]
        found[-3:] = [replace(exchange, rescale=rescale) for exchange in found[-3:]]
    return found


@pytest.fixture
def written(tmp_path: Path) -> CTDataset:
    write_ct_dataset(exchanges(), tmp_path / "set", tmp_path / "images", skipped={"a.csv:3": "no answer"})
    return open_ct_dataset(tmp_path / "set")


def test_exchanges_come_back(written: CTDataset) -> None:
    back = {exchange.id: exchange for exchange in written.exchanges("all")}
    assert back == {exchange.id: exchange for exchange in exchanges()}
    assert written.manifest["rows"] == {"train": 24, "validation": 3, "test": 3}
    assert written.manifest["counts"]["task"]["test"] == {"closed": 1, "open": 1, "report": 1}
    assert (written.root / "meta" / "skipped.json").read_text() == '{\n  "a.csv:3": "no answer"\n}\n'
    for split, digest in written.manifest["sha256"].items():
        assert sha256(written.root / "data" / f"{split}.parquet") == digest
    row = pq.read_table(written.root / "data" / "test.parquet", filters=[("task", "=", "closed")]).to_pylist()[0]
    assert (row["letter"], row["choices"], row["rescale"]) == ("B", ["right", "left"], None)


def test_no_patient_is_in_two_splits(written: CTDataset) -> None:
    patients = [{exchange.patient for exchange in written.exchanges(split)} for split in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 10


def test_the_same_exchanges_give_the_same_bytes(written: CTDataset, tmp_path: Path) -> None:
    again = write_ct_dataset(exchanges(), tmp_path / "again", tmp_path / "images")
    other = write_ct_dataset(exchanges(), tmp_path / "other", tmp_path / "images", seed=1)
    assert again["sha256"] == written.manifest["sha256"] != other["sha256"]


def test_splits_as_they_are_published(tmp_path: Path) -> None:
    splits = {"scans/0.nii.gz": "test", "p1": "train"}
    manifest = write_ct_dataset(exchanges(2), tmp_path / "set", tmp_path, splits=splits)
    assert manifest["rows"] == {"train": 3, "validation": 0, "test": 3}
    assert not (tmp_path / "set" / "data" / "validation.parquet").exists()
    assert open_ct_dataset(tmp_path / "set").exchanges("validation") == []
    assert {exchange.patient for exchange in open_ct_dataset(tmp_path / "set").exchanges("test")} == {"p0"}


def test_a_dataset_written_anew_holds_nothing_old(written: CTDataset, tmp_path: Path) -> None:
    write_ct_dataset(exchanges(1), written.root, tmp_path / "images")
    assert sorted(path.name for path in written.root.rglob("*.parquet")) == ["train.parquet"]


@pytest.mark.parametrize(
    ("change", "splits", "said"),
    [
        ({"id": "0c"}, None, "0c: 2 exchanges have this id"),
        ({"patient": "p1"}, None, "is said to be of the patients p0 and p1"),
        ({"rescale": None}, None, "need slope 1 and intercept -1024 and, by 0o, no slope and intercept; all"),
        ({"image": "other.nii.gz"}, {"p0": "train", "other.nii.gz": "test"}, "p0 is in the splits train and test"),
        ({}, {"other": "train"}, r"scans/0.nii.gz: is in no split; each volume needs one of train, validation, test"),
        ({}, {"p0": "dev"}, "is in the split 'dev'"),
        ({"image": "../0.nii.gz"}, None, "leaves .*images"),
        ({"image": "/etc/0.nii.gz"}, None, "leaves .*images"),
        ({"image": "C:\\0.nii.gz"}, None, "leaves .*images"),
    ],
)
def test_what_contradicts_itself(
    change: dict[str, object], splits: dict[str, str] | None, said: str, tmp_path: Path
) -> None:
    first, second = exchanges(1)[:2]
    with pytest.raises(DatasetError, match=said):
        write_ct_dataset([first, replace(second, **change)], tmp_path / "set", tmp_path / "images", splits=splits)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing to write"):
        write_ct_dataset([], tmp_path / "set", tmp_path)


def test_images_and_masks_are_found(tmp_path: Path) -> None:
    images, masks = tmp_path / "set" / "images", tmp_path / "masks"
    for folder in (images, masks):
        (folder / "scans").mkdir(parents=True)
        (folder / "scans" / "0.nii.gz").touch()
    first, _, _, second, *_ = exchanges(2)
    manifest = write_ct_dataset([first, second], tmp_path / "set", images, masks=masks)
    assert (manifest["images"], manifest["masks"]) == ("images", str(masks))
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = open_ct_dataset(tmp_path / "moved")
    assert moved.image(first).is_file()
    assert moved.mask(first) == masks / "scans" / "0.nii.gz"
    assert moved.mask(second) is None
    assert open_ct_dataset(tmp_path / "moved").image(second) == tmp_path / "moved" / "images" / second.image


def test_a_folder_of_masks_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"mask: no such folder; name the one of masks"):
        write_ct_dataset(exchanges(), tmp_path / "set", tmp_path / "images", masks=tmp_path / "mask")
    assert not (tmp_path / "set").exists()


def test_a_row_cannot_lead_out_of_the_images(written: CTDataset, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.nii.gz").touch()
    (tmp_path / "images" / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    (tmp_path / "images" / "real.nii.gz").touch()
    (tmp_path / "images" / "within.nii.gz").symlink_to(tmp_path / "images" / "real.nii.gz")
    first = written.exchanges("train")[0]
    assert written.image(replace(first, image="within.nii.gz")).is_file()
    for outside in ("../secret.nii.gz", "a/../../secret.nii.gz", str(tmp_path / "secret.nii.gz")):
        with pytest.raises(DatasetError, match=r"secret\.nii\.gz: leaves .*images"):
            written.image(replace(first, image=outside))
    with pytest.raises(DatasetError, match=r"link\.nii\.gz: is a link that leaves .*images"):
        written.image(replace(first, image="link.nii.gz"))


def test_datasets_are_told_apart(written: CTDataset, dataset: Path, tmp_path: Path) -> None:
    assert is_ct_dataset(written.root)
    assert not is_ct_dataset(dataset)
    assert not is_ct_dataset(tmp_path / "nothing")
    assert open_any(written.root) == written
    assert open_any(dataset) == open_dataset(dataset)
    with pytest.raises(DatasetError, match=r"a dataset about CTs .* one about MRI studies is needed"):
        open_dataset(written.root)
    with pytest.raises(DatasetError, match=r"a dataset about MRI studies .* one about CTs is needed"):
        open_ct_dataset(dataset)
    with pytest.raises(DatasetError, match="holds a dataset of another kind"):
        write_ct_dataset(exchanges(), dataset, tmp_path)
    with pytest.raises(DatasetError, match="no finished dataset here"):
        open_ct_dataset(tmp_path / "nothing")


def test_what_is_incomplete_or_unknown(written: CTDataset) -> None:
    with pytest.raises(DatasetError, match="no split is called 'dev'; there are train, validation, test, and all"):
        written.exchanges("dev")
    (written.root / "data" / "test.parquet").unlink()
    with pytest.raises(DatasetError, match=r"data/test\.parquet is missing"):
        open_ct_dataset(written.root)


def test_a_damaged_split_is_named(written: CTDataset) -> None:
    (written.root / "data" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"test\.parquet: not a whole Parquet file .*; build the dataset again"):
        written.exchanges("test")


@pytest.mark.parametrize("split", SPLITS)
def test_only_what_is_of_a_dataset_is_written_over(split: str, tmp_path: Path) -> None:
    own = tmp_path / "data" / f"{split}.parquet"
    own.parent.mkdir()
    pq.write_table(pa.table({"mine": [1]}), own)
    before = own.read_bytes()
    with pytest.raises(
        DatasetError, match=rf"holds data/{split}\.parquet that is of no dataset of CTs; choose another"
    ):
        write_ct_dataset(exchanges(), tmp_path, tmp_path / "images")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [own]
    assert own.read_bytes() == before


def test_what_was_interrupted_is_written_anew(written: CTDataset, tmp_path: Path) -> None:
    whole = (written.root / "manifest.json").read_bytes()
    (written.root / "manifest.json").unlink()
    write_ct_dataset(exchanges(), written.root, tmp_path / "images", skipped={"a.csv:3": "no answer"})
    assert (written.root / "manifest.json").read_bytes() == whole
