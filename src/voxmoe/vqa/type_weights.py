"""How often each question type is drawn: weights over the 15 types, uniform unless set.

The four types of a label are drawn one after the other without replacement, each with a chance in proportion to its
weight, and all again until together they ask every task (mpLLM, section 3.2.1). The chance of every such sequence is
computed once, so that one random number draws four types.

With uniform weights every task goes unasked in 54.8 % of the questions. In the paper's Tables 6-8 ("Unspecified") it
is 51.4 to 53.4 %, in all three datasets more for region and spread than for volume and shape, so its types cannot have
been drawn uniformly. The preset `paper` has a factor for each task, fitted to the tables' means by
`benchmarks/fit_type_weights.py`.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from voxmoe.errors import DatasetError
from voxmoe.settings import Settings, read_yaml
from voxmoe.vocabulary import TASK_COMBINATIONS, Task
from voxmoe.vqa.wordings.bank import Tasks

MULTI_TASK_QUESTIONS = 4
"""Questions about each label of a study that can be answered."""
_OTHERS = 2
"""One question about it is partly and one altogether out of scope."""
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TypeWeights(Settings):
    """The weight of a type is the product of what is set for its tasks, for their number and for itself; else 1."""

    name: str
    by_task: Mapping[Task, Weight] = {}
    by_number: Mapping[int, Weight] = {}
    by_type: Mapping[str, Weight] = {}
    """By names such as volume+region."""

    @model_validator(mode="after")
    def _are_known(self) -> "TypeWeights":
        numbers = [str(number + 1) for number in range(len(Task))]
        types = ["+".join(tasks) for tasks in TASK_COMBINATIONS]
        for found, known in ((map(str, self.by_number), numbers), (self.by_type, types)):
            if unknown := set(found) - set(known):
                raise ValueError(f"{min(unknown)!r} is none of {', '.join(known)}")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of `TASK_COMBINATIONS`."""
        return tuple(
            self.by_type.get("+".join(tasks), 1.0)
            * self.by_number.get(len(tasks), 1.0)
            * float(np.prod([self.by_task.get(task, 1.0) for task in tasks]))
            for tasks in TASK_COMBINATIONS
        )


UNIFORM = TypeWeights(name="uniform")
PAPER = TypeWeights(
    name="paper", by_task={Task.VOLUME: 1.197, Task.REGION: 1.140, Task.SHAPE: 1.213, Task.SPREAD: 1.125}
)
TYPE_WEIGHTS = {preset.name: preset for preset in (UNIFORM, PAPER)}


def type_weights_named(name: str) -> TypeWeights:
    """A preset by its name, or weights of one's own from a YAML file.

    Raises `DatasetError` if there is no such preset or file, `RecipeError` if the file does not hold weights.
    """
    if name in TYPE_WEIGHTS:
        return TYPE_WEIGHTS[name]
    path = Path(name)
    if not path.is_file():
        raise DatasetError(
            f"no type weights are called {name!r}; there are {', '.join(TYPE_WEIGHTS)}, or give a YAML file with the "
            f"keys {', '.join(TypeWeights.model_fields)}"
        )
    return read_yaml(TypeWeights, path, "type weights")


_ASKS = np.array([[task in tasks for task in Task] for tasks in TASK_COMBINATIONS])


class TypeDrawer:
    """The chances of all sequences of four types, and of a single one, at given weights."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        of_type = np.array(weights) / np.sum(weights)
        sequences = np.array(list(permutations(range(len(weights)), MULTI_TASK_QUESTIONS)))
        sequences = sequences[_ASKS[sequences].any(axis=1).all(axis=1)]
        drawn = of_type[sequences]
        left = 1 - np.cumsum(drawn, axis=1) + drawn
        of_sequence = np.prod(drawn / left, axis=1)
        self.sequences: Int[np.ndarray, "S 4"] = sequences
        """Those that together ask every task."""
        self.of_sequence: Float[np.ndarray, S] = of_sequence / of_sequence.sum()
        self.of_type: Float[np.ndarray, 15] = of_type
        self._sequence_ends = np.cumsum(self.of_sequence)
        self._type_ends = np.cumsum(of_type)

    def four(self, generator: np.random.Generator) -> list[Tasks]:
        """Four distinct types that together ask every task."""
        place = np.searchsorted(self._sequence_ends[:-1], generator.random(), side="right")
        return [TASK_COMBINATIONS[number] for number in self.sequences[place]]

    def one(self, generator: np.random.Generator) -> Tasks:
        return TASK_COMBINATIONS[np.searchsorted(self._type_ends[:-1], generator.random(), side="right")]

    def not_asked(self) -> dict[Task, float]:
        """Expected percent of all questions that do not ask each task: the paper's "Unspecified"."""
        asked = self.of_sequence @ _ASKS[self.sequences].sum(axis=1) + self.of_type @ _ASKS
        shares = 1 - asked / (MULTI_TASK_QUESTIONS + _OTHERS)
        return {task: 100 * float(share) for task, share in zip(Task, shares, strict=True)}


@lru_cache(maxsize=8)
def _drawer(weights: tuple[float, ...]) -> TypeDrawer:
    return TypeDrawer(weights)


def type_drawer(weights: TypeWeights) -> TypeDrawer:
    return _drawer(weights.weights)
