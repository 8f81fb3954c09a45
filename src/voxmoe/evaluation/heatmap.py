"""The picture of the router: correlations of the template prompts' expert weights (mpLLM, Figure 3)."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from voxmoe.pictures import new_figure, save_figure

_INITIALS = {"volume": "V", "region": "R", "shape": "S", "spread": "D"}


def draw_correlations(path: Path, router: dict[str, Any]) -> None:
    """Draw the correlation matrix of `study_router`, by label in blocks, to a PNG, PDF or SVG file.

    The colours (cividis) keep their order for readers who see no difference between red and green, and in grey.
    Raises `MissingPackageError` without matplotlib and `ImageError` for another kind of file.
    """
    matrix = np.array([[np.nan if value is None else value for value in row] for row in router["correlation"]])
    prompts = router["prompts"]
    figure = new_figure(path, 9.5, 8.5)
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="cividis", vmin=min(-0.2, float(np.nanmin(matrix, initial=0))), vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="correlation of expert weights")
    types = ["".join(_INITIALS[task] for task in prompt["type"].split(" + ")) for prompt in prompts]
    axes.set_xticks(range(len(types)), types, rotation=90, fontsize=6)
    axes.set_yticks(range(len(types)), types, fontsize=6)
    blocks = [(label, len(list(group))) for label, group in groupby(prompt["label"] for prompt in prompts)]
    ends = np.cumsum([size for _, size in blocks])
    for (label, size), end in zip(blocks, ends, strict=True):
        middle = (end - size / 2 - 0.5) / len(prompts)
        axes.text(middle + 0.5 / len(prompts), 1.01, label, transform=axes.transAxes, ha="center", weight="bold")
        if end < len(prompts):
            axes.axhline(end - 0.5, color="white", linewidth=1.5)
            axes.axvline(end - 0.5, color="white", linewidth=1.5)
    axes.set_xlabel("V volume, R region, S shape, D spread")
    save_figure(path, figure, dpi=200)
