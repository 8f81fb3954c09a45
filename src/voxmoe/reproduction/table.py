"""A reproduced table in words: the paper's layout, with the paper's own figures in the neighbouring columns."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from voxmoe.evaluation.tables import Table, markdown, sure, sure_interval

PAPER = "paper"


def _pair(figure: Mapping[str, Any] | None, value: str, deviation: str) -> str:
    if figure is None:
        return "-"
    spread = figure[deviation]
    return f"{figure[value]:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def _is_the_papers(table: Mapping[str, Any]) -> bool:
    """Whether the paper prints anything to stand beside."""
    return any(row["printed"] for row in table["rows"])


def header(table: Mapping[str, Any]) -> list[str]:
    """The table's first columns, then each measure here and, where it is the paper's table, in the paper."""
    text = ["mean, from text"] if table["rows"][0]["from_text"] else []
    beside = _is_the_papers(table)
    measures = [[measure, f"{PAPER}'s {measure}"] if beside else [measure] for measure in table["measures"]]
    return [*table["columns"], *chain.from_iterable(measures), *text]


def lines(table: Mapping[str, Any]) -> list[list[str]]:
    """One line a row; after the rows of a dataset, the majority classes and segment-then-measure on the same
    questions."""
    found: list[list[str]] = []
    for place, row in enumerate(table["rows"]):
        found.append(_line(table, row))
        following = table["rows"][place + 1 :]
        if not following or following[0]["dataset"] != row["dataset"]:
            found += [_baseline(table, row, *baseline) for baseline in _baselines(table, row["dataset"]).items()]
    return found


def _line(table: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    cells = list(row["cells"])
    for measure in table["measures"]:
        cells.append(_pair(row["measured"][measure], "value", "sd_by_patient"))
        if _is_the_papers(table):
            cells.append(_pair(row["printed"].get(measure), "value", "deviation"))
    if row["from_text"]:
        cells.append(_pair(row["from_text"]["mean"], "value", "sd_by_patient"))
    return cells


def _baselines(table: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Those of all rows of a dataset: they do not depend on the model, but not every row has each."""
    found: dict[str, Any] = {}
    for row in table["rows"]:
        if row["dataset"] == dataset:
            found |= row["baselines"]
    return found


def _baseline(table: Mapping[str, Any], row: Mapping[str, Any], name: str, figures: Mapping[str, Any]) -> list[str]:
    first = [row["cells"][0], name] if len(table["columns"]) == 2 else [name]
    cells = first + [""] * (len(table["columns"]) - len(first))
    for measure in table["measures"]:
        cells += [_pair(figures[measure], "value", "sd_by_patient"), *["-"] * _is_the_papers(table)]
    return cells + ["-"] * (len(header(table)) - len(cells))


def margins(table: Mapping[str, Any]) -> Table | None:
    """By how much mpLLM is better than each other system, question by question; None where nothing is compared."""
    rows = [
        [row["cells"][0], other, sure(found), sure_interval(found), f"{found['printed']:.1f}"]
        for row in table["rows"]
        for other, found in row.get("better_than", {}).items()
    ]
    title = "by how much mpLLM is better on the mean, in percent points, question by question"
    columns = ("than", "mean", "95 %", f"{PAPER}'s mean")
    return Table(title, columns, rows) if rows else None


def to_table(table: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    return Table(table["title"], header(table)[1:], lines(table))


def to_markdown(table: Mapping[str, Any]) -> str:
    """The table for a page of documentation."""
    return markdown([header(table), *lines(table)], named=len(table["columns"]))


def footnote(table: Mapping[str, Any]) -> str:
    """At which scale and on what the table was measured."""
    questions = {row["dataset"]: (row["questions"], row["patients"]) for row in table["rows"]}
    asked = ", ".join(f"{name} {count:,} questions about {who} patients" for name, (count, who) in questions.items())
    papers = " The paper's figures are the paper's, at full size on BraTS data." * _is_the_papers(table)
    return (
        f"Measured at {table['scale']} scale ({table['summary']}), {table['split']} split ({asked}): accuracy in %, ± "
        f"bootstrap by patient.{papers}"
    )
