"""The tables of a dataset, counted again by hand, and the paper's as printed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from voxmoe.vocabulary import ABSENT, CLASSES, EXCLUSIVE_TASKS, NOT_ASKED, Kind, Task
from voxmoe.vqa.dataset import SPLITS, open_dataset
from voxmoe.vqa.paper_tables import GLI, GOAT, IN_SCOPE, MET, OUT_OF_SCOPE, PAPER_DATASETS
from voxmoe.vqa.statistics import examples, frequencies, statistics


def row(kind: Kind = Kind.IN_SCOPE, text: str = "q", **answers: Any) -> dict[str, Any]:
    exclusive = {str(task): answers.get(str(task), NOT_ASKED) for task in EXCLUSIVE_TASKS}
    return {
        "id": text,
        "kind": str(kind),
        "tasks": list(answers),
        "question": text,
        "answer": f"it is {' and '.join(map(str, answers.values()))}",
        "region": answers.get("region", []),
        **exclusive,
    }


def test_frequencies_are_shares_of_all_questions() -> None:
    found = frequencies(
        [
            row(volume="<1%", region=["frontal", "limbic"]),
            row(Kind.PARTIAL, region=["frontal"]),
            row(region=[ABSENT], spread=ABSENT),
            row(Kind.OUT_OF_SCOPE),
        ]
    )
    assert {name: share for name, share in found["volume"].items() if share} == {NOT_ASKED: 75, "<1%": 25}
    assert {name: share for name, share in found["region"].items() if share} == {
        NOT_ASKED: 25,
        ABSENT: 25,
        "frontal": 50,
        "limbic": 25,
    }
    assert found["shape"][NOT_ASKED] == 100
    assert (found["spread"][NOT_ASKED], found["spread"][ABSENT]) == (75, 25)
    assert found[OUT_OF_SCOPE] == {IN_SCOPE: 50, OUT_OF_SCOPE: 50}


def test_examples_show_each_type_once_and_prefer_answers() -> None:
    rows = [
        row(text="absent", volume=ABSENT),
        row(text="one", shape="oval"),
        row(text="later", shape="round"),
        row(text="two", shape="oval", volume="<1%"),
        row(Kind.OUT_OF_SCOPE, text="outside"),
    ]
    found = {name: example["id"] for name, example in examples(rows).items()}
    assert found == {"single-task": "one", "multi-task": "two", "out of scope": "outside"}


def test_the_statistics_of_a_dataset(dataset: Path) -> None:
    opened = open_dataset(dataset)
    rows = [row for split in SPLITS for row in opened.rows(split)]
    found = statistics(opened)
    assert json.loads(json.dumps(found)) == found
    assert (found["questions"], found["studies"], found["patients"]) == (96, 4, 4)
    assert found["unique_questions"] == len({row["question"] for row in rows})
    assert found["kinds"] == {"in-scope": 64, "partially-out-of-scope": 16, "out-of-scope": 16}
    assert found["labels"] == dict.fromkeys(("NETC", "SNFH", "ET", "RC"), 24)
    assert sum(found["types"].values()) == 80
    topics = [topic for row in rows if row["topic"] for topic in row["topic"].split(", ")]
    assert found["topics"] == dict(sorted(Counter(topics).items()))
    assert sum(row["topic"] is not None for row in rows) == 32
    for group in ("kinds", "labels", "types", "topics"):
        for name, count in found[group].items():
            assert sum(own[group].get(name, 0) for own in found["splits"].values()) == count
    assert {split: own["questions"] for split, own in found["splits"].items()} == opened.manifest["questions"]
    assert found["frequencies"][OUT_OF_SCOPE][OUT_OF_SCOPE] == pytest.approx(100 / 3)
    for task in Task:
        asked = sum(task in row["tasks"] for row in rows) / 96
        assert found["frequencies"][task][NOT_ASKED] == pytest.approx(100 * (1 - asked))
        total = sum(found["frequencies"][task].values())
        assert total >= 99.9 if task is Task.REGION else total == pytest.approx(100)
    assert len(found["examples"]) == 4
    assert [told["name"] for told in found["paper"]] == ["GLI"]


def test_another_release_stands_beside_all_three(dataset: Path) -> None:
    opened = open_dataset(dataset)
    opened.manifest["profiles"] = ["brats-2021"]
    assert [told["name"] for told in statistics(opened)["paper"]] == ["GLI", "MET", "GoAT"]


@pytest.mark.parametrize("told", PAPER_DATASETS.values(), ids=lambda told: told.name)
def test_the_papers_tables_add_up(told: Any) -> None:
    """Exclusive classes make 100 % but for rounding; splits make the whole; six questions a label and scan."""
    labels = 4 if told is GLI else 3
    assert told.questions == sum(told.splits.values()) == told.studies * labels * 6
    for task in EXCLUSIVE_TASKS:
        whole = 111 if told is MET and task is Task.SHAPE else 100  # printed so
        assert sum(told.frequencies[task].values()) == pytest.approx(whole, abs=0.25)
        assert set(told.frequencies[task]) <= set(CLASSES[task])
    assert set(told.frequencies["region"]) == set(CLASSES[Task.REGION])
    for task in Task:
        assert 51 < told.frequencies[task][NOT_ASKED] < 54


def test_single_figures_of_the_paper() -> None:
    assert (GLI.unique_questions, MET.unique_answers, GOAT.studies) == (38_023, 11_284, 1_351)
    assert GLI.frequencies["region"]["insula"] == 5.8
    assert MET.frequencies["shape"]["focus"] == 12.2
    assert GOAT.frequencies["spread"]["core with satellite lesions"] == 35.6
