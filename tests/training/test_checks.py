"""A dataset that does not fit a recipe is named before anything that takes long."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from voxmoe.errors import DatasetError
from voxmoe.training.augment import AugmentSettings
from voxmoe.training.checks import training_rows
from voxmoe.training.recipe import Recipe, WarmUpSettings, load_recipe
from voxmoe.vqa.dataset import Dataset, open_dataset


@dataclass(frozen=True)
class Given(Dataset):
    """A dataset of given rows."""

    given: list[dict[str, Any]]

    def rows(self, split: str) -> list[dict[str, Any]]:
        return self.given


@pytest.fixture
def recipe(tiny_recipe: Path) -> Recipe:
    return load_recipe(tiny_recipe)


@pytest.fixture
def given(dataset: Path) -> Given:
    found = open_dataset(dataset)
    return Given(found.root, found.manifest, deepcopy(found.rows("train")[:6]))


def test_what_fits_is_returned(given: Given, recipe: Recipe) -> None:
    assert training_rows(given, recipe) == given.given
    assert training_rows(given, recipe.model_copy(update={"augment": AugmentSettings()})) == given.given


def test_no_rows(given: Given, recipe: Recipe) -> None:
    given.given.clear()
    with pytest.raises(DatasetError, match="no training questions"):
        training_rows(given, recipe)


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        (["gli-1999"], "no profile is called 'gli-1999'"),
        (["gli-2024", "met-2024"], "mixes the profiles gli-2024, met-2024"),
        (["met-2024"], r"asks about RC, but met-2024 has the labels ET, NETC, SNFH"),
    ],
)
def test_profiles(given: Given, recipe: Recipe, profiles: list[str], message: str) -> None:
    given.given[0]["label"] = "RC"
    with pytest.raises(DatasetError, match=message):
        training_rows(replace(given, manifest={**given.manifest, "profiles": profiles}), recipe)


def test_another_profile_than_the_recipes(given: Given, recipe: Recipe) -> None:
    model = recipe.model.model_copy(update={"profiles": ("goat-2024",)})
    with pytest.raises(DatasetError, match=r"gli-2024.*model\.profiles are goat-2024"):
        training_rows(given, recipe.model_copy(update={"model": model}))


@pytest.mark.parametrize(("task", "value"), [("volume", 8), ("region", [0] * 9), ("spread", -1)])
def test_classes_of_another_version(given: Given, recipe: Recipe, task: str, value: Any) -> None:
    given.given[2]["targets"][task] = value
    with pytest.raises(DatasetError, match=rf"the target {task} of {given.given[2]['id']}.*build it again"):
        training_rows(given, recipe)


@pytest.mark.parametrize("part", ["question", "answer"])
def test_flips_of_what_may_or_may_not_be_a_side(part: str, given: Given, recipe: Recipe) -> None:
    flipped = recipe.model_copy(update={"augment": AugmentSettings()})
    given.given[2][part] = "It lies in the Left frontal lobe."
    assert training_rows(given, flipped)
    given.given[3][part] = "Little of it is Left."
    assert training_rows(given, recipe)
    with pytest.raises(DatasetError, match=rf"{part} of {given.given[3]['id']} says 'Left'.*augment\.flip=false"):
        training_rows(given, flipped)
    assert training_rows(given, recipe.model_copy(update={"augment": AugmentSettings(flip=False)}))


def test_sides_in_a_warm_up(given: Given, recipe: Recipe) -> None:
    given.given[3]["answer"] = "It lies in the left frontal lobe."
    warmed = recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"warm_up": WarmUpSettings()})})
    assert training_rows(given, warmed)
    with pytest.raises(DatasetError, match=rf"{given.given[3]['id']} names a side.*fit\.warm_up"):
        training_rows(given, warmed.model_copy(update={"augment": AugmentSettings()}))
