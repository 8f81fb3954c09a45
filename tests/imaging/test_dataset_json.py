"""dataset.json of both kinds, and each way in which one can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.dataset_json import read_description
from voxmoe.vocabulary import Label, Modality

ORDER = (Modality.FLAIR, Modality.T1, Modality.T1GD, Modality.T2)


def described(folder: Path, content: Any) -> Path:
    (folder / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("FLAIR", "T1w", "t1gd", "T2w"),
        ("T2-FLAIR", "T1", "T1ce", "T2"),
        ("flair", "T1n", "T1_Gd", "t2w"),
        ("t2f", "t1", "T1C", "t2"),
    ],
)
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channels_by_any_of_their_names(names: tuple[str, ...], key: str, tmp_path: Path) -> None:
    table = {str(number): name for number, name in enumerate(names)}
    assert read_description(described(tmp_path, {key: table})).channels == ORDER


def test_what_it_does_not_say(tmp_path: Path) -> None:
    said = read_description(described(tmp_path, {}))
    assert (said.channels, said.profile("nnunet")) == (None, None)


def test_labels_of_either_version(tmp_path: Path) -> None:
    expected = (Label(1, "edema", "edema"), Label(2, "cavity", "cavity"))
    for labels in ({"background": 0, "edema": 1, "cavity": 2}, {"0": "background", "1": "edema", "2": "cavity"}):
        profile = read_description(described(tmp_path, {"labels": labels})).profile("nnunet")
        assert profile is not None
        assert profile.labels == expected
        assert profile.name == f"nnunet:{tmp_path.name}"


def test_one_name_for_several_values(tmp_path: Path) -> None:
    for labels in ({"lesion": [1, 2], "core": [2]}, {"1": "core", "2": "lesion", "3": "lesion"}):
        profile = read_description(described(tmp_path, {"labels": labels})).profile("nnunet")
        assert profile is not None
        assert sorted(len(label.values) for label in profile.labels) == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ([1], "holds no JSON object"),
        ({"file_ending": ".png"}, r"its file_ending is '\.png'; \.nii and \.nii\.gz are read here"),
    ],
)
def test_files_that_describe_nothing(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"dataset\.json: {message}"):
        read_description(described(tmp_path, content))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"dataset\.json: no such file; it says which channel is which modality"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"0": "FLAIR", "1": "ADC"},
            "channel 'ADC' is no modality that is known here; there are T1: t1, t1n, t1w; T1Gd: ",
        ),
        ({"0": "CT"}, "channel 'CT' is no modality"),
        ({"0": 7}, "channel 7 is no modality"),
        ({"0": "T1", "1": "T1w"}, "the channels 'T1' and 'T1w' both claim to be T1"),
        ({"1": "T1"}, r"its channels are \{'1': 'T1'\}; a table from \"0\" on"),
        ({}, "its channels are"),
        (["T1"], "its channels are"),
    ],
)
def test_channels_that_are_none(table: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"dataset\.json: {message}"):
        _ = read_description(described(tmp_path, {"channel_names": table})).channels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"edema": "1"}, "its labels have 'edema': '1'; a name and its value or values"),
        ({"edema": 1.5}, "its labels have 'edema': 1.5"),
        ({"edema": True}, "its labels have 'edema': True"),
        ({"edema": [1, "2"]}, "its labels have 'edema'"),
        (["edema"], r"its labels have 'labels': \['edema'\]"),
        (None, "its labels have 'labels': None"),
        ({"edema": 1, "ignore": 2}, 'has a label "ignore": its masks are annotated in part'),
        ({"edema": 300}, "label 'edema' has 300; whole values from 1 to 255 are allowed"),
    ],
)
def test_labels_that_are_none(labels: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=rf"dataset\.json: {message}"):
        read_description(described(tmp_path, {"labels": labels})).profile("nnunet")
