"""Whether a dataset fits a recipe, before anything that takes long."""

from voxmoe.errors import DatasetError, LabelError
from voxmoe.imaging.layouts import profile_named
from voxmoe.model.heads import SIZES
from voxmoe.training.recipe import Recipe
from voxmoe.training.samples import Row
from voxmoe.training.sides import doubtful, names_side
from voxmoe.vocabulary import Task
from voxmoe.vqa.dataset import Dataset


def training_rows(dataset: Dataset, recipe: Recipe) -> list[Row]:
    """The training questions of a dataset.

    Raises `DatasetError` that says what does not fit: no questions, more than one profile or another one than the
    recipe's, labels or classes that are not the profile's, questions and answers that a flip would make wrong and that
    cannot be told for the mirror image.
    """
    rows = dataset.rows("train")
    if not rows:
        raise DatasetError(f"{dataset.root}: has no training questions; build it from more studies")
    _check_profile(dataset, recipe, rows)
    _check_targets(dataset, rows)
    if recipe.augment is not None and recipe.augment.flip:
        _check_sides(dataset, recipe, rows)
    return rows


def _check_sides(dataset: Dataset, recipe: Recipe, rows: list[Row]) -> None:
    for row in rows:
        for part in ("question", "answer"):
            if word := doubtful(row[part]):
                raise DatasetError(
                    f"{dataset.root}: the {part} of {row['id']} says {word!r}, which may or may not be a side, so that "
                    "a flipped view could make it wrong; word it otherwise, or set augment.flip=false"
                )
            if recipe.fit.warm_up is not None and names_side(row[part]):
                raise DatasetError(
                    f"{dataset.root}: the {part} of {row['id']} names a side, and the warm-up reads questions before "
                    "it is known which views are flipped; set augment.flip=false, or leave fit.warm_up out"
                )


def _check_profile(dataset: Dataset, recipe: Recipe, rows: list[Row]) -> None:
    profiles = dataset.manifest["profiles"]
    if len(profiles) != 1:
        raise DatasetError(f"{dataset.root}: mixes the profiles {', '.join(profiles)}; build one dataset for each")
    if recipe.model.profiles and profiles[0] not in recipe.model.profiles:
        raise DatasetError(
            f"{dataset.root}: asks about the labels of {profiles[0]}, but the recipe's model.profiles are "
            f"{', '.join(recipe.model.profiles)}; leave model.profiles out, or name datasets of these"
        )
    try:
        known = {label.key for label in profile_named(profiles[0]).labels}
    except LabelError as error:
        raise DatasetError(f"{dataset.root}: {error}") from None
    if unknown := {row["label"] for row in rows} - known:
        raise DatasetError(
            f"{dataset.root}: asks about {', '.join(sorted(unknown))}, but {profiles[0]} has the labels "
            f"{', '.join(sorted(known))}; build the dataset again"
        )


def _check_targets(dataset: Dataset, rows: list[Row]) -> None:
    for row in rows:
        for name, size in SIZES.items():
            found = row["targets"][name]
            fits = len(found) == size if name == str(Task.REGION) else 0 <= found < size
            if not fits:
                raise DatasetError(
                    f"{dataset.root}: the target {name} of {row['id']} is {found}, but the head has {size} classes; "
                    "the dataset was built by another version: build it again"
                )
