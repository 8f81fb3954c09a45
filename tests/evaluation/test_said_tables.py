"""Tables of what was said: every figure once, none invented, the same on a page."""

import math
from typing import Any

import pytest

from voxmoe.evaluation.said import evaluate_said
from voxmoe.evaluation.said_tables import details, headline, summary
from voxmoe.evaluation.tables import Table, to_markdown
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

ASKED = [
    *[
        Exchange(f"c{n}", "own", f"{n}", f"p{n}", CTTask.CLOSED, kind, "Which?", "liver", ("liver", "spleen"))
        for n, kind in enumerate(["organ", "organ", "site"])
    ],
    Exchange("o", "own", "3", "p3", CTTask.OPEN, "organ", "Which?", "the liver"),
    Exchange("r", "own", "3", "p3", CTTask.REPORT, "report", "Describe.", "No nodule is seen."),
]
SAID = {"c0": "A. liver", "c1": "B. spleen", "c2": "A", "o": "liver", "r": "A nodule is seen."}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return evaluate_said(ASKED, {"ours": SAID}, ASKED)


def row(table: Table, name: str) -> dict[str, str]:
    return dict(zip(table.columns, next(row for row in table.rows if row[0] == name)[1:], strict=True))


def test_the_headline_counts(record: dict[str, Any]) -> None:
    first = headline(record)[0]
    assert first.startswith("5 exchanges (1 report, 3 closed, 1 open) about 4 CTs of 4 patients")
    alone = headline(evaluate_said(ASKED[:1], {"ours": SAID}, []))
    assert "a single patient" in alone[-1]


def test_the_headline_tells_of_answers_that_were_cut(record: dict[str, Any]) -> None:
    cut = {"ours": {"report": 2, "open": 0}, "others": {"open": 0}}
    settings = {**record["manifest"]["settings"], "longest": {"report": 1024, "open": 48}}
    told = headline({**record, "cut": cut, "manifest": {**record["manifest"], "settings": settings}})
    assert told[:-1] == headline(record)
    assert told[-1].startswith("ours: answers that were cut")
    assert told[-1].endswith(": 2 report at 1024")


def test_closed_questions_are_told_by_kind_and_in_all(record: dict[str, Any]) -> None:
    table = next(table for table in summary(record) if table.title.startswith("closed"))
    assert [one[0] for one in table.rows] == ["random", "majority class", "ours"]
    ours = row(table, "ours")
    assert ours["organ"].startswith("50.0 ±")
    assert ours["site"] == "100.0"
    assert ours["mean of kinds"].startswith("75.0 ±")
    assert ours["all"].startswith("66.7 ±")
    assert ours["no choice named"] == "0.0"
    assert ours["M3D's rule, mean"].startswith("25.0 ±")  # "A" alone has no full stop


def test_texts_have_their_metrics(record: dict[str, Any]) -> None:
    tables = {table.title.split(":")[0]: table for table in summary(record)}
    assert list(tables["reports"].columns) == ["BLEU-1", "ROUGE-1", "METEOR", "METEOR, greedy"]
    assert list(tables["open questions"].columns) == [*tables["reports"].columns, "exact match"]
    assert row(tables["reports"], "ours")["ROUGE-1"] == "75.0"
    assert row(tables["open questions"], "majority class")["exact match"] == "100.0"


def test_differences_name_both_methods(record: dict[str, Any]) -> None:
    table = next(table for table in details(record) if table.title.startswith("closed questions: by how much"))
    assert [one[0] for one in table.rows] == ["ours than random", "ours than majority class"]
    assert row(table, "ours than random")["accuracy"].startswith("16.7 ±")


def test_what_experts_did_is_told_layer_by_layer(record: dict[str, Any]) -> None:
    told = {
        "task_router": {"accuracy": 75.0},
        "layers": [4, 5],
        "shares": [[[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]], [[0.25, 0.75]] * 3],
        "entropy": [[math.log(2), 0.0, 0.0], [0.5623] * 3],
    }
    table = summary({**record, "experts": told})[-1]
    assert "the right group in 75.0 %" in table.title
    assert table.columns == ["expert 1", "expert 2", "in effect"]
    assert [one[1:] for one in table.rows[:4]] == [
        ["50.0", "50.0", "2.0"],
        ["100.0", "0.0", "1.0"],
        ["0.0", "0.0", "-"],
        ["25.0", "75.0", "1.8"],
    ]
    assert [one[0] for one in table.rows] == [f"layer {layer}, {task}" for layer in (4, 5) for task in CTTask]
    assert len(summary({**record, "experts": None})) == len(summary(record))


def test_every_row_is_as_long_as_its_header(record: dict[str, Any]) -> None:
    for each in (record, evaluate_said(ASKED[-1:], {}, []), evaluate_said(ASKED[:3], {}, [])):
        for table in [*summary(each), *details(each)]:
            assert table.rows
            assert {len(one) for one in table.rows} == {1 + len(table.columns)}


def test_a_page_holds_every_cell(record: dict[str, Any]) -> None:
    tables = summary(record)
    page = to_markdown(tables)
    for table in tables:
        assert table.title in page
        for one in table.rows:
            assert "| " + " | ".join(one) + " |" in page


def test_a_bar_in_a_name_does_not_break_the_page() -> None:
    assert r"| a\|b | 1 |" in to_markdown([Table("title", ["x"], [["a|b", "1"]])])
