"""A recipe of either system -> the recipe and what runs it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxmoe.errors import RecipeError
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.reader_run import train_reader
from voxmoe.training.recipe import Recipe, RunRecipe, load, read_tree
from voxmoe.training.run import train
from voxmoe.vocabulary import MPLLM, TGH_MOE

Report = Callable[[str, int, int], None]


def load_any(path: Path | str, assignments: Sequence[str] = ()) -> tuple[RunRecipe, Callable[[Any, Report], object]]:
    """By the key `system`, which a recipe of mpLLM need not have; raises `RecipeError`."""
    system = read_tree(Path(path), assignments).get("system", MPLLM)
    if system == TGH_MOE:
        return load(ReaderRecipe, path, assignments), train_reader
    if system == MPLLM:
        return load(Recipe, path, assignments), train
    raise RecipeError(f"{path}: system is {system!r}; there are {MPLLM} and {TGH_MOE}")
