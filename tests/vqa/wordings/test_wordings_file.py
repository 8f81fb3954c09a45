"""A file of wordings: read as it was written, and every line that cannot be used is named."""

import json
from pathlib import Path

import pytest

from voxmoe.errors import DatasetError
from voxmoe.files import sha256
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Wording
from voxmoe.vqa.wordings.file import Entry, open_wordings, read_wordings, wordings_from, write_wordings
from voxmoe.vqa.wordings.grammar import GRAMMAR

GOOD = Entry(
    kind=Kind.IN_SCOPE, tasks=(Task.VOLUME,), question="How big is {label}?", answer="The {label} takes {volume}."
)


def entries(count: int) -> list[Entry]:
    """So many wordings of every type, from the grammar."""
    found = []
    for kind, tasks in QUESTION_TYPES:
        for number in range(count):
            wording = GRAMMAR.bank(kind, tasks).wording(number, number)
            found.append(
                Entry(kind=kind, tasks=tasks, question=wording.question, answer=wording.answer, topic=wording.topic)
            )
    return found


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wordings.jsonl"
    source = write_wordings(path, entries(3))
    wordings = read_wordings(path)
    assert wordings.source == source == f"sha256:{sha256(path)}"
    for kind, tasks in QUESTION_TYPES:
        bank = wordings.bank(kind, tasks)
        assert (bank.questions, bank.answers) == (3, 1)
        for number in range(3):
            told = GRAMMAR.bank(kind, tasks).wording(number, number)
            assert bank.wording(number, 0) == Wording(told.question, told.answer, told.answer, told.topic)
        for question, answer in ((3, 0), (-1, 0), (0, 1)):
            with pytest.raises(IndexError):
                bank.wording(question, answer)


def test_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    line = {"kind": "out-of-scope", "tasks": [], "question": "Why {label}?", "answer": "Weiß nicht."}
    path.write_text(json.dumps(line, ensure_ascii=False))
    assert read_wordings(path).bank(Kind.OUT_OF_SCOPE, ()).wording(0, 0).answer == "Weiß nicht."


def test_a_type_that_is_missing(tmp_path: Path) -> None:
    write_wordings(tmp_path / "w.jsonl", [GOOD])
    with pytest.raises(DatasetError, match=r"w\.jsonl: has no wording of partially-out-of-scope volume\+region"):
        read_wordings(tmp_path / "w.jsonl").bank(Kind.PARTIAL, (Task.VOLUME, Task.REGION))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": "How big is it?"}, "the question's placeholders are not {label} alone"),
        ({"question": "Is {label} {volume}?"}, "the question's placeholders are not {label} alone"),
        ({"answer": "It takes {volume}."}, "the answer does not name {label}"),
        ({"answer": "{label} takes {volume} or {volume}."}, "not those of its tasks, once each"),
        ({"tasks": ["volume", "shape"]}, "not those of its tasks, once each"),
        (
            {"tasks": ["shape", "volume"], "answer": "{label} {volume} {shape}"},
            "no question type in-scope shape+volume",
        ),
        ({"kind": "out-of-scope"}, "no question type out-of-scope volume"),
        ({"kind": "in-range"}, "kind: Input should be"),
        ({"answer": None}, "answer: Input should be"),
        ({"more": 1}, "more: Extra inputs"),
        ({"question": ""}, "empty"),
        ({"question": "How {big is {label}?"}, "braces that do not match"),
    ],
)
def test_lines_that_cannot_be_used(change: dict, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    good = GOOD.model_dump(mode="json", exclude_none=True)
    path.write_text(f"{json.dumps(good)}\n{json.dumps({**good, 'question': 'What of {label}?', **change})}\n")
    with pytest.raises(DatasetError) as told:
        read_wordings(path)
    assert str(told.value).startswith(f"{path}, line 2: ")
    assert reason in str(told.value)


def test_the_same_question_twice(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    write_wordings(path, [GOOD, GOOD.model_copy(update={"question": "how big  is {label}"})])
    with pytest.raises(DatasetError, match="line 2: asks the same as line 1"):
        read_wordings(path)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read as a file of wordings"):
        read_wordings(tmp_path / "none.jsonl")
    (tmp_path / "w.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(DatasetError, match="cannot be read as a file of wordings"):
        read_wordings(tmp_path / "w.jsonl")
    (tmp_path / "w.jsonl").write_text("{")
    with pytest.raises(DatasetError, match="line 1: not a wording"):
        read_wordings(tmp_path / "w.jsonl")


def test_which_source_a_path_stands_for(tmp_path: Path) -> None:
    assert open_wordings(None) is GRAMMAR
    assert wordings_from(None, GRAMMAR.source) is GRAMMAR
    path = tmp_path / "w.jsonl"
    source = write_wordings(path, [GOOD])
    assert wordings_from(path, source).source == source
    with pytest.raises(DatasetError, match=f"is {source} here, not sha256:0 as where the build began"):
        wordings_from(path, "sha256:0")
