"""A reading out and back: blind sheets, every way to fill them in badly, Tables 9 to 11."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from voxmoe.errors import DatasetError, ResultsError, SheetError
from voxmoe.evaluation.baselines import majority_class
from voxmoe.evaluation.predictions import prediction_rows, write_predictions
from voxmoe.evaluation.readers import DATASET, score
from voxmoe.evaluation.reading_sheet import answers_of, export
from voxmoe.vocabulary import CLASSES, REGIONS, Task
from voxmoe.vqa.dataset import Dataset, open_dataset

Lines = list[dict[str, str]]


@pytest.fixture(scope="module")
def opened(dataset: Path) -> Dataset:
    return open_dataset(dataset)


@pytest.fixture(scope="module")
def written(opened: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of two models that write, and one that does not."""
    rows = opened.rows("train")
    said = majority_class(rows, len(rows))
    seen: list[list[str]] = [[] for _ in rows]
    texts = [row["answer"] for row in rows]
    path = tmp_path_factory.mktemp("written") / "predictions.parquet"
    lines = prediction_rows("mpLLM", rows, seen, said)
    lines += prediction_rows("mpLLM (text)", rows, seen, said, texts=texts)
    lines += prediction_rows("M3D (text)", rows, seen, said, texts=["N/A"] * len(rows))
    write_predictions(path, lines)
    return path


@pytest.fixture
def sheets(opened: Dataset, written: Path, tmp_path: Path) -> Path:
    export(opened, tmp_path / "reading", studies=2, split="train", predictions=written)
    return tmp_path / "reading"


def read(path: Path) -> Lines:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(path: Path, change: Callable[[Lines], Lines], encoding: str = "utf-8", delimiter: str = ",") -> None:
    lines = change(read(path))
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)


def truthfully(opened: Dataset) -> Callable[[Lines], Lines]:
    """The dataset's own answers."""
    answers = answers_of(opened.rows("train"))

    def fill_in(lines: Lines) -> Lines:
        return [
            {**line, "answer": "; ".join(answers[line["study"], line["label"], Task(line["task"])])} for line in lines
        ]

    return fill_in


def test_the_sheets_ask_everything_and_tell_nothing(sheets: Path, opened: Dataset) -> None:
    lines = read(sheets / "reading.csv")
    assert len(lines) == 2 * 4 * 4
    assert {line["answer"] for line in lines} == {""}
    assert lines[0]["allowed"].startswith("N/A | <1% | 1-5%")
    questions = read(sheets / "questions.csv")
    assert len(questions) == 2 * 4 * 4
    assert {line["valid"] + line["sufficient_A"] + line["sufficient_B"] for line in questions} == {""}
    manifest = json.loads((sheets / "manifest.json").read_text())
    assert set(manifest["responses"].values()) == {"mpLLM (text)", "M3D (text)"}
    letter = next(letter for letter, method in manifest["responses"].items() if method == "mpLLM (text)")
    answers = {row["id"]: row["answer"] for row in opened.rows("train")}
    assert all(line[f"response_{letter}"] == answers[line["id"]] for line in questions)
    instructions = (sheets / "INSTRUCTIONS.md").read_text()
    assert "`core with satellite lesions`" in instructions
    assert "sufficient_A" in instructions
    assert "mpLLM" not in instructions


def test_a_seed_draws_the_same_studies(opened: Dataset, tmp_path: Path) -> None:
    chosen = [
        export(opened, tmp_path / str(number), studies=1, split="train", seed=seed)["studies"]
        for number, seed in enumerate((3, 3, 4, 5, 6, 7))
    ]
    assert chosen[0] == chosen[1]
    assert len({tuple(names) for names in chosen}) == 2


def test_a_sheet_is_never_written_over(sheets: Path, opened: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SheetError, match="is there already"):
        export(opened, sheets, studies=2, split="train")
    with pytest.raises(DatasetError, match="has 2 studies, not 10; ask for fewer"):
        export(opened, tmp_path / "ten", split="train")
    with pytest.raises(ResultsError, match="no such file"):
        export(opened, tmp_path / "none", studies=2, split="train", predictions=tmp_path / "none.parquet")


