"""Recipes: commented YAML that says everything about a training run, validated before anything starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from voxmoe.errors import LabelError, RecipeError
from voxmoe.imaging.layouts import profile_named
from voxmoe.model.devices import multiplies_bf16
from voxmoe.model.grounding import GroundingSettings
from voxmoe.model.mpllm import ModelSettings
from voxmoe.model.pyramid import PyramidSettings
from voxmoe.model.vision import VisionSettings
from voxmoe.settings import Settings, problems
from voxmoe.training.augment import AugmentSettings
from voxmoe.training.features import PRECISION, Precision


class _Multiplying(Settings):
    """What a training decides about its arithmetic."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the matrix products; auto takes bf16 where the processor multiplies it faster than float32."""

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bf16."""
        return self.precision == "bf16" if self.precision != "auto" else multiplies_bf16()


class DenseSettings(_Multiplying):
    """Dense training of an encoder."""

    batch_size: PositiveInt = 4
    learning_rate: PositiveFloat = 1e-3
    modality_dropout: float = Field(default=0.15, ge=0, lt=1)
    """Chance of each modality of a sample to be left out; one always stays."""


class EyeSettings(DenseSettings):
    """Dense pretraining of the vision encoder on the masks of the training studies, before it is frozen."""

    epochs: PositiveInt = 10


class FitSettings(_Multiplying):
    """Training on questions (mpLLM, section 4.2)."""

    epochs: PositiveFloat = 2
    max_steps: Literal[-1] | PositiveInt = -1
    """Stop after this many optimiser steps; -1 for all epochs."""
    batch_size: PositiveInt = 1
    """Questions in one forward pass."""
    accumulation: PositiveInt = 8
    """Forward passes of an optimiser step, shared by all processes: a step learns from batch_size x accumulation
    questions, however many processes there are."""
    learning_rate: PositiveFloat = 2e-4
    """Of the language model's adapters."""
    expert_learning_rate: PositiveFloat = 2e-4
    """Of all else that learns: experts, routers and heads, which start from random weights; of a volume reader also
    the maps that are not the language model's."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; a cosine takes it down to 0 after that."""
    save_steps: PositiveInt = 200
    """Steps between checkpoints; an interrupted run goes on from the last."""
    report_to: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """Where the log goes beside training.jsonl; `pip install "voxmoe[track]"` brings both."""


class WarmUpSettings(Settings):
    """The warm-up of connector, gaze and heads, before the language model joins (`voxmoe.training.warm_up`)."""

    epochs: PositiveInt = 10
    """Over all studies with all of their questions."""
    studies: PositiveInt = 8
    """Studies in a step."""
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.05, ge=0)


class QuestionFitSettings(FitSettings):
    """Training of mpLLM's experts, heads and adapters."""

    warm_up: WarmUpSettings | None = None
    """Of a model with a gaze, before all of it is fitted."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each modality of a sample to be left out; one always stays."""
    balance: bool = False
    """Weigh each answer in the heads' losses by how rare it is in the training questions, 1 on average."""
    tune_encoder: bool = False
    """Whether the encoder learns from the questions, too. It then sees the images anew in every forward pass, where
    what a frozen one sees is computed once."""
    encoder_learning_rate: PositiveFloat = 1e-4
    """Of an encoder that learns."""


def _several(places: Any) -> Any:
    """One place, or several."""
    return (places,) if isinstance(places, str | Path) else places


class RunRecipe(Settings):
    """What every run says: from which data, where to, how."""

    name: str
    data: Annotated[tuple[Path, ...], BeforeValidator(_several), Field(min_length=1)]
    """A dataset that `voxmoe build` wrote, or several, each of a profile of its own or of the same."""
    out: Path
    """The folder that the model and its record are written to."""
    seed: int = 0
    start: Path | None = None
    """A trained model, e.g. the text-only baseline, whose weights this one begins with; what it lacks is drawn anew."""
    fit: FitSettings = FitSettings()


