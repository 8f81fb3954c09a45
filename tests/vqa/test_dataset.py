"""A cohort becomes a dataset: the same bytes each time, split by patient, broken studies listed and left out."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmoe.errors import DatasetError, StudyError
from voxmoe.files import sha256
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.spaces import MNI152
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import Kind, Modality, Task
from voxmoe.vqa.dataset import SPLITS, Dataset, build_dataset, open_dataset, split_patients
from voxmoe.vqa.encoding import encode
from voxmoe.vqa.findings import to_json
from voxmoe.vqa.measure import measure
from voxmoe.vqa.protocol import PAPER_V2
from voxmoe.vqa.wordings import Bank

STUDIES = [f"BraTS-GLI-0000{patient}-{visit}" for patient, visit in ((1, 100), (1, 101), (2, 100), (3, 100), (4, 100))]
NAMES = {label.key: label.name for label in profile_named("gli").labels}


def write_study(cohort: Path, study: str, seed: int = 0) -> Path:
    """A nearly empty study in MNI152: a block of brain, with labels 1 to 3 in it."""
    generator = np.random.default_rng(seed)
    folder = cohort / study
    brain, mask = (np.zeros(MNI152.shape, np.uint8) for _ in range(2))
    brain[60:120, 80:140, 60:120] = 200
    for value in (1, 2, 3):
        x, y, z = generator.integers((60, 80, 60), (100, 120, 100))
        mask[x : x + 4 * value, y : y + 6, z : z + 8] = value
    for suffix, data in (("t1n", brain), ("seg", mask)):
        write_volume(Volume(data, MNI152.affine, axes="LAS"), folder / f"{study}-{suffix}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good studies of four patients and three that cannot be used."""
    cohort = tmp_path_factory.mktemp("cohort")
    for seed, study in enumerate(STUDIES):
        write_study(cohort, study, seed)
    truncated = write_study(cohort, "BraTS-GLI-00007-100") / "BraTS-GLI-00007-100-seg.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:500])
    (write_study(cohort, "BraTS-GLI-00008-100") / "BraTS-GLI-00008-100-seg.nii.gz").unlink()
    other = write_study(cohort, "BraTS-GLI-00009-100") / "BraTS-GLI-00009-100-seg.nii.gz"
    write_volume(Volume(np.full(MNI152.shape, 9, np.uint8), MNI152.affine), other)
    return cohort


