"""Fit the factors of the type weights `paper`: python benchmarks/fit_type_weights.py

One factor for each task, so that the expected share of questions which do not ask it is the mean of the paper's three
tables ("Unspecified" in Tables 6-8). Prints the factors and how far each table lies from what they give.
"""

import numpy as np
from scipy.optimize import least_squares

from voxmoe.vocabulary import NOT_ASKED, Task
from voxmoe.vqa.paper_tables import PAPER_DATASETS
from voxmoe.vqa.type_weights import TYPE_WEIGHTS, TypeDrawer, TypeWeights, type_drawer

TABLES = np.array([[told.frequencies[task][NOT_ASKED] for task in Task] for told in PAPER_DATASETS.values()])


def not_asked(logarithms: np.ndarray) -> np.ndarray:
    factors = dict(zip(Task, np.exp(logarithms).tolist(), strict=True))
    weights = TypeWeights(name="fitted", by_task=factors).weights
    return np.array(list(TypeDrawer(weights).not_asked().values()))


def main() -> None:
    fit = least_squares(lambda logarithms: not_asked(logarithms) - TABLES.mean(axis=0), np.zeros(len(Task)))
    print("factors   ", ", ".join(f"{task} {factor:.3f}" for task, factor in zip(Task, np.exp(fit.x), strict=True)))
    for name, weights in TYPE_WEIGHTS.items():
        shares = type_drawer(weights).not_asked()
        print(f"{name:<10}", ", ".join(f"{task} {share:.1f} %" for task, share in shares.items()))
        for told, row in zip(PAPER_DATASETS.values(), TABLES, strict=True):
            away = ", ".join(f"{share - figure:+.1f}" for share, figure in zip(shares.values(), row, strict=True))
            print(f"  less the paper's {told.name}: {away}")


if __name__ == "__main__":
    main()
