"""README.md and croissant.json of a dataset: complete, true, the same each time, and free of the builder's machine."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from voxmoe.vqa.card import dataset_card, write_card
from voxmoe.vqa.dataset import SPLITS, Dataset, open_dataset
from voxmoe.vqa.wordings.grammar import GRAMMAR


@pytest.fixture(scope="module")
def published(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("published") / "dataset"
    shutil.copytree(dataset, folder)
    opened = open_dataset(folder)
    write_card(opened)
    return opened


def front_matter(card: str) -> dict[str, Any]:
    start, front, _ = card.split("---\n", maxsplit=2)
    assert not start
    return dict(yaml.safe_load(front))


def test_the_front_matter_names_the_files_of_each_split(published: Dataset) -> None:
    front = front_matter((published.root / "README.md").read_text())
    (config,) = front["configs"]
    assert config["data_files"] == [{"split": split, "path": f"data/{split}.parquet"} for split in SPLITS]
    assert all((published.root / file["path"]).is_file() for file in config["data_files"])
    assert front["license"] == "other"
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["visual-question-answering"]


def test_a_split_without_rows_is_not_named(published: Dataset) -> None:
    manifest = {**published.manifest, "questions": {**published.manifest["questions"], "validation": 0}}
    front = front_matter(dataset_card(Dataset(published.root, manifest)))
    assert [file["split"] for file in front["configs"][0]["data_files"]] == ["train", "test"]


def test_the_figures_are_those_of_the_dataset(published: Dataset) -> None:
    card = dataset_card(published)
    assert "96 questions with answers about 4 brain MRI studies of 4 patients" in card
    for split in SPLITS:
        assert f"| {split} | {len(published.rows(split))} | " in card
    assert "Not for clinical use" in card
    assert "protocol `paper-v2`, region atlas `desikan-killiany`, labels of `gli-2024`" in card
    assert "could not be used" not in card
    assert f"VoxMoE's own grammar (edition {GRAMMAR.source.removeprefix('grammar:')})" in card
    assert "question types by the weights `uniform`" in card
    from_file = dataset_card(Dataset(published.root, {**published.manifest, "wordings": "sha256:ab"}))
    assert "wordings from a file, meta/wordings.jsonl" in from_file
    left_out = Dataset(published.root, {**published.manifest, "skipped": 2})
    assert "2 could not be used (meta/skipped.json)" in dataset_card(left_out)


def test_the_rules_and_the_licence_of_the_atlas(published: Dataset) -> None:
    rules = dataset_card(published).split("## Rules")[1].split("## How")[0]
    assert "- protocol: name paper-v2, connectivity 26, core fraction 0.7, focus mm3 100.0, " in rules
    assert "- region atlas `desikan-killiany`: FreeSurfer Software License (permissive)" in rules
    others = Dataset(published.root, {**published.manifest, "atlas": ["lpba40", "neuromorphometrics"]})
    assert "- region atlas `lpba40`: LPBA40 (UCLA LONI)" in dataset_card(others)
    assert "- region atlas `neuromorphometrics`: CC BY-NC" in dataset_card(others)


def test_every_column_is_explained(published: Dataset) -> None:
    card = dataset_card(published)
    table = card.split("## Columns")[1].split("## Examples")[0]
    named = [
        name for line in table.splitlines() if line.startswith("| ") for name in line.split(" | ")[0][2:].split(", ")
    ]
    assert set(pq.read_schema(published.root / "data" / "train.parquet").names) <= set(named)


def test_the_same_bytes_again_and_no_places_of_this_machine(published: Dataset) -> None:
    files = [published.root / name for name in ("README.md", "croissant.json")]
    content = [file.read_bytes() for file in files]
    write_card(published)
    assert [file.read_bytes() for file in files] == content
    for text in content:
        assert str(published.images_root).encode() not in text
        assert str(published.root).encode() not in text


def test_datasets_reads_it_by_the_card(published: Dataset, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(published.root), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == published.manifest["questions"]
