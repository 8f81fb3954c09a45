"""The dataset with its images inside: read by `datasets`, decoded by nibabel, equal to the files."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from voxmoe.errors import DatasetError
from voxmoe.files import write_json
from voxmoe.vocabulary import Modality
from voxmoe.vqa import embedded
from voxmoe.vqa.dataset import SPLITS, open_dataset
from voxmoe.vqa.export import export_dataset


@pytest.fixture(scope="module")
def exported(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "STUDIES_A_FILE", 1)
        export_dataset(open_dataset(dataset), out, "nifti")
    return out


def test_datasets_reads_questions_and_studies(dataset: Path, exported: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", minversion="4.4")
    opened = open_dataset(dataset)
    questions = datasets.load_dataset(str(exported), cache_dir=str(tmp_path))
    assert {split: questions[split].to_list() for split in SPLITS} == {split: opened.rows(split) for split in SPLITS}
    studies = datasets.load_dataset(str(exported), "studies", cache_dir=str(tmp_path))
    assert {split: len(studies[split]) for split in SPLITS} == {"train": 2, "validation": 1, "test": 1}
    for name in (*Modality, "mask"):
        assert studies["train"].features[name] == datasets.Nifti()
    row, study = opened.rows("test")[0], studies["test"][0]
    assert (study["study"], study["patient"]) == (row["study"], row["patient"])
    files = opened.study_files(row)
    for name, path in {**files.images, "mask": files.mask}.items():
        image, stored = study[name], nib.load(path)
        assert isinstance(image, nib.Nifti1Image)
        np.testing.assert_array_equal(image.affine, stored.affine)
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(stored.dataobj))


def test_the_bytes_are_those_of_the_files_once_a_study(dataset: Path, exported: Path) -> None:
    opened = open_dataset(dataset)
    names = sorted(path.name for path in (exported / "studies").iterdir())
    assert names == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]
    found = [row for name in names for row in pq.read_table(exported / "studies" / name).to_pylist()]
    assert len({row["study"] for row in found}) == len(found) == 4
    first = {row["study"]: row for split in SPLITS for row in opened.rows(split)}
    for row in found:
        for modality in Modality:
            path = opened.images_root / first[row["study"]]["images"][modality]
            assert row[modality] == {"bytes": path.read_bytes(), "path": path.name}


def test_again_leaves_nothing_of_before(dataset: Path, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    export_dataset(open_dataset(dataset), tmp_path / "out", "nifti")
    assert sorted(path.name for path in (tmp_path / "out" / "studies").iterdir()) == [
        f"{split}-00000-of-00001.parquet" for split in sorted(SPLITS)
    ]


def test_only_its_own_files_are_removed_and_no_dataset_is_written_over(
    dataset: Path, exported: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(exported, tmp_path / "out")
    others = [out / name for name in ("studies/mine.parquet", "data/mine.parquet", "mine/train.parquet")]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"mine")
    export_dataset(open_dataset(dataset), out, "nifti")
    assert [other.read_bytes() for other in others] == [b"mine"] * 3
    second = shutil.copytree(dataset, tmp_path / "second")
    card = tmp_path / "page" / "README.md"
    card.parent.mkdir()
    card.write_text("# Mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for form in ("nifti", "mpllm"):
        with pytest.raises(DatasetError, match=r"second: holds a dataset or a model .* choose another folder"):
            export_dataset(open_dataset(dataset), second, form)
    with pytest.raises(DatasetError, match=r"README\.md: is not of an earlier export"):
        export_dataset(open_dataset(dataset), card.parent, "nifti")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_card_names_both_and_no_place_of_this_machine(dataset: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "config_name: studies" in card
    assert 'The images and masks are the configuration "studies", one row a study.' in card
    assert "images are not part" not in card
    assert str(open_dataset(dataset).images_root) not in card


def test_a_missing_modality_is_null_and_a_changed_or_missing_file_an_error(dataset: Path, tmp_path: Path) -> None:
    own = tmp_path / "dataset"
    shutil.copytree(dataset, own)
    opened = open_dataset(own)
    files = opened.study_files(opened.rows("test")[0])
    records = {one["study"]: one for one in json.loads((own / "meta" / "studies.json").read_text())}
    images = {modality: path for modality, path in files.images.items() if modality is not Modality.T2}
    row = embedded._row(files.__class__(files.id, files.patient, images, files.mask), records[files.id]["sha256"])
    assert row["T2"] is None
    assert row["T1"]["bytes"]
    write_json(own / "meta" / "studies.json", [{**one, "sha256": {}} for one in records.values()])
    with pytest.raises(DatasetError, match=r"t1n\.nii\.gz: is not the file that the dataset was built from"):
        export_dataset(opened, tmp_path / "out", "nifti")
    write_json(own / "manifest.json", {**opened.manifest, "images": str(tmp_path)})
    with pytest.raises(DatasetError, match=r"t1n\.nii\.gz: cannot be read \(No such file"):
        export_dataset(open_dataset(own), tmp_path / "out", "nifti")
