"""Questions with answers and predictions drawn at random, for scores that are held against other libraries."""

from typing import Any

import numpy as np

from voxmoe.evaluation.predictions import from_heads
from voxmoe.model.heads import SIZES
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS, TASK_COMBINATIONS, Kind, Modality, Task
from voxmoe.vqa.encoding import encode

LABELS = ("NETC", "SNFH", "ET", "RC")


def row(patient: str, kind: Kind = Kind.IN_SCOPE, label: str = "ET", **answers: list[str]) -> dict[str, Any]:
    """A dataset row with these answers."""
    by_task = {Task(name): terms for name, terms in answers.items()}
    exclusive = {str(task): by_task.get(task, ["not asked"])[0] for task in EXCLUSIVE_TASKS}
    return {
        "id": f"{patient}#{label}",
        "study": patient,
        "patient": patient,
        "label": label,
        "kind": str(kind),
        "tasks": [str(task) for task in by_task],
        **exclusive,
        "region": by_task.get(Task.REGION, []),
        "targets": encode(kind, by_task),
        "images": {str(modality): "image" for modality in Modality},
    }


def drawn_rows(count: int, seed: int, patients: int = 30) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        kind = list(Kind)[generator.choice(3, p=[0.7, 0.15, 0.15])]
        tasks = () if kind is Kind.OUT_OF_SCOPE else TASK_COMBINATIONS[generator.integers(15)]
        answers: dict[str, list[str]] = {}
        for task in tasks:
            if task is Task.REGION:
                answers[task] = [region for region in REGIONS if generator.random() < 0.25] or ["N/A"]
            else:
                answers[task] = [str(generator.choice(CLASSES[task][1:]))]
        made = row(f"p{generator.integers(patients)}", kind, LABELS[generator.integers(4)], **answers)
        rows.append({**made, "id": f"q{number}"})
    return rows


def drawn_chances(count: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    chances = {name: generator.dirichlet(np.ones(size) / 2, count) for name, size in SIZES.items()}
    chances["region"] = generator.random((count, SIZES["region"]))
    return {name: values.astype(np.float32) for name, values in chances.items()}


ROWS = drawn_rows(400, seed=0)
PREDICTIONS = from_heads(drawn_chances(400, seed=1))
