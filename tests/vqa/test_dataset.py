"""A cohort becomes a dataset: the same bytes each time, split by patient, broken studies listed and left out."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmoe.errors import DatasetError, JobsError, StudyError
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
from voxmoe.vqa.sampling import draw_questions, rebuild
from voxmoe.vqa.type_weights import PAPER, TypeWeights
from voxmoe.vqa.wordings.bank import QUESTION_TYPES
from voxmoe.vqa.wordings.file import Entry, write_wordings
from voxmoe.vqa.wordings.grammar import GRAMMAR

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


def check_rebuilt(dataset: Dataset) -> None:
    """Every row's texts, bit for bit, from its record; and the draws themselves from the seed."""
    findings, wordings = dataset.findings, dataset.wordings
    weights = TypeWeights.model_validate(dataset.manifest["type_weights"])
    profile = profile_named(dataset.manifest["profiles"][0])
    for row in all_rows(dataset):
        question = rebuild(row, findings[row["study"]], wordings)
        assert (question.text, question.answer, question.topic) == (row["question"], row["answer"], row["topic"])
        assert row["label_name"] == NAMES[row["label"]]
        assert row["draw"]["seed"] == dataset.manifest["seed"]
        assert row["draw"]["source"] == dataset.manifest["wordings"]
        draws = list(draw_questions(row["study"], profile, row["draw"]["seed"], wordings, weights))
        assert question.draw == draws[int(row["id"].split("#")[1])]


def test_every_row_is_rebuilt_from_its_record(built: Dataset) -> None:
    check_rebuilt(built)
    assert built.wordings is GRAMMAR
    assert built.manifest["wordings"] == GRAMMAR.source


def test_a_row_of_another_source_is_not_rebuilt(built: Dataset) -> None:
    row = all_rows(built)[0]
    other = {**row, "draw": {**row["draw"], "source": "grammar:0"}}
    with pytest.raises(DatasetError, match=f"{row['id']}: was drawn from grammar:0, not from {GRAMMAR.source}"):
        rebuild(other, built.findings[row["study"]])


def write_bank(path: Path, count: int, leave_out: int = 0) -> str:
    """A file of wordings with so many of every type, but for the last ones."""
    entries = [
        Entry(kind=kind, tasks=tasks, question=wording.question, answer=wording.answer)
        for kind, tasks in QUESTION_TYPES[: len(QUESTION_TYPES) - leave_out]
        for wording in (GRAMMAR.bank(kind, tasks).wording(number, number) for number in range(1, count + 1))
    ]
    return write_wordings(path, entries)


def test_a_file_of_wordings_in_place_of_the_grammar(cohort: Path, built: Dataset, tmp_path: Path) -> None:
    bank = tmp_path / "bank.jsonl"
    source = write_bank(bank, 6)
    build_dataset(cohort, tmp_path / "out", PAPER_V2, wordings=bank, type_weights=PAPER)
    opened = open_dataset(tmp_path / "out")
    assert opened.manifest["wordings"] == source
    assert TypeWeights.model_validate(opened.manifest["type_weights"]) == PAPER
    first = content(opened.root)
    assert (opened.root / "meta" / "wordings.jsonl").read_bytes() == bank.read_bytes()
    bank.unlink()
    check_rebuilt(opened)
    assert all(row["topic"] is None for row in all_rows(opened))
    for study in STUDIES:
        own = [row for row in all_rows(opened) if row["study"] == study]
        assert len({row["question"] for row in own}) == 24
    build_dataset(cohort, tmp_path / "out", PAPER_V2)
    assert content(tmp_path / "out") == content(built.root), "nothing is left of the file"
    write_bank(bank, 6)
    build_dataset(cohort, tmp_path / "out", PAPER_V2, wordings=bank, type_weights=PAPER, jobs=2)
    assert content(tmp_path / "out") == first


def test_a_file_with_too_few_wordings(cohort: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.jsonl"
    write_bank(bank, 3)
    with pytest.raises(DatasetError, match="3 wordings of in-scope volume, but a study of 4 labels may need 4"):
        build_dataset(cohort, tmp_path / "out", PAPER_V2, wordings=bank)
    write_bank(bank, 4, leave_out=1)
    with pytest.raises(DatasetError, match=r"bank\.jsonl: has no wording of out-of-scope"):
        build_dataset(cohort, tmp_path / "out", PAPER_V2, wordings=bank)
    assert not (tmp_path / "out").exists()


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


def test_a_cohort_that_was_moved_is_found_where_it_is_said_to_be(
    built: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = built.images_root
    monkeypatch.setenv("VOXMOE_IMAGES", str(tmp_path))
    assert built.images_root == there, "it was not moved"
    moved = Dataset(built.root, {**built.manifest, "images": str(tmp_path / "gone")})
    assert moved.images_root == tmp_path
    files = moved.study_files(moved.rows("train")[0])
    assert files.mask is not None
    assert files.mask.is_relative_to(tmp_path)
    monkeypatch.delenv("VOXMOE_IMAGES")
    assert moved.images_root == tmp_path / "gone"


def test_the_manifest(built: Dataset) -> None:
    manifest = built.manifest
    assert (manifest["studies"], manifest["skipped"], manifest["seed"]) == (5, 3, 0)
    assert (manifest["profiles"], manifest["atlas"]) == (["gli-2024"], ["desikan-killiany"])
    assert manifest["protocol"] == PAPER_V2.model_dump()
    assert (manifest["wordings"], manifest["type_weights"]["name"]) == (GRAMMAR.source, "uniform")
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


def test_only_what_a_build_wrote_is_built_over(cohort: Path, tmp_path: Path) -> None:
    foreign = {
        "manifest.json": ('{"kind": "ct"}', "holds a dataset of another kind; choose another folder"),
        "README.md": ("# Mine", r"holds README\.md that is of no build"),
        "data/train.parquet": ("mine", r"holds data/train\.parquet that is of no build"),
        "work/package.json": ("{}", r"package\.json: is of no build, and a build would remove it"),
    }
    for number, (name, (text, said)) in enumerate(foreign.items()):
        file = tmp_path / str(number) / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        with pytest.raises(DatasetError, match=said):
            build_dataset(cohort, tmp_path / str(number), PAPER_V2)
        assert [path for path in (tmp_path / str(number)).rglob("*") if path.is_file()] == [file]
        assert file.read_text() == text
    with pytest.raises(DatasetError, match="is the cohort itself; choose another folder"):
        build_dataset(cohort, cohort / ".." / cohort.name, PAPER_V2)


def test_a_damaged_split_is_named(built: Dataset, tmp_path: Path) -> None:
    copy = open_dataset(shutil.copytree(built.root, tmp_path / "copy"))
    file = copy.root / "data" / "train.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:-20], whole[:100] + bytes(len(whole) - 200) + whole[-100:], b""):
        file.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"train\.parquet: not a whole Parquet file .*; build the dataset again"):
            copy.rows("train")


def test_no_jobs_are_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(JobsError, match="jobs are 1 or more processes, or -1 for one a core"):
        build_dataset(cohort, tmp_path / "out", PAPER_V2, jobs=0)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"questions":', "is damaged"), ("[]", "is of no dataset"), ('{"steps": 4}', "is of no dataset")],
)
def test_what_is_no_dataset_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=rf"manifest\.json.* {said}"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"manifest\.json: no finished dataset here"):
        open_dataset(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(DatasetError, match=r"manifest\.json: cannot be read"):
        open_dataset(tmp_path)
