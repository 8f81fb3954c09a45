"""Croissant 1.0 (mlcommons.org/croissant): a dataset described for machines, as JSON-LD.

Each split's Parquet file is a FileObject with its sha256; a FileSet names them all, and one record set has a field for
each column, typed after the Parquet schema. Columns with parts, such as `targets`, become fields with subfields.
"""

from typing import Any

import pyarrow as pa

from voxmoe.files import sha256
from voxmoe.vqa.dataset import SCHEMA, SPLITS, Dataset

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FILES = "parquet-files"
_RECORDS = "questions"


def _file_objects(dataset: Dataset) -> list[dict[str, Any]]:
    found = []
    for split in SPLITS:
        if dataset.manifest["questions"][split]:
            path = f"data/{split}.parquet"
            found.append(
                {
                    "@type": "cr:FileObject",
                    "@id": path,
                    "name": path,
                    "contentUrl": path,
                    "contentSize": f"{(dataset.root / path).stat().st_size} B",
                    "encodingFormat": "application/x-parquet",
                    "sha256": sha256(dataset.root / path),
                }
            )
    return found


def _data_type(kind: pa.DataType) -> str:
    return "sc:Integer" if pa.types.is_integer(kind) else "sc:Text"


def _field(name: str, kind: pa.DataType, column: str, path: str | None = None) -> dict[str, Any]:
    """A column, or a part of one, as a field."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{_RECORDS}/{name}", "name": f"{_RECORDS}/{name}"}
    if pa.types.is_struct(kind):
        parts = [_field(f"{name}/{part.name}", part.type, column, part.name) for part in kind]
        return {**field, "subField": parts}
    if pa.types.is_list(kind):
        field["repeated"] = True
        kind = kind.value_type
    source: dict[str, Any] = {"fileSet": {"@id": _FILES}, "extract": {"column": column}}
    if path is not None:
        source["transform"] = {"jsonPath": path}
    return {**field, "dataType": _data_type(kind), "source": source}


def croissant(dataset: Dataset, name: str) -> dict[str, Any]:
    """The JSON-LD description of a dataset."""
    manifest = dataset.manifest
    questions, studies = sum(manifest["questions"].values()), manifest["studies"]
    protocol = manifest["protocol"]["name"]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": f"{questions} questions with answers about {studies} brain MRI studies, by the protocol "
        f"{protocol} of mpLLM. The images are not part of it.",
        "citeAs": "Vepa et al., mpLLM, 2025, arXiv:2509.25889",
        "license": "The licence of the source images applies.",
        "inLanguage": "en",
        "keywords": ["medical", "brain MRI", "visual question answering", *manifest["profiles"]],
        "version": manifest["voxmoe"],
        "isLiveDataset": False,
        "distribution": [
            *_file_objects(dataset),
            {
                "@type": "cr:FileSet",
                "@id": _FILES,
                "name": _FILES,
                "encodingFormat": "application/x-parquet",
                "includes": "data/*.parquet",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": _RECORDS,
                "name": _RECORDS,
                "description": "One question with its answer.",
                "key": {"@id": f"{_RECORDS}/id"},
                "field": [_field(column.name, column.type, column.name) for column in SCHEMA],
            }
        ],
    }
