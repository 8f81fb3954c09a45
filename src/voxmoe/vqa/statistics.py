"""The tables of a dataset: counts (Table 1), examples (Table 5) and frequencies of classes (Tables 6-8).

As in the paper, a frequency is a share of all questions: those that do not ask the task count as "not asked" (its
"Unspecified"), those that are completely out of scope too. Regions are not exclusive, so theirs add up to more than
100 %. The paper's own figures stand beside: those of its dataset of the same release, or else all three.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from voxmoe.vocabulary import (
    ABSENT,
    CLASSES,
    EXCLUSIVE_TASKS,
    NO_REGION,
    NOT_ASKED,
    REGIONS,
    TASK_COMBINATIONS,
    Kind,
    Task,
)
from voxmoe.vqa.dataset import SPLITS, Dataset
from voxmoe.vqa.paper_tables import IN_SCOPE, OUT_OF_SCOPE, PAPER_DATASETS

Row = dict[str, Any]

EXAMPLE_TYPES: dict[str, Callable[[Row], bool]] = {
    "single-task": lambda row: row["kind"] == Kind.IN_SCOPE and len(row["tasks"]) == 1,
    "multi-task": lambda row: row["kind"] == Kind.IN_SCOPE and len(row["tasks"]) > 1,
    "partially out of scope": lambda row: row["kind"] == Kind.PARTIAL,
    "out of scope": lambda row: row["kind"] == Kind.OUT_OF_SCOPE,
}
"""The four types of Table 5."""


def type_name(tasks: Iterable[str]) -> str:
    """ "volume + region": how a question type is called in tables."""
    return " + ".join(tasks)


def _count(values: Iterable[str], order: Iterable[str]) -> dict[str, int]:
    """How often each value occurs: those of `order` first, 0 where there is none, then any others by name."""
    counts = Counter(values)
    return {value: counts[value] for value in [*order, *sorted(counts.keys() - set(order))]}


def counts(rows: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    """Questions of some rows: how many, about how many studies, and by kind, label, question type and topic."""
    types = [type_name(tasks) for tasks in TASK_COMBINATIONS]
    return {
        "questions": len(rows),
        "studies": len({row["study"] for row in rows}),
        "patients": len({row["patient"] for row in rows}),
        "unique_questions": len({row["question"] for row in rows}),
        "unique_answers": len({row["answer"] for row in rows}),
        "kinds": _count((row["kind"] for row in rows), map(str, Kind)),
        "labels": _count((row["label"] for row in rows), labels),
        "types": _count((type_name(row["tasks"]) for row in rows if row["tasks"]), types),
        "topics": _count((topic for row in rows if row["topic"] for topic in row["topic"].split(", ")), ()),
    }


def frequencies(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Task -> class -> percent of all questions, in the order of the paper's Tables 6-8."""

    def percent(count: int) -> float:
        return 100 * count / len(rows)

    found: dict[str, dict[str, float]] = {}
    for task in Task:
        if task in EXCLUSIVE_TASKS:
            said = Counter(row[task] for row in rows)
            classes = CLASSES[task]
        else:
            said = Counter(region for row in rows for region in row[task] or [NOT_ASKED])
            classes = (NOT_ASKED, ABSENT, *REGIONS, NO_REGION)
        found[str(task)] = {name: percent(said[name]) for name in classes}
    outside = sum(row["kind"] != Kind.IN_SCOPE for row in rows)
    found[OUT_OF_SCOPE] = {IN_SCOPE: percent(len(rows) - outside), OUT_OF_SCOPE: percent(outside)}
    return found


def examples(rows: Iterable[Row]) -> dict[str, dict[str, str]]:
    """The first question of each type of Table 5 with its answer, about a label that is present where there is one."""
    found: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: ABSENT in row["answer"]):
        name = next(name for name, fits in EXAMPLE_TYPES.items() if fits(row))
        found.setdefault(name, {key: row[key] for key in ("id", "question", "answer")})
    return {name: found[name] for name in EXAMPLE_TYPES if name in found}


def statistics(dataset: Dataset) -> dict[str, Any]:
    """All tables of a dataset, ready for JSON, with the paper's beside."""
    by_split = {split: dataset.rows(split) for split in SPLITS}
    rows = [row for split in SPLITS for row in by_split[split]]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    profiles = dataset.manifest["profiles"]
    alike = [PAPER_DATASETS[name] for name in profiles if name in PAPER_DATASETS]
    return {
        "profiles": profiles,
        "protocol": dataset.manifest["protocol"]["name"],
        **counts(rows, labels),
        "splits": {split: counts(by_split[split], labels) for split in SPLITS},
        "frequencies": frequencies(rows),
        "examples": examples(rows),
        "paper": [asdict(told) for told in alike or PAPER_DATASETS.values()],
    }