def test_a_reader_who_agrees_with_everything(sheets: Path, opened: Dataset, written: Path) -> None:
    fill(sheets / "reading.csv", truthfully(opened))
    found = score(sheets, opened, written)
    agreement = found["agreement"]
    assert all(one["agreement"] == pytest.approx(100) for one in agreement.values())
    assert all(one["kappa"] in (None, pytest.approx(100)) for one in agreement.values())
    assert found["accuracy"][DATASET]["mean"]["value"] == pytest.approx(100)
    assert found["quality"] is None
    assert found["paper"]["kappa"]["mean"] == 50.4
    assert json.loads(json.dumps(found, allow_nan=False))


def test_agreement_and_accuracy_against_scikit_learn(sheets: Path, opened: Dataset, written: Path) -> None:
    """A reader who answers at random."""
    generator = np.random.default_rng(0)

    def guess(lines: Lines) -> Lines:
        return [{**line, "answer": str(generator.choice(line["allowed"].split(" | ")))} for line in lines]

    fill(sheets / "reading.csv", guess)
    found = score(sheets, opened, written)
    answers = answers_of(opened.rows("train"))
    read_back = {
        (line["study"], line["label"], Task(line["task"])): line["answer"] for line in read(sheets / "reading.csv")
    }
    kappas = []
    for task in Task:
        keys = [key for key in read_back if key[2] is task]
        if task is Task.REGION:
            pairs = [
                ([region == read_back[key] for key in keys], [region in answers[key] for key in keys])
                for region in REGIONS
            ]
            expected = np.mean([cohen_kappa_score(*pair) for pair in pairs if len({*pair[0], *pair[1]}) > 1])
        else:
            expected = cohen_kappa_score([read_back[key] for key in keys], [answers[key][0] for key in keys])
        kappas.append(100 * expected)
        assert found["agreement"][task]["kappa"] == pytest.approx(kappas[-1])
        assert found["agreement"][task]["readings"] == 8
    assert found["agreement"]["mean"]["kappa"] == pytest.approx(np.mean(kappas))
    rows = opened.rows("train")
    said = majority_class(rows, len(rows))
    right = [
        read_back[row["study"], row["label"], Task.SHAPE] == CLASSES[Task.SHAPE][said.classes[Task.SHAPE][place]]
        for place, row in enumerate(rows)
        if "shape" in row["tasks"]
    ]
    assert found["accuracy"]["mpLLM"]["shape"]["value"] == pytest.approx(100 * np.mean(right))


def test_judgements(sheets: Path, opened: Dataset) -> None:
    fill(sheets / "reading.csv", truthfully(opened))

    def judge(lines: Lines) -> Lines:
        judged = []
        for number, line in enumerate(lines):
            valid = number % 4 != 0
            marks = {"sufficient_A": str(number % 2), "sufficient_B": "1"} if valid else {}
            judged.append({**line, "valid": str(int(valid)), **marks})
        return judged

    fill(sheets / "questions.csv", judge)
    quality = score(sheets, opened)["quality"]
    assert quality["validity"] == {"of": 32, "percent": 75}
    responses = json.loads((sheets / "manifest.json").read_text())["responses"]
    assert quality["sufficiency"][responses["A"]] == {"of": 24, "percent": pytest.approx(200 / 3)}
    assert quality["sufficiency"][responses["B"]] == {"of": 24, "percent": 100}


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-8-sig", ";"), ("utf-8", "\t"), ("utf-8-sig", ",")])
def test_sheets_as_spreadsheets_save_them(sheets: Path, opened: Dataset, encoding: str, delimiter: str) -> None:
    def otherwise(lines: Lines) -> Lines:
        return [{**line, "answer": f" {line['answer'].upper().replace('-', ' – ')} "} for line in lines]

    fill(sheets / "reading.csv", truthfully(opened))
    fill(sheets / "reading.csv", otherwise, encoding, delimiter)
    assert score(sheets, opened)["agreement"]["mean"]["agreement"] == pytest.approx(100)


