"""What a model says to each question, from its heads or from its text, and the file that keeps it.

Shapes: Q questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from voxmoe.errors import ResultsError
from voxmoe.evaluation.text_answers import TextAnswer
from voxmoe.files import atomic_path
from voxmoe.model.heads import OUT_OF_SCOPE
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS, Task

NO_ANSWER = -1
"""In place of a class or of the nine regions: the text says nothing that can be read. It equals no target."""

Chances = Mapping[str, Float[np.ndarray, "Q A"]]
"""What the heads say, by name: probabilities of classes, for region of its entries by themselves."""


def tensors(chances: Chances) -> dict[str, Float[Tensor, "Q A"]]:
    """The same numbers, in the same memory, as the heads give them."""
    return {name: torch.from_numpy(values) for name, values in chances.items()}


@dataclass(frozen=True, eq=False)
class Predictions:
    """A class of each exclusive task, 0/1 of the nine regions, the chance of out of scope; the heads' probabilities,
    if they come from heads."""

    classes: Mapping[Task, Int[np.ndarray, " Q"]]
    regions: Int[np.ndarray, "Q 9"]
    out_of_scope: Float[np.ndarray, " Q"]
    chances: Chances | None = None


def from_heads(chances: Chances) -> Predictions:
    """The likeliest class of each task; the regions that are likelier than not."""
    return Predictions(
        {task: chances[task].argmax(axis=1) for task in EXCLUSIVE_TASKS},
        (chances[Task.REGION][:, : len(REGIONS)] > 0.5).astype(int),
        chances[OUT_OF_SCOPE][:, 1].astype(float),
        chances,
    )


def from_texts(answers: Sequence[TextAnswer]) -> Predictions:
    """What the texts say; a refusal of any part stands for out of scope."""

    def class_of(task: Task, answer: TextAnswer) -> int:
        return CLASSES[task].index(answer.terms[task][0]) if task in answer.terms else NO_ANSWER

    def regions_of(answer: TextAnswer) -> list[int]:
        if Task.REGION not in answer.terms:
            return [NO_ANSWER] * len(REGIONS)
        return [int(region in answer.terms[Task.REGION]) for region in REGIONS]

    return Predictions(
        {task: np.array([class_of(task, answer) for answer in answers]) for task in EXCLUSIVE_TASKS},
        np.array([regions_of(answer) for answer in answers]),
        np.array([float(answer.refused) for answer in answers]),
    )


# ---------------------------------------------------------------------------------------------------------- the file

_HEADS = {f"{name}_chances": pa.list_(pa.float32()) for name in (*map(str, Task), OUT_OF_SCOPE)}
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("modalities", pa.list_(pa.string())),
        ("id", pa.string()),
        ("study", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("kind", pa.string()),
        ("tasks", pa.list_(pa.string())),
        *((str(task), pa.string()) for task in EXCLUSIVE_TASKS),
        ("region", pa.list_(pa.string())),
        (OUT_OF_SCOPE, pa.float64()),
        *((f"true_{task}", pa.string()) for task in EXCLUSIVE_TASKS),
        ("true_region", pa.list_(pa.string())),
        (f"true_{OUT_OF_SCOPE}", pa.bool_()),
        *_HEADS.items(),
        ("experts", pa.list_(pa.float32())),
        ("text", pa.string()),
    ]
)
"""One row a method and question. A task's column holds what is predicted, null where a text says nothing that can be
read; `true_` columns hold the answer, whether or not the task is asked (`tasks` says which are)."""


def _region_names(entries: Sequence[int]) -> list[str] | None:
    if NO_ANSWER in entries:
        return None
    return [region for region, on in zip(REGIONS, entries, strict=True) if on]


def prediction_rows(
    method: str,
    rows: Sequence[Mapping[str, Any]],
    modalities: Sequence[Sequence[str]],
    predictions: Predictions,
    experts: Float[np.ndarray, "Q N"] | None = None,
    texts: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The lines of the file for one method. `modalities` are those that it saw, question by question."""
    lines = []
    for place, row in enumerate(rows):
        said = {task: int(predictions.classes[task][place]) for task in EXCLUSIVE_TASKS}
        lines.append(
            {
                "method": method,
                "modalities": list(modalities[place]),
                **{name: row[name] for name in ("id", "study", "patient", "label", "kind", "tasks")},
                **{str(task): None if c == NO_ANSWER else CLASSES[task][c] for task, c in said.items()},
                "region": _region_names(predictions.regions[place].tolist()),
                OUT_OF_SCOPE: float(predictions.out_of_scope[place]),
                **{f"true_{task}": CLASSES[task][row["targets"][task]] for task in EXCLUSIVE_TASKS},
                "true_region": _region_names(row["targets"]["region"][: len(REGIONS)]),
                f"true_{OUT_OF_SCOPE}": bool(row["targets"]["out_of_scope"]),
                **{f"{name}_chances": chances[place] for name, chances in (predictions.chances or {}).items()},
                "experts": None if experts is None else experts[place],
                "text": None if texts is None else texts[place],
            }
        )
    return lines


def from_lines(lines: Sequence[Mapping[str, Any]]) -> Predictions:
    """The predictions that lines of one method were written from, without the probabilities."""

    def regions_of(names: list[str] | None) -> list[int]:
        return [NO_ANSWER if names is None else int(region in names) for region in REGIONS]

    return Predictions(
        {
            task: np.array([NO_ANSWER if (said := line[task]) is None else CLASSES[task].index(said) for line in lines])
            for task in EXCLUSIVE_TASKS
        },
        np.array([regions_of(line["region"]) for line in lines]),
        np.array([line[OUT_OF_SCOPE] for line in lines], float),
    )


def write_predictions(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(lines), schema=SCHEMA), temporary, compression="zstd")


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that `voxmoe evaluate --predictions` wrote; raises `ResultsError` if it is none."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; voxmoe evaluate --predictions writes one") from None
    except pa.ArrowInvalid as error:
        raise ResultsError(f"{path}: not a Parquet file: {error}") from None
    if missing := [name for name in SCHEMA.names if name not in table.column_names]:
        raise ResultsError(f"{path}: no file of predictions, it has no column {', '.join(missing)}")
    lines: list[dict[str, Any]] = table.to_pylist()
    return lines
