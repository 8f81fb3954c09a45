"""The Croissant file: its structure by the specification, its types by the Parquet files, its hashes by the bytes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from voxmoe.files import sha256
from voxmoe.vqa.croissant import croissant
from voxmoe.vqa.dataset import SPLITS, Dataset, open_dataset


@pytest.fixture(scope="module")
def described(dataset: Path) -> tuple[Dataset, dict[str, Any]]:
    opened = open_dataset(dataset)
    return opened, json.loads(json.dumps(croissant(opened, "Questions")))


def fields(field: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A field, or its parts if it has any."""
    if "subField" in field:
        assert "source" not in field
        for part in field["subField"]:
            yield from fields(part)
    else:
        yield field


def nodes(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from nodes(value)
    elif isinstance(content, list):
        for value in content:
            yield from nodes(value)


def test_what_the_specification_requires(described: tuple[Dataset, dict[str, Any]]) -> None:
    _, content = described
    assert content["@type"] == "sc:Dataset"
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for required in ("name", "description", "license", "version", "distribution", "recordSet"):
        assert content[required]
    body = {key: value for key, value in content.items() if key != "@context"}
    prefixes = {"sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/"}
    assert prefixes.items() <= content["@context"].items()
    for node in nodes(body):
        for key in set(node) - {"@id", "@type"}:
            schema_org = {"name", "description", "license", "inLanguage", "keywords", "version", "distribution"}
            files = {"contentUrl", "contentSize", "encodingFormat", "sha256"}
            assert key in content["@context"] or key in schema_org | files, key


def test_every_reference_has_its_node(described: tuple[Dataset, dict[str, Any]]) -> None:
    _, content = described
    body = [node for key in ("distribution", "recordSet") for node in nodes(content[key]) if "@id" in node]
    named = [node["@id"] for node in body if "@type" in node]
    assert len(named) == len(set(named))
    assert {node["@id"] for node in body if "@type" not in node} <= set(named)


def test_files_with_their_hashes(described: tuple[Dataset, dict[str, Any]]) -> None:
    dataset, content = described
    files = [one for one in content["distribution"] if one["@type"] == "cr:FileObject"]
    assert [file["contentUrl"] for file in files] == [f"data/{split}.parquet" for split in SPLITS]
    for file in files:
        path = dataset.root / file["contentUrl"]
        assert file["sha256"] == sha256(path)
        assert file["contentSize"] == f"{path.stat().st_size} B"
    (together,) = [one for one in content["distribution"] if one["@type"] == "cr:FileSet"]
    assert sorted(dataset.root.glob(together["includes"])) == sorted(dataset.root / file["@id"] for file in files)


def test_fields_are_the_columns_with_their_types(described: tuple[Dataset, dict[str, Any]]) -> None:
    dataset, content = described
    (records,) = content["recordSet"]
    schema = pq.read_schema(dataset.root / "data" / "train.parquet")
    assert [field["@id"] for field in records["field"]] == [f"questions/{name}" for name in schema.names]
    for leaf in (leaf for field in records["field"] for leaf in fields(field)):
        source = leaf["source"]
        kind = schema.field(source["extract"]["column"]).type
        if "transform" in source:
            kind = kind.field(source["transform"]["jsonPath"]).type
        assert leaf.get("repeated", False) == pa.types.is_list(kind)
        kind = kind.value_type if pa.types.is_list(kind) else kind
        assert leaf["dataType"] == ("sc:Integer" if pa.types.is_integer(kind) else "sc:Text")
        assert source["fileSet"] == {"@id": "parquet-files"}
    leaves = {leaf["@id"] for field in records["field"] for leaf in fields(field)}
    assert {"questions/targets/region", "questions/images/FLAIR", "questions/draw/seed"} <= leaves


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib and mlcroissant themselves
def test_mlcroissant_reads_it(described: tuple[Dataset, dict[str, Any]], tmp_path: Path) -> None:
    import mlcroissant

    dataset, content = described
    shutil.copytree(dataset.root / "data", tmp_path / "data")
    (tmp_path / "croissant.json").write_text(json.dumps(content))
    records = list(mlcroissant.Dataset(str(tmp_path / "croissant.json")).records("questions"))
    assert len(records) == sum(dataset.manifest["questions"].values())
