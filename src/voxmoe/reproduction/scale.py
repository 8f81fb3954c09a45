"""At which size the paper's tables are made again: `pocket` on phantoms and two CPU cores, `paper` on BraTS and a GPU.

A scale is a YAML file: a base recipe, the changes that some models and tables need at this size, which model the others
start from, and the phantoms to draw where no cohort is given.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import PositiveInt

from voxmoe.errors import RecipeError
from voxmoe.settings import Settings

Name = Literal["pocket", "paper"]


class Phantoms(Settings):
    """A synthetic cohort of one dataset."""

    studies: PositiveInt
    seed: int = 0


class Scale(Settings):
    """What decides the size of a reproduction."""

    name: Name
    summary: str
    eye: Literal["shipped"] | None = None
    """All models see by the encoder of the shipped model, and may draw by its decoder; None: as the recipe says."""
    without: tuple[str, ...] = ()
    """Models of the tables that are not made at this scale."""
    recipe: dict[str, Any]
    """The base recipe; its `data` and `out` are filled in."""
    models: Mapping[str, tuple[str, ...]] = {}
    """Changes that a model needs at this size, e.g. the sizes of its own encoder."""
    tables: Mapping[str, tuple[str, ...]] = {}
    """Changes to all models of a table, which are then trained for this table alone."""
    start: str | None = None
    """The model whose weights all others begin with."""
    phantoms: Mapping[str, Phantoms] = {}
    """Dataset -> its phantoms; a dataset without any needs a cohort."""


def load_scale(name: str) -> Scale:
    """The scale that ships with this package; raises `RecipeError` if there is none of that name."""
    path = Path(__file__).with_name(f"{name}.yaml")
    if name not in get_args(Name):
        raise RecipeError(f"no scale is called {name!r}; there are {', '.join(get_args(Name))}")
    return Scale.model_validate(yaml.safe_load(path.read_text()))
