"""The layout of mpLLM's public code, decoded again by that code's own lists of classes and its way with paths."""

import json
from pathlib import Path
from typing import Any

import pytest

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import Kind
from voxmoe.vqa.dataset import SPLITS, open_dataset
from voxmoe.vqa.export import export_dataset
from voxmoe.vqa.mpllm_json import FILES, entry

KEYS = {
    *("question", "answer_vqa", "answer_gen", "type", "label_name", "volume_file_id", "volume_file_dir"),
    *("volume_seg_file", "volume_non_seg_files", "img_id", "q_lang", "qid", "location", "answer_type", "base_type"),
    *("content_type", "study_name", "answer", "combo", "answer_vqa_numeric"),
}
"""As the code's README lists them."""
AREA = ["", "N/A", "<1%", "1-5%", "5-10%", "10-25%", "25-50%", "50-75%"]
SHAPE = ["", "N/A", "focus", "round", "oval", "elongated", "irregular"]
SATELLITE = ["", "N/A", "single lesion", "core with satellite lesions", "scattered lesions"]
LOBES = ["", "N/A", "frontal", "parietal", "occipital", "temporal", "limbic", "insula"]
LOBES += ["subcortical", "cerebellum", "brainstem"]

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def exported(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Rows, Rows]]:
    """Split -> the rows of the dataset and the entries made of them."""
    out, opened = tmp_path_factory.mktemp("exported"), open_dataset(dataset)
    export_dataset(opened, out, "mpllm")
    return {split: (opened.rows(split), json.loads((out / FILES[split]).read_text())) for split in SPLITS}


def pairs(exported: dict[str, tuple[Rows, Rows]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [pair for rows, entries in exported.values() for pair in zip(rows, entries, strict=True)]


def test_every_question_with_the_keys_of_the_layout(exported: dict[str, tuple[Rows, Rows]]) -> None:
    found = pairs(exported)
    assert len(found) == 96
    for row, made in found:
        assert made.keys() == KEYS
        assert (made["question"], made["answer"], made["answer_gen"]) == (row["question"], row["answer"], row["answer"])
        assert (made["label_name"], made["study_name"]) == (row["label_name"], row["patient"])
        assert made["type"] == made["content_type"]
        assert made["img_id"] == made["volume_file_id"]


def test_numbers_decode_to_the_answers(exported: dict[str, tuple[Rows, Rows]]) -> None:
    for row, made in pairs(exported):
        area, regions, shape, satellite, unknown = made["answer_vqa_numeric"]
        said = dict(zip(made["combo"], made["answer_vqa"], strict=True))
        asked = [
            number for number, task in enumerate(("volume", "region", "shape", "spread"), 1) if task in row["tasks"]
        ]
        assert made["combo"] == asked + [5] * (row["kind"] != Kind.IN_SCOPE)
        assert unknown == (5 in made["combo"])
        for number, classes, value, task in ((1, AREA, area, "volume"), (3, SHAPE, shape, "shape")):
            assert classes[value] == (row[task] if number in asked else "")
            assert said.get(number, [""]) == [classes[value]]
        assert said.get(4, [""]) == [SATELLITE[satellite]]
        lobes = [LOBES[region] for region in regions]
        assert sorted(lobes) == (sorted(row["region"]) if 2 in asked else [""])
        assert said.get(2, [""])[0].replace(" and ", ", ").split(", ") == (row["region"] if 2 in asked else [""])


def test_types_are_those_of_the_layout(exported: dict[str, tuple[Rows, Rows]]) -> None:
    for row, made in pairs(exported):
        names = {"volume": "area", "region": "region", "shape": "shape", "spread": "satellite"}
        if row["kind"] == Kind.IN_SCOPE:
            assert made["type"] == names[row["tasks"][0]]
        else:
            assert made["type"] == ("partially_unknown" if row["kind"] == Kind.PARTIAL else "unknown")


def test_paths_lead_to_the_files_and_to_the_arrays_beside_them(
    exported: dict[str, tuple[Rows, Rows]], dataset: Path
) -> None:
    cohort = open_dataset(dataset).images_root
    for _, made in pairs(exported):
        images = made["volume_non_seg_files"]
        assert list(images) == ["t1c", "t1n", "t2w", "t2f"]
        for suffix, path in (*images.items(), ("seg", made["volume_seg_file"])):
            assert path.endswith(f"-{suffix}.nii.gz")
            assert (cohort.parent / path).is_file()
            assert str(Path(path).parent) == made["volume_file_dir"]
        base = f"{Path(made['volume_file_dir']).parent}_npy"
        assert base == f"{cohort.name}_npy"


def test_numbers_of_questions_and_studies_are_their_own(exported: dict[str, tuple[Rows, Rows]]) -> None:
    found = pairs(exported)
    by_id = sorted((row["id"], made["qid"]) for row, made in found)
    assert [number for _, number in by_id] == list(range(96))
    studies = sorted({(row["study"], made["volume_file_id"]) for row, made in found})
    assert [number for _, number in studies] == [0, 1, 2, 3]


def test_no_labelled_region_is_not_applicable_and_a_missing_image_has_no_key(dataset: Path) -> None:
    row = next(row for row in open_dataset(dataset).rows("train") if row["tasks"] == ["region"])
    images = {**row["images"], "T2": None}
    made = entry({**row, "region": ["no labelled region"], "images": images}, 0, 0, "cohort")
    assert made["answer_vqa"][0] == ["N/A"]
    assert made["answer_vqa_numeric"][1] == [1]
    assert list(made["volume_non_seg_files"]) == ["t1c", "t1n", "t2f"]


def test_other_formats_and_the_dataset_itself(dataset: Path, tmp_path: Path) -> None:
    opened = open_dataset(dataset)
    with pytest.raises(DatasetError, match="no format is called 'coco'; there are mpllm, nifti"):
        export_dataset(opened, tmp_path, "coco")
    with pytest.raises(DatasetError, match="is the dataset itself; name another folder"):
        export_dataset(opened, dataset, "nifti")


def test_files_of_the_same_names_are_written_over_only_if_they_are_of_an_export(dataset: Path, tmp_path: Path) -> None:
    for _ in range(2):
        export_dataset(open_dataset(dataset), tmp_path / "out", "mpllm")
    (tmp_path / "val.json").write_text('[{"image": "a.nii.gz"}]')
    with pytest.raises(DatasetError, match=r"val\.json: is not of an earlier export"):
        export_dataset(open_dataset(dataset), tmp_path, "mpllm")
    assert (tmp_path / "val.json").read_text() == '[{"image": "a.nii.gz"}]'
    assert not (tmp_path / "train.json").exists()
