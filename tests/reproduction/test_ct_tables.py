"""The tables of TGH-MoE from nothing at a tiny size: every variation a valid recipe, made once, with its baselines."""

import json
from pathlib import Path

import pytest
import yaml

from voxmoe.errors import RecipeError
from voxmoe.evaluation.methods import BY_LIKELIHOOD, TEXT_ONLY
from voxmoe.evaluation.reading import READER
from voxmoe.reproduction.ct import (
    CTScale,
    CTWorkshop,
    ct_footnote,
    ct_plan,
    ct_table,
    load_ct_scale,
    reproduce_ct,
    runs_of,
)
from voxmoe.reproduction.ct_variations import BLIND, FULL, TABLES, VARIATIONS, Run
from voxmoe.reproduction.scale import Phantoms


@pytest.mark.parametrize("run", runs_of("ct-ablation"), ids=lambda run: run.name)
def test_every_run_is_a_valid_recipe(run: Run, tmp_path: Path) -> None:
    recipe = CTWorkshop(tmp_path, load_ct_scale("pocket")).recipe(run)
    assert recipe.name == run.name
    assert (recipe.start is None) == (run.start is None)


def test_variations_learn_for_as_long(tmp_path: Path) -> None:
    """All but the one of a single stage have two, of the same recipes."""
    for name, run in VARIATIONS.items():
        assert run.recipe == "experts"
        assert run.start is not None
        assert (run.start.recipe == "shared") != (name == "one stage")
    one = CTWorkshop(tmp_path, load_ct_scale("pocket"))
    steps = [one.recipe(run).fit.max_steps for run in (VARIATIONS["one stage"], FULL, FULL.start) if run is not None]
    assert steps[0] == steps[1] + steps[2]
    assert BLIND.start is not None
    assert BLIND.start.recipe == "shared"


def test_what_several_begin_with_is_one_run() -> None:
    names = [run.name for run in runs_of("ct-ablation")]
    assert len(names) == len(set(names))
    for name, run in ((run.name, run) for run in runs_of("ct-ablation")):
        if run.start is not None:
            assert names.index(run.start.name) < names.index(name)


@pytest.fixture(scope="module")
def workshop(tiny_language: Path, tmp_path_factory: pytest.TempPathFactory) -> CTWorkshop:
    recipes = {name: dict(recipe) for name, recipe in load_ct_scale("pocket").recipes.items()}
    for recipe in recipes.values():
        model = dict(recipe["model"])
        language = {"name": str(tiny_language), "lora": None}
        model["base"] = {
            "kind": "fresh",
            "language": language,
            "size": 16,
            "patch": 4,
            "hidden": 16,
            "layers": 3,
            "heads": 2,
            "merge": 4,
        }
        depth = model["pictures"].get("depth")
        model["pictures"] = {**model["pictures"], "size": 16, "depth": depth and 4}
        model["lora"] = {"rank": 2, "alpha": 4, "dropout": 0.0}
        recipe["model"] = model
        recipe["fit"] = {**recipe["fit"], "max_steps": 1, "batch_size": 4}
    scale = CTScale(name="tiny", summary="tiny", phantoms=Phantoms(studies=3, seed=1), recipes=recipes)
    return CTWorkshop(tmp_path_factory.mktemp("ct"), scale)


def test_the_main_table_is_made_once(workshop: CTWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxmoe.evaluation.reading.LONGEST", dict.fromkeys(("report", "closed", "open"), 3))
    assert not any(run["there"] for run in ct_plan(workshop, "ct-main"))
    table = reproduce_ct(workshop, "ct-main")
    assert all(run["there"] for run in ct_plan(workshop, "ct-main"))
    assert json.loads((workshop.out / "ct-main.json").read_text()) == table
    told = ct_table(table)
    names = [row[0] for row in told.rows]
    assert names[0] == TABLES["ct-main"][1][0]
    assert names[1:] == ["text-only", "random", "majority class"]
    likeliest = 1 + told.columns.index("closed, likeliest")
    assert [row[likeliest] == "-" for row in told.rows] == [False, False, True, True]
    older = json.loads(json.dumps(table).replace("closed_by_likelihood", "unknown"))
    assert "closed, likeliest" not in ct_table(older).columns
    assert all(len(row) == len(told.columns) + 1 for row in told.rows)
    assert "tiny" in ct_footnote(table)
    record = workshop.evaluated(FULL)
    assert record["experts"]["layers"] == [1, 2]
    assert {READER, READER + BY_LIKELIHOOD, TEXT_ONLY + BY_LIKELIHOOD} <= set(record["methods"])
    monkeypatch.setattr("voxmoe.reproduction.ct.train_reader", None)
    monkeypatch.setattr("voxmoe.reproduction.ct.evaluate_reader", None)
    assert reproduce_ct(workshop, "ct-main") == table


@pytest.mark.slow
def test_the_ablation_is_made_from_the_same_runs_and_again_where_weights_changed(
    workshop: CTWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxmoe.evaluation.reading.LONGEST", dict.fromkeys(("report", "closed", "open"), 3))
    table = reproduce_ct(workshop, "ct-ablation")
    assert [row["name"] for row in table["variations"]] == list(TABLES["ct-ablation"][1])
    assert all(run["there"] for run in ct_plan(workshop, "ct-ablation"))
    full = workshop.trained(FULL)
    kept = json.loads((full / "evaluation-test.json").read_text())
    kept["manifest"]["models"] = {name: {**one, "sha256": "0"} for name, one in kept["manifest"]["models"].items()}
    (full / "evaluation-test.json").write_text(json.dumps(kept))
    again = workshop.evaluated(FULL)
    assert again["manifest"]["models"] != kept["manifest"]["models"], "it was of other weights"
    assert again["methods"] == kept["methods"]


def test_another_scale_is_refused() -> None:
    with pytest.raises(RecipeError, match="have no scale 'paper'; there are pocket"):
        load_ct_scale("paper")


@pytest.mark.parametrize("stage", ["tissues", "texts", "slices", "shared", "experts"])
def test_the_pocket_scale_holds_the_shipped_recipes(stage: str) -> None:
    """All but for where things lie."""
    shipped = yaml.safe_load((Path(__file__).parents[2] / "recipes" / f"ct-{stage}.yaml").read_text())
    assert load_ct_scale("pocket").recipes[stage] == shipped