@pytest.fixture(scope="module")
def built(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("built") / "dataset"
    report = build_dataset(cohort, out, PAPER_V2)
    assert report.studies == 5
    assert sum(report.questions.values()) == 5 * 4 * 6
    assert sorted(report.skipped) == ["BraTS-GLI-00007-100", "BraTS-GLI-00008-100", "BraTS-GLI-00009-100"]
    return open_dataset(out)


def all_rows(dataset: Dataset) -> list[dict]:
    return [row for split in SPLITS for row in dataset.rows(split)]


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_six_questions_a_label_and_study(built: Dataset) -> None:
    rows = all_rows(built)
    assert len({row["id"] for row in rows}) == len(rows) == 120
    for study in STUDIES:
        own = [row for row in rows if row["study"] == study]
        assert [row["id"] for row in own] == [f"{study}#{number:02}" for number in range(24)]
        assert [row["label"] for row in own] == [key for key in NAMES for _ in range(6)]
        assert [row["kind"] for row in own[:6]] == [*[Kind.IN_SCOPE] * 4, Kind.PARTIAL, Kind.OUT_OF_SCOPE]


def test_time_points_of_a_patient_stay_together(built: Dataset) -> None:
    patients = {split: {row["patient"] for row in built.rows(split)} for split in SPLITS}
    assert sorted(map(len, patients.values())) == [1, 1, 2]
    assert set.union(*patients.values()) == {f"BraTS-GLI-0000{patient}" for patient in (1, 2, 3, 4)}
    assert {row["patient"] for row in all_rows(built) if row["study"] in STUDIES[:2]} == {"BraTS-GLI-00001"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_same_bytes_however_often_and_by_however_many(
    jobs: int, cohort: Path, built: Dataset, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    build_dataset(cohort, tmp_path / "again", PAPER_V2, jobs=jobs, progress=lambda *step: done.append(step))
    assert done == [(number, 8) for number in range(9)]
    assert content(tmp_path / "again") == content(built.root)
    assert set(content(built.root)) == {
        *(f"data/{split}.parquet" for split in SPLITS),
        "manifest.json",
        "meta/skipped.json",
        "meta/studies.json",
    }


def test_another_seed_asks_other_questions(cohort: Path, built: Dataset, tmp_path: Path) -> None:
    build_dataset(cohort, tmp_path, PAPER_V2, seed=1)
    other = {row["id"]: row["question"] for row in all_rows(open_dataset(tmp_path))}
    same = [row["id"] for row in all_rows(built) if other[row["id"]] == row["question"]]
    assert len(same) < 5


def test_broken_studies_are_listed_with_their_reasons(built: Dataset) -> None:
    skipped = json.loads((built.root / "meta" / "skipped.json").read_text())
    assert "broken gzip stream" in skipped["BraTS-GLI-00007-100"]
    assert skipped["BraTS-GLI-00008-100"] == "BraTS-GLI-00008-100: has no mask"
    assert "label value 9 is not in profile gli-2024" in skipped["BraTS-GLI-00009-100"]
    assert not {row["study"] for row in all_rows(built)} & set(skipped)


def test_datasets_reads_it(built: Dataset, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(built.root), cache_dir=str(tmp_path))
    assert set(loaded) == set(SPLITS)
    for split in SPLITS:
        assert loaded[split].to_list() == built.rows(split)


def test_every_row_is_rebuilt_from_its_draw(built: Dataset) -> None:
    for row in all_rows(built):
        tasks = tuple(Task(task) for task in row["tasks"])
        wording = Bank(Kind(row["kind"]), tasks).wording(row["draw"]["question"], row["draw"]["answer"])
        terms = {"label": NAMES[row["label"]], **{task: row[task] for task in ("volume", "shape", "spread")}}
        *most, last = row["region"] or [""]
        terms["regions"] = f"{', '.join(most)} and {last}" if most else last
        assert row["question"] == wording.question.format(**terms)
        assert row["answer"] == wording.answer.format(**terms)
        assert (row["topic"], row["label_name"]) == (wording.topic, NAMES[row["label"]])
        assert row["draw"]["seed"] == 0


def test_answers_and_targets_say_the_same(built: Dataset) -> None:
    found = {record["study"]: record for record in json.loads((built.root / "meta" / "studies.json").read_text())}
    for row in all_rows(built):
        label = found[row["study"]]["findings"]["labels"][row["label"]]
        answers = {}
        for task in row["tasks"]:
            answers[Task(task)] = row[task] if task == "region" else [row[task]]
            if task != "region":
                assert row[task] == label[task]["category"]
            elif label["present"]:
                assert row["region"] == (label["regions"] or ["no labelled region"])
        assert row["targets"] == encode(Kind(row["kind"]), answers)
        assert all(row[task] == "not asked" for task in ("volume", "shape", "spread") if task not in row["tasks"])
        if row["label"] == "RC":
            assert {row[task] if task != "region" else row[task][0] for task in row["tasks"]} <= {"N/A"}


def test_findings_are_those_of_the_study_alone(built: Dataset, cohort: Path) -> None:
    for record in json.loads((built.root / "meta" / "studies.json").read_text()):
        assert record["findings"] == json.loads(json.dumps(to_json(measure(cohort / record["study"]))))


def test_rows_lead_to_their_files(built: Dataset, cohort: Path) -> None:
    records = {record["study"]: record for record in json.loads((built.root / "meta" / "studies.json").read_text())}
    for row in built.rows("train"):
        files = built.study_files(row)
        assert (files.id, files.patient) == (row["study"], row["patient"])
        assert files.images == {Modality.T1: cohort.resolve() / row["study"] / f"{row['study']}-t1n.nii.gz"}
        assert files.mask is not None
        assert sha256(files.mask) == records[row["study"]]["sha256"]["mask"]
        assert records[row["study"]]["split"] == "train"


def test_the_manifest(built: Dataset) -> None:
    manifest = built.manifest
    assert (manifest["studies"], manifest["skipped"], manifest["seed"]) == (5, 3, 0)
    assert (manifest["profiles"], manifest["atlas"]) == (["gli-2024"], ["desikan-killiany"])
    assert manifest["protocol"] == PAPER_V2.model_dump()
    assert manifest["questions"] == {split: len(built.rows(split)) for split in SPLITS}
    assert built.label_values == {"NETC": [1], "SNFH": [2], "ET": [3], "RC": [4]}


def test_nothing_usable_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        (
            write_study(tmp_path / "in", f"BraTS-GLI-0000{number}-100") / f"BraTS-GLI-0000{number}-100-seg.nii.gz"
        ).unlink()
    with pytest.raises(DatasetError, match=r"none of 2 studies can be used; the first, BraTS-GLI-00001-100: .*no mask"):
        build_dataset(tmp_path / "in", tmp_path / "out", PAPER_V2)
    assert not (tmp_path / "out").exists()


def test_a_cohort_without_studies(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study found"):
        build_dataset(tmp_path, tmp_path / "out", PAPER_V2)


def test_a_single_study_is_all_training(tmp_path: Path) -> None:
    write_study(tmp_path / "in", STUDIES[0])
    report = build_dataset(tmp_path / "in", tmp_path / "out", PAPER_V2, profile="goat")
    assert report.questions == {"train": 18, "validation": 0, "test": 0}
    assert open_dataset(tmp_path / "out").rows("test") == []


def test_an_unfinished_dataset(built: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no finished dataset here; make one with voxmoe build COHORT"):
        open_dataset(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(built.manifest))
    with pytest.raises(DatasetError, match=r"data/train\.parquet is missing; build the dataset again"):
        open_dataset(tmp_path)


def test_mixed_profiles_have_no_common_values(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="mixes the profiles gli-2024, met-2024; build one dataset for each"):
        _ = Dataset(tmp_path, {"profiles": ["gli-2024", "met-2024"]}).label_values


@given(st.lists(st.text("ABCD", max_size=4), min_size=1, max_size=300), st.integers(0, 99))
def test_splits_take_a_tenth_of_the_patients_each(patients: list[str], seed: int) -> None:
    splits = split_patients(patients, seed)
    count = len(set(patients))
    assert splits.keys() == set(patients)
    assert splits == split_patients(sorted(patients, reverse=True), seed)
    held_out = max(1, round(count / 10))
    sizes = [list(splits.values()).count(split) for split in SPLITS]
    expected = {1: [1, 0, 0], 2: [1, 0, 1]}.get(count, [count - 2 * held_out, held_out, held_out])
    assert sizes == expected


def test_the_seed_decides_the_split() -> None:
    patients = [f"p{number}" for number in range(100)]
    assert split_patients(patients, 0) != split_patients(patients, 1)


def test_a_split_without_patients_has_no_file_and_no_rows(tmp_path: Path) -> None:
    from datasets import load_dataset

    write_study(tmp_path / "cohort", "BraTS-GLI-00001-100")
    report = build_dataset(tmp_path / "cohort", tmp_path / "out", PAPER_V2)
    assert report.questions == {"train": 24, "validation": 0, "test": 0}
    assert open_dataset(tmp_path / "out").rows("test") == []
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {"train": 24}