class Recipe(RunRecipe):
    """A whole run of mpLLM: data, model, what is trained and how, and where the result goes."""

    system: Literal["mpllm"] = "mpllm"

    model: ModelSettings = ModelSettings()
    eye: EyeSettings | None = None
    """None leaves the encoder with the weights that it is made with."""
    augment: AugmentSettings | None = None
    """None shows each scan as it is."""
    features: Precision = PRECISION
    """How what the encoder sees is kept on disk."""
    fit: QuestionFitSettings = QuestionFitSettings()

    @model_validator(mode="after")
    def _one_set_of_masks(self) -> "Recipe":
        if self.eye is not None and len(self.data) > 1:
            raise ValueError("eye learns the labels of one dataset's masks; name one in data, or leave eye out")
        return self

    @model_validator(mode="after")
    def _drawn_before(self) -> "Recipe":
        if self.model.chart is not None and self.fit.modality_dropout:
            raise ValueError(
                "the chart shows what is found in all modalities together, so that which are left out is drawn before "
                "it is made: set augment.modality_dropout instead of fit.modality_dropout"
            )
        return self

    @model_validator(mode="after")
    def _looking(self) -> "Recipe":
        if self.fit.warm_up is None:
            return self
        if self.model.gaze is None:
            raise ValueError(
                "fit.warm_up teaches heads that look at the tokens themselves: set model.gaze, or leave it out"
            )
        if self.fit.tune_encoder:
            raise ValueError(
                "fit.warm_up sees each study in many epochs, as a frozen encoder has seen it once: set "
                "fit.tune_encoder=false, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _learning(self) -> "Recipe":
        if not self.fit.tune_encoder:
            return self
        vision = self.model.vision
        if not isinstance(vision, VisionSettings | PyramidSettings):
            found = "null" if vision is None else vision.kind
            raise ValueError(
                f"fit.tune_encoder trains an encoder of the kind vit or pyramid, and model.vision is {found}: change "
                "one of them"
            )
        if self.model.mapped:
            raise ValueError(
                "model.loss.coarse_map is learnt beside features that are kept, and fit.tune_encoder keeps none: leave "
                "one of them out"
            )
        if self.model.grounding is not None:
            raise ValueError(
                "fit.tune_encoder changes the encoder that model.grounding was trained with, so that neither masks nor "
                "chart would be true any more: set model.grounding and model.chart to null, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _fitting(self) -> "Recipe":
        grounding, vision = self.model.grounding, self.model.vision
        if grounding is None:
            return self
        if self.eye is not None:
            raise ValueError("model.grounding belongs to an encoder that was trained with it; leave eye out")
        if self.start is None and (grounding.weights is None or vision is None or grounding.weights != vision.weights):
            raise ValueError(
                "model.grounding is a decoder that was trained with the encoder: model.grounding.weights and "
                "model.vision.weights have to name the same eye"
            )
        return self


class SubjectSettings(Settings):
    """Phantoms that are drawn while an eye learns from them."""

    profiles: Mapping[str, PositiveFloat] = {"gli-2024": 3, "brats-2021": 3, "met-2024": 2, "goat-2024": 2}
    """How often each profile's diseases are drawn, relative to one another."""
    spacing: float = Field(default=2.0, ge=1)
    """Edge of the voxels that they are drawn on, in mm."""
    kept: PositiveInt = 100
    """Subjects that can be seen at a time. Twice as many are held in memory, about 16 MB each at 2 mm."""
    takes: PositiveInt = 6
    """How often a subject is seen on average, each time by another scanner."""
    masks: Path | None = None
    """A folder of segmented studies, or of masks alone, by which the lesions are shaped; None grows them."""
    masks_profile: str | None = None
    """The release whose label values those masks hold, where neither layout nor names say it."""

    @model_validator(mode="after")
    def _known(self) -> "SubjectSettings":
        if not self.profiles:
            raise ValueError("at least one profile is needed")
        try:
            for name in (*self.profiles, *([self.masks_profile] if self.masks_profile else [])):
                profile_named(name)
        except LabelError as error:
            raise ValueError(str(error)) from None
        return self


class DenseFitSettings(DenseSettings):
    """Dense training on phantoms."""

    steps: PositiveInt = 2000
    save_steps: PositiveInt = 200
    """Steps between checkpoints; an interrupted run goes on from the last."""


class EyeRecipe(Settings):
    """Pretraining of an encoder and its decoder on phantoms alone."""

    name: str
    out: Path
    seed: int = 0
    vision: PyramidSettings = PyramidSettings()
    grounding: GroundingSettings = GroundingSettings()
    subjects: SubjectSettings = SubjectSettings()
    fit: DenseFitSettings = DenseFitSettings()
    held_out: PositiveInt = 24
    """Unseen phantoms on which the finished eye is measured."""


R = TypeVar("R", bound=Settings)


def _assign(tree: dict[str, Any], assignment: str) -> None:
    key, separator, value = assignment.partition("=")
    if not separator:
        raise RecipeError(f"{assignment!r} is not an assignment; write key=value, e.g. fit.epochs=1")
    *parents, last = key.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            raise RecipeError(f"{key}: {parent} has no parts")
        tree = below
    tree[last] = yaml.safe_load(value)


def load_recipe(path: Path | str, assignments: Sequence[str] = ()) -> Recipe:
    """The recipe of a model (`load`)."""
    return load(Recipe, path, assignments)


def read_tree(path: Path, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """The keys and values of a recipe's file with `key=value` assignments (dotted keys, YAML values) applied.

    Raises `RecipeError` for what is no file of keys and values.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values; see recipes/")
    for assignment in assignments:
        _assign(tree, assignment)
    return tree


def _check_command(kind: type[Settings], path: Path, tree: dict[str, Any]) -> None:
    """Raises `RecipeError` where an eye's keys stand in the place of a model's, or a model's in that of an eye's."""
    of_eye = tree.keys() & (EyeRecipe.model_fields.keys() - Recipe.model_fields.keys())
    of_model = tree.keys() & (Recipe.model_fields.keys() - EyeRecipe.model_fields.keys())
    if kind is EyeRecipe and of_model and not of_eye:
        raise RecipeError(f"{path}: this is the recipe of a model, not of an eye: voxmoe train {path}")
    if kind is not EyeRecipe and of_eye and not of_model:
        raise RecipeError(f"{path}: this is the recipe of an eye, not of a model: voxmoe pretrain {path}")


def load(kind: type[R], path: Path | str, assignments: Sequence[str] = ()) -> R:
    """Read a recipe of a kind with assignments applied (`read_tree`).

    Raises `RecipeError` that names the file and every wrong key or value.
    """
    path = Path(path)
    tree = read_tree(path, assignments)
    _check_command(kind, path, tree)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{path}: {problems(error, kind)}") from None
