"""Recipes: every shipped one is valid, and what is wrong is named."""

import shlex
from pathlib import Path

import pytest
import torch

from voxmoe.errors import RecipeError
from voxmoe.model.connector import make_connector
from voxmoe.model.features import VisionFeatures
from voxmoe.training.any_recipe import load_any
from voxmoe.training.reader_run import train_reader
from voxmoe.training.recipe import EyeRecipe, load, load_recipe
from voxmoe.training.run import train

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
DEMO = Path(__file__).parents[2] / "recipes" / "demo.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load(EyeRecipe, path) if path.stem == "eye" else load_any(path)[0]
    assert recipe.name == path.stem


def test_a_recipe_is_run_by_its_system() -> None:
    assert load_any(DEMO)[1] is train
    assert load_any(DEMO.with_name("ct-shared.yaml"))[1] is train_reader
    with pytest.raises(RecipeError, match="system is 'gpt'; there are mpllm and tgh-moe"):
        load_any(DEMO, ["system=gpt"])


def test_recipes_of_eyes_and_models_are_told_apart() -> None:
    eye = DEMO.with_name("eye.yaml")
    with pytest.raises(RecipeError, match=r"eye\.yaml: this is the recipe of an eye, .*: voxmoe pretrain .*eye\.yaml"):
        load_any(eye)
    for model in (DEMO, DEMO.with_name("ct-shared.yaml")):
        with pytest.raises(RecipeError, match=rf"{model.name}: this is the recipe of a model, .*: voxmoe train "):
            load(EyeRecipe, model)
    with pytest.raises(RecipeError, match="subjects: no such key; there are"):
        load_any(DEMO, ["subjects={}"])


def test_a_decoder_comes_with_its_encoder() -> None:
    vision = "model.vision={kind: pyramid, weights: one}"
    with pytest.raises(RecipeError, match="have to name the same eye"):
        load_recipe(DEMO, ["eye=null", vision, "model.grounding={weights: another}"])
    with pytest.raises(RecipeError, match="leave eye out"):
        load_recipe(DEMO, [vision, "model.grounding={weights: one}"])
    assert load_recipe(DEMO, ["eye=null", vision, "model.grounding={weights: one}"]).model.grounding is not None


def _pocket_baselines() -> list[list[str]]:
    """The assignments of the commands in docs/baselines.md."""
    page = Path(__file__).parents[2] / "docs" / "baselines.md"
    commands = [line.strip() for line in page.read_text().splitlines() if line.startswith("    voxmoe train")]
    return [shlex.split(command)[3:] for command in commands]


@pytest.mark.parametrize("assignments", _pocket_baselines(), ids=lambda found: found[-1])
def test_pocket_baselines_of_the_documentation(assignments: list[str]) -> None:
    model = load_recipe(DEMO, assignments).model
    vision = model.vision
    assert vision is not None
    with torch.device("meta"):
        connector = make_connector(model.connector, 4, vision, 576)
        low = torch.empty(1, 4, vision.low_tokens, vision.low_hidden) if vision.kind == "dcformer" else None
        seen = (torch.empty(1, 4, vision.tokens, vision.hidden), torch.empty(1, 4, vision.hidden))
        fused = connector(VisionFeatures(*seen, torch.ones(1, 4, dtype=torch.bool), low))
    assert fused.tokens.shape == (1, 4 * (8 if model.connector.kind == "radfm" else 64), 576)


def test_an_encoder_is_tuned_only_where_nothing_else_was_trained_with_it() -> None:
    eye = ["model.vision={kind: pyramid, weights: runs/eye}", "eye=null"]
    assert load_recipe(DEMO, [*eye, "fit.tune_encoder=true"]).fit.tune_encoder
    grounded = [*eye, "model.grounding={weights: runs/eye}", "fit.tune_encoder=true"]
    with pytest.raises(RecipeError, match=r"set model\.grounding and model\.chart to null"):
        load_recipe(DEMO, grounded)
    for vision, found in (("null", "null"), ("{kind: dcformer}", "dcformer")):
        with pytest.raises(RecipeError, match=rf"of the kind vit or pyramid, and model\.vision is {found}"):
            load_recipe(DEMO, [f"model.vision={vision}", "eye=null", "fit.tune_encoder=true"])


def test_what_a_chart_shows_is_drawn_before_modalities_are_left_out() -> None:
    seeing = ["eye=null", "model.vision={kind: pyramid, weights: one}", "model.grounding={weights: one}"]
    with pytest.raises(RecipeError, match=r"set augment\.modality_dropout instead"):
        load_recipe(DEMO, [*seeing, "model.chart={}"])
    assert load_recipe(DEMO, [*seeing, "model.chart={}", "fit.modality_dropout=0"]).model.chart is not None


def test_one_dataset_or_several() -> None:
    assert load_recipe(DEMO, ["data=one"]).data == (Path("one"),)
    assert load_recipe(DEMO, ["data=[one, two]", "eye=null"]).data == (Path("one"), Path("two"))
    with pytest.raises(RecipeError, match="name one in data, or leave eye out"):
        load_recipe(DEMO, ["data=[one, two]"])
    with pytest.raises(RecipeError, match="at least 1 item"):
        load_recipe(DEMO, ["data=[]"])


def test_assignments_reach_into_the_tree() -> None:
    recipe = load_recipe(DEMO, ["fit.epochs=3", "model.connector.gate=softmax", "model.vision.layers=2", "eye=null"])
    assert recipe.fit.epochs == 3
    assert recipe.model.connector.gate == "softmax"
    assert recipe.model.vision is not None
    assert recipe.model.vision.layers == 2
    assert recipe.eye is None
    assert load_recipe(DEMO, ["model.vision=null"]).model.vision is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("fit.epoch=1", r"fit\.epoch: no such key; there are .*, epochs, .*warm_up"),
        ("dat=one", r"yaml: dat: no such key; there are name, data, .*, features$"),
        (
            "model.vision.layer=1",
            r"model\.vision\.vit\.layer: no such key; there are .*patch, pool, hidden, layers.*mlp$",
        ),
        ("model.language.lora.r=1", r"lora\.r: no such key; there are rank, alpha, dropout$"),
        ("fit.epochs=none", r"fit\.epochs"),
        ("fit.modality_dropout=1.5", "less than 1"),
        ("fit.max_steps=0", r"fit\.max_steps"),
        ("model.loss.volume=-1", r"model\.loss\.volume"),
        ("model.vision.heads=0", r"model\.vision.*heads"),
        ("model.connector.router_hidden=0", r"router_hidden"),
        ("model.language.lora.rank=0", r"model\.language\.lora\.rank"),
        ("model.vision.patch=[5, 16, 16]", "not a multiple"),
        ("epochs", "key=value"),
        ("name.first=x", "has no parts"),
    ],
)
def test_wrong_keys_and_values_are_named(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(DEMO, [assignment])


@pytest.mark.parametrize("content", ["- a list", "key: [unclosed", "name: x"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