def put(number: int, **cells: str) -> Callable[[Lines], Lines]:
    return lambda lines: [{**line, **cells} if place == number else line for place, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(0, answer="huge"), r"line 2 \(.*, NETC, volume\): 'huge' is no volume; there are N/A, <1%"),
        (put(1, answer="frontal; moon"), r"line 3 \(.*, NETC, region\): 'moon' is no region"),
        (put(1, answer="frontal; frontal"), r"line 3 .*names a region twice"),
        (put(1, answer="frontal and N/A"), r"line 3 .*'N/A' stands beside regions"),
        (put(2, answer=""), r"line 4 \(.*, NETC, shape\): has no answer"),
        (put(2, answer="not asked"), r"line 4 .*'not asked' is no shape"),
        (put(5, study="BraTS-GLI-99999-100"), r"line 7 .*there is no study 'BraTS-GLI-99999-100'"),
        (put(5, label="XX"), r"line 7 .*there is no label 'XX'; there are NETC, SNFH, ET, RC"),
        (put(5, task="colour"), r"line 7 .*there is no task 'colour'"),
        (lambda lines: [*lines, lines[3]], r"line 34 \(.*, NETC, spread\): stands already in line 5"),
        (lambda lines: lines[:-1], r"the row .*, RC, spread is missing"),
        (lambda lines: [{"study": line["study"]} for line in lines], r"has no column label, task, answer"),
    ],
)
def test_a_bad_sheet_names_its_row(
    sheets: Path, opened: Dataset, change: Callable[[Lines], Lines], message: str
) -> None:
    fill(sheets / "reading.csv", truthfully(opened))
    fill(sheets / "reading.csv", change)
    with pytest.raises(SheetError, match=message):
        score(sheets, opened)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, valid="yes"), r"line 3 \(.*#\d+\): valid is 'yes'; it has to be 1 or 0"),
        (put(1, sufficient_B=""), r"line 3 .*sufficient_B is ''"),
        (put(1, id="other"), r"line 3 \(other\): there is no such question"),
        (lambda lines: [*lines, lines[0]], r"line 34 .*stands there twice"),
        (lambda lines: lines[:-1], r"the row of .*#\d+ is missing"),
    ],
)
def test_a_bad_sheet_of_questions_names_its_row(
    sheets: Path, opened: Dataset, change: Callable[[Lines], Lines], message: str
) -> None:
    fill(sheets / "reading.csv", truthfully(opened))
    fill(
        sheets / "questions.csv",
        lambda lines: [{**line, "valid": "1", "sufficient_A": "1", "sufficient_B": "0"} for line in lines],
    )
    fill(sheets / "questions.csv", change)
    with pytest.raises(SheetError, match=message):
        score(sheets, opened)


def test_what_is_no_reading_says_so(sheets: Path, opened: Dataset, tmp_path: Path, written: Path) -> None:
    with pytest.raises(SheetError, match="no reading was exported here"):
        score(tmp_path, opened)
    with pytest.raises(
        SheetError, match=r"manifest\.json: is of no reading; name the folder that voxmoe readers export"
    ):
        score(opened.root, opened)
    (tmp_path / "manifest.json").write_text('{"studies":')
    with pytest.raises(SheetError, match=r"manifest\.json: is damaged"):
        score(tmp_path, opened)
    text = (sheets / "reading.csv").read_text(encoding="utf-8-sig")
    (sheets / "reading.csv").write_bytes(text.replace("<1%", "–1%").encode("cp1252"))
    with pytest.raises(SheetError, match="not UTF-8"):
        score(sheets, opened)
    (sheets / "reading.csv").unlink()
    with pytest.raises(SheetError, match="no such sheet"):
        score(sheets, opened)
    export(opened, tmp_path / "test", studies=1, split="test")
    fill(tmp_path / "test" / "reading.csv", lambda lines: [{**line, "answer": "N/A"} for line in lines])
    with pytest.raises(SheetError, match="make them on the split that the sheet is from"):
        score(tmp_path / "test", opened, written)
    manifest = json.loads((sheets / "manifest.json").read_text())
    (sheets / "manifest.json").write_text(json.dumps({**manifest, "studies": ["elsewhere"]}))
    with pytest.raises(DatasetError, match="no study elsewhere"):
        score(sheets, opened)
