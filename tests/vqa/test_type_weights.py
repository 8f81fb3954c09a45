"""How often each type is drawn: exact chances against drawing with rejection, and the paper's shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from voxmoe.errors import DatasetError, RecipeError
from voxmoe.vocabulary import NOT_ASKED, TASK_COMBINATIONS, Task
from voxmoe.vqa.paper_tables import PAPER_DATASETS
from voxmoe.vqa.type_weights import PAPER, TYPE_WEIGHTS, UNIFORM, TypeWeights, type_drawer, type_weights_named

OWN = TypeWeights(
    name="own", by_number={1: 0.5, 4: 3.0}, by_type={"volume+region": 2.0, "spread": 0.1}, by_task={Task.SHAPE: 1.5}
)


def with_rejection(weights: TypeWeights, times: int) -> Counter[frozenset[int]]:
    """Four types drawn without replacement by NumPy, again until they ask every task; counted as sets."""
    generator = np.random.default_rng(5)
    chances = np.array(weights.weights) / sum(weights.weights)
    found: Counter[frozenset[int]] = Counter()
    while found.total() < times:
        drawn = generator.choice(15, size=4, replace=False, p=chances)
        if {task for number in drawn for task in TASK_COMBINATIONS[number]} == set(Task):
            found[frozenset(drawn.tolist())] += 1
    return found


@pytest.mark.parametrize("weights", [UNIFORM, PAPER, OWN], ids=lambda weights: weights.name)
def test_chances_are_those_of_drawing_with_rejection(weights: TypeWeights) -> None:
    drawer = type_drawer(weights)
    assert drawer.of_sequence.sum() == pytest.approx(1)
    exact: Counter[int] = Counter()
    for sequence, chance in zip(drawer.sequences.tolist(), drawer.of_sequence.tolist(), strict=True):
        exact.update(dict.fromkeys(sequence, chance))
    times = 4_000
    simulated = with_rejection(weights, times)
    for number in range(15):
        share = sum(count for drawn, count in simulated.items() if number in drawn) / times
        assert share == pytest.approx(exact[number], abs=4 * np.sqrt(0.25 / times))


@pytest.mark.parametrize("weights", [UNIFORM, PAPER, OWN], ids=lambda weights: weights.name)
def test_draws_follow_the_chances(weights: TypeWeights) -> None:
    drawer = type_drawer(weights)
    generator = np.random.default_rng(1)
    times = 6_000
    asked: Counter[Task] = Counter()
    singles: Counter[tuple[Task, ...]] = Counter()
    for _ in range(times):
        four, one = drawer.four(generator), drawer.one(generator)
        assert len(set(four)) == 4
        assert {task for tasks in four for task in tasks} == set(Task)
        asked.update(task for tasks in (*four, one) for task in tasks)
        singles[one] += 1
    for task, expected in drawer.not_asked().items():
        assert 100 * (1 - asked[task] / (6 * times)) == pytest.approx(expected, abs=1)
    expected_singles = times * np.array(weights.weights) / sum(weights.weights)
    for tasks, expected in zip(TASK_COMBINATIONS, expected_singles, strict=True):
        assert singles[tasks] == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_uniform_weights_leave_more_unasked_than_the_paper() -> None:
    assert set(UNIFORM.weights) == {1.0}
    assert all(54 <= share <= 55.5 for share in type_drawer(UNIFORM).not_asked().values())


@pytest.mark.parametrize("told", PAPER_DATASETS.values(), ids=lambda told: told.name)
def test_the_papers_weights_leave_as_much_unasked_as_its_tables(told: object) -> None:
    for task, share in type_drawer(PAPER).not_asked().items():
        assert share == pytest.approx(told.frequencies[task][NOT_ASKED], abs=1)


def test_weights_multiply() -> None:
    by_type = dict(zip(TASK_COMBINATIONS, OWN.weights, strict=True))
    assert by_type[Task.VOLUME,] == 0.5
    assert by_type[Task.SPREAD,] == pytest.approx(0.05)
    assert by_type[Task.VOLUME, Task.REGION] == 2.0
    assert by_type[tuple(Task)] == pytest.approx(4.5)


def test_weights_by_name_and_from_a_file(tmp_path: Path) -> None:
    assert {name: type_weights_named(name) for name in TYPE_WEIGHTS} == TYPE_WEIGHTS
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: own\nby_number: {1: 0.5, 4: 3}\nby_type: {volume+region: 2, spread: 0.1}\nby_task: {shape: 1.5}"
    )
    assert type_weights_named(str(own)) == OWN
    with pytest.raises(DatasetError, match="no type weights are called 'even'; there are uniform, paper, or give"):
        type_weights_named("even")
    for text, said in (
        (b"name: own\nby_number: {5: 1}", "'5' is none of 1, 2, 3, 4"),
        (b"name: own\nby_size: 1", "by_size: no such key; there are name, by_task, by_number, by_type"),
        (b"\xff\xfen", "not YAML"),
    ):
        own.write_bytes(text)
        with pytest.raises(RecipeError, match=rf"own\.yaml: not type weights: .*{said}"):
            type_weights_named(str(own))


@pytest.mark.parametrize(
    "wrong", [{"by_type": {"volume": 0}}, {"by_task": {"size": 1}}, {"by_type": {"a+b": 1}}, {"x": 1}]
)
def test_weights_that_are_none(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        TypeWeights(name="wrong", **wrong)
