"""Own data from CSV and JSONL; every problem of a file is named with its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from published import reading_of, table

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import REPORT_PROMPT
from voxmoe.vqa.ct.formats.own import validate

REPORT = {"image": "a.nii.gz", "patient": "p1", "task": "report", "answer": "No nodule."}
CLOSED = REPORT | {"task": "closed", "question": "Which side?", "choices": ["right", "left"], "answer": "left"}
OPEN = REPORT | {"task": "open", "question": "Which side?", "answer": "left"}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    numbers = {"slice": 3, "slope": 1, "intercept": -1024, "id": "x", "kind": "side", "split": "test"}
    shared = {name: numbers[name] for name in ("split", "slope", "intercept")}
    jsonl = lines(tmp_path / "own.jsonl", [REPORT | shared, CLOSED | numbers])
    empty = dict.fromkeys(("question", "choice_a", "choice_b", "choice_c", *numbers), "")
    choices = {"choice_a": "right", "choice_b": "left"}
    closed = {key: str(value) for key, value in (CLOSED | numbers).items() if key != "choices"}
    rows = [
        REPORT | empty | {name: str(value) for name, value in shared.items()},
        {**REPORT, **empty, **closed, **choices},
    ]
    written = table(tmp_path / "own.csv", rows)
    first, second = (reading_of("own", path) for path in (jsonl, written))
    report, asked = second.exchanges
    assert (report.question, report.kind, report.task) == (REPORT_PROMPT, "report", CTTask.REPORT)
    assert (asked.id, asked.kind, asked.slice, asked.rescale) == ("x", "side", 3, (1.0, -1024.0))
    assert asked.target == "B. left"
    assert first.exchanges[1] == asked
    assert first.splits == second.splits == {"a.nii.gz": "test"}
    assert validate(jsonl).problems == validate(written).problems == ()


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    rows = [
        REPORT | {"id": "x"},
        {"image": "gone.nii.gz", "patient": "", "task": "say", "answer": 3},
        CLOSED | {"answer": "both", "slice": -1, "slope": 2},
        OPEN | {"question": "", "choices": ["a", "b"], "split": "dev", "colour": "red"},
        CLOSED | {"choices": ["left"], "slice": "three", "image": "../a.nii.gz"},
        REPORT | {"id": "x", "patient": "p2"},
        REPORT | {"split": "train", "slope": 0, "intercept": 1},
        CLOSED | {"choices": ["left", "left"]},
        CLOSED | {"choices": "left"},
        CLOSED | {"choices": ["left", " "]},
    ]
    path = lines(tmp_path / "own.jsonl", rows)
    path.write_text(path.read_text() + "{\n[1]\n")
    found = validate(path, tmp_path)
    assert found.rows == 12
    told = [problem.removeprefix("own.jsonl:") for problem in found.problems]
    expected = {
        2: (
            "patient: is missing or empty",
            "answer: is 3; text is needed",
            "task: is 'say'",
            "image: gone.nii.gz: no such",
        ),
        3: ("answer: 'both' is none of", "slice: is -1; a whole number", "slope, intercept: one is given without"),
        4: ("colour: no such column", "question: is missing", "split: is 'dev'", "choices: 2 are given; only closed"),
        5: ("choices: 1 are given; 2 to 8", "slice: is 'three'; a number", "image: ../a.nii.gz: leaves"),
        6: ("id: x is the id of own.jsonl:1 too", "patient: is p2 for a.nii.gz, and p1 in own.jsonl:1"),
        7: ("slope: is 0", "split: is train for p1, and empty in own.jsonl:1"),
        8: ("choices: ['left', 'left'] do not all differ",),
        9: ("choices: are 'left'; a list of texts",),
        10: ("choices: B is empty",),
        11: ("no JSON",),
        12: ("is no JSON object",),
    }
    for line, parts in expected.items():
        own = [problem for problem in told if problem.startswith(f"{line}: ")]
        for part in parts:
            assert any(part in problem for problem in own), (line, part, own)
    counts = [sum(problem.startswith(f"{line}: ") for problem in told) for line in range(1, 8)]
    assert counts == [0, 4, 3, 5, 3, 2, 2]
    reading = reading_of("own", path, images=tmp_path)
    assert list(reading.skipped) == [f"own.jsonl:{line}" for line in (2, 3, 4, 5, 7, 8, 9, 10, 11, 12)]


def test_rows_that_rescale_one_image_differently_are_named(tmp_path: Path) -> None:
    stored = REPORT | {"slope": 1, "intercept": -1024}
    rows = [stored, stored | {"slope": "1.0"}, REPORT, stored | {"slope": 2}, stored | {"intercept": ""}]
    assert validate(lines(tmp_path / "own.jsonl", [*rows, REPORT | {"image": "b.nii.gz"}])).problems == (
        "own.jsonl:3: slope, intercept: are empty for a.nii.gz, and 1 and -1024 in own.jsonl:1",
        "own.jsonl:4: slope, intercept: are 2 and -1024 for a.nii.gz, and 1 and -1024 in own.jsonl:1",
        "own.jsonl:5: slope, intercept: one is given without the other",
    )


def test_rows_of_another_length_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text('image,patient,task,answer\na.nii.gz,p1,report,"two\nlines"\na.nii.gz,p1,report,fine, so far\n')
    assert validate(path).problems == ("own.csv:4: has 5 cells under 4 columns",)
    assert reading_of("own", path).exchanges[0].answer == "two\nlines"


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_feeds_end_a_line(separator: str, tmp_path: Path) -> None:
    said = f"A nodule.{separator}No effusion."
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(REPORT | {"answer": said}, ensure_ascii=separator in "\x0b\x1c") + "\r\n")
    written = table(tmp_path / "own.csv", [REPORT | {"answer": said}, REPORT | {"answer": "Other."}])
    assert [one.answer for one in reading_of("own", path).exchanges] == [said]
    assert [one.answer for one in reading_of("own", written).exchanges] == [said, "Other."]
    assert validate(written).problems == ()


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", [REPORT | {"image": "a" * 300}, REPORT | {"image": "a\0"}])
    long, null = validate(path, tmp_path).problems
    assert "no such file" in long
    assert "names no file" in null
    assert validate(lines(path, [OPEN | {"slice": 1e12}])).problems[0].endswith("from 0 to 99999 is needed")


def test_a_single_dicom_file_is_no_series(tmp_path: Path) -> None:
    """The audit hashes the file or folder that is named: two files of one series would pass for two scans."""
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    path = lines(tmp_path / "own.jsonl", [REPORT | {"image": "ct"}, REPORT | {"image": "ct/1.dcm"}])
    assert validate(path, tmp_path).problems == (
        "own.jsonl:2: image: ct/1.dcm: is a single DICOM file; name the folder of its series, one that holds no other",
    )
    assert list(reading_of("own", path, images=tmp_path).skipped) == ["own.jsonl:2"]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("image,patient,task\n")
    with pytest.raises(DatasetError, match=r"own\.csv: lacks answer; its columns are image, patient, task; needed are"):
        validate(tmp_path / "own.csv")
    (tmp_path / "own.jsonl").write_text("\n")
    assert validate(tmp_path / "own.jsonl").problems == ("own.jsonl: holds no row",)
    with pytest.raises(DatasetError, match=r"own\.xlsx: own data is a \.csv or a \.jsonl file"):
        validate(tmp_path / "own.xlsx")
    with pytest.raises(DatasetError, match=r"gone\.csv: no such file"):
        validate(tmp_path / "gone.csv")
    (tmp_path / "own.csv").write_bytes("image,ä".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"own\.csv: is not UTF-8 text"):
        validate(tmp_path / "own.csv")
    (tmp_path / "own.csv").write_text('image,patient,task,answer\na,b,report,"x" y\n')
    with pytest.raises(DatasetError, match=r"own\.csv:2: no CSV"):
        validate(tmp_path / "own.csv")
