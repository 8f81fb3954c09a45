"""CT-RATE's reports and labels, its names, its folders, and slope and intercept of its first version."""

from pathlib import Path

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.formats import format_named
from voxmoe.vqa.ct.formats.ct_rate import LABELS
from voxmoe.vqa.ct.formats.ct_rate_names import volume_name
from voxmoe.vqa.ct.formats.form import Terms, read, read_rescales

ROW = {"VolumeName": "train_1_a_2.nii.gz", "Findings_EN": "A nodule.", "Impressions_EN": "Follow up."}
NESTED = "train/train_1/train_1_a/train_1_a_2.nii.gz"


def test_a_report_is_findings_and_impression(tmp_path: Path) -> None:
    bare = ROW | {"VolumeName": "valid_7_b_1.nii.gz", "Impressions_EN": "Not given."}
    empty = ROW | {"Findings_EN": "", "Impressions_EN": "nan"}
    foreign = ROW | {"VolumeName": "scan7.nii.gz"}
    reading = reading_of("ct-rate", table(tmp_path / "reports.csv", [ROW, bare, empty, foreign]))
    assert [(one.image, one.patient, one.answer) for one in reading.exchanges] == [
        (NESTED, "train_1", "A nodule. Follow up."),
        ("valid/valid_7/valid_7_b/valid_7_b_1.nii.gz", "valid_7", "A nodule."),
    ]
    assert set((reading.splits or {}).values()) == {"train", "validation"}
    assert reading.skipped == {
        "reports.csv:4": "has neither findings nor an impression",
        "reports.csv:5": "scan7.nii.gz: no name of CT-RATE, such as train_1_a_2.nii.gz",
    }


def test_labels_are_closed_questions(tmp_path: Path) -> None:
    labels = {"VolumeName": "train_1_a_2.nii.gz", "Cardiomegaly": "1", "Lung nodule": "0.0"}
    reading = reading_of("ct-rate", table(tmp_path / "labels.csv", [labels, labels | {"Lung nodule": "?"}]))
    assert [(one.task, one.kind, one.target) for one in reading.exchanges] == [
        (CTTask.CLOSED, "cardiomegaly", "A. Yes"),
        (CTTask.CLOSED, "lung nodule", "B. No"),
    ]
    assert reading.skipped == {"labels.csv:3": "its labels have to be 0 or 1; not so: Lung nodule ?"}


@pytest.mark.parametrize(
    "place",
    [
        NESTED,
        "train_fixed/train_1/train_1_a/train_1_a_2.nii.gz",
        "train_preprocessed/train_1/train_1a/train_1_a_2.nii.gz",
        "train_1/train_1_a/train_1_a_2.nii.gz",
        "train_1/train_1a/train_1_a_2.nii.gz",
        "train_1_a_2.nii.gz",
    ],
)
def test_volumes_are_found_in_every_published_folder(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    reading = reading_of("ct-rate", table(tmp_path / "reports.csv", [ROW]), images=tmp_path)
    assert [one.image for one in reading.exchanges] == [place]


def test_slope_and_intercept_come_from_the_metadata(tmp_path: Path) -> None:
    other = ROW | {"VolumeName": "train_2_a_1.nii.gz"}
    reports = table(tmp_path / "reports.csv", [ROW, other])
    row = {"VolumeName": "train_1_a_2.nii.gz", "RescaleSlope": "1", "RescaleIntercept": "-8192"}
    metadata = table(tmp_path / "metadata.csv", [row])
    assert read_rescales(metadata) == {"train_1_a_2.nii.gz": Rescale(1.0, -8192.0)}
    terms = Terms(tmp_path, check_files=False, rescales=read_rescales(metadata))
    reading = read(format_named("ct-rate"), [(None, reports)], terms)
    assert [one.rescale for one in reading.exchanges] == [(1, -8192)]
    assert "train_2_a_1.nii.gz: has no row in the metadata" in reading.skipped["reports.csv:3"]
    with pytest.raises(DatasetError, match="m3d-vqa: its images need no slope"):
        read(format_named("m3d-vqa"), [(None, reports)], terms)
    with pytest.raises(DatasetError, match=r"metadata\.csv:2: train_1_a_2.*needs a number in each of RescaleSlope"):
        read_rescales(table(metadata, [row | {"RescaleSlope": ""}]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train_1_a_2.nii.gz,1,-8192,0.7", "has 4 cells under 3 columns"),
        ("train_1_a_2.nii.gz,1", "has 2 cells under 3 columns"),
        ("train_1_a_2.nii.gz,1,air", "train_1_a_2.nii.gz: needs a number in each of RescaleSlope and RescaleIntercept"),
    ],
)
def test_rows_of_metadata_that_cannot_be_read(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f"VolumeName,RescaleSlope,RescaleIntercept\n{line}\n")
    with pytest.raises(DatasetError, match=f"^metadata.csv:2: {said}; mend the row, or take it away"):
        read_rescales(path)


@pytest.mark.parametrize(
    ("written", "patient", "split"),
    [
        ("train_12_c_3.nii.gz", "train_12", "train"),
        ("valid_1_a_1", "valid_1", "validation"),
        ("test_9_b_1.nii.gz", "test_9", "test"),
        ("val_4", "val_4", "validation"),
    ],
)
def test_names(written: str, patient: str, split: str) -> None:
    found = volume_name(written)
    assert (found.patient, found.split) == (patient, split)
    assert all(place.endswith(f"{written.removesuffix('.nii.gz')}.nii.gz") for place in found.places)


@pytest.mark.parametrize("written", ["", "train_a_1.nii.gz", "../train_1_a_1.nii.gz", "train_1_a_1.nii.gz/..", "x"])
def test_other_names(written: str) -> None:
    with pytest.raises(DatasetError, match="no name of CT-RATE"):
        volume_name(written)


@pytest.mark.real
def test_the_real_tables(real_data: Path) -> None:
    folder = real_data / "text" / "ct_rate"
    reading = reading_of("ct-rate", folder / "reports_with_labels.csv")
    assert reading.skipped == {}
    assert len(reading.exchanges) == 60 * (1 + len(LABELS))
    yes = sum(one.answer == "Yes" for one in reading.exchanges)
    assert yes == 245
    rescales = read_rescales(folder / "metadata.csv")
    assert len(rescales) == 30
    assert {rescale.intercept for rescale in rescales.values()} == {-1024, -8192}
