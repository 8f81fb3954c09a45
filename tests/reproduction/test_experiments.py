"""The paper's tables as data: complete, as printed, and every model a valid recipe at both scales."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from voxmoe.errors import RecipeError
from voxmoe.model.concatenation import Med3DVLMSettings
from voxmoe.model.experts import ExpertSettings
from voxmoe.reproduction.experiments import DATASETS, EXPERIMENTS, MEASURES, MED3DVLM, Experiment
from voxmoe.reproduction.run import Workshop, plans, reproduced, workshop_at
from voxmoe.reproduction.scale import load_scale


def workshop(folder: Path, scale: str = "pocket") -> Workshop:
    return Workshop(folder, load_scale(scale), {})


@pytest.mark.parametrize("scale", ["pocket", "paper"])
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_every_model_of_every_table_is_a_valid_recipe(experiment: Experiment, scale: str, tmp_path: Path) -> None:
    base = workshop(tmp_path, scale)
    for row in base.rows(experiment):
        recipe = base.recipe(base.model(row.model), row.dataset)
        assert recipe.out == tmp_path / "runs" / row.dataset / row.model.name
        assert len(row.cells) == len(experiment.columns)


def test_models_of_one_name_are_one_model() -> None:
    models = [row.model for experiment in EXPERIMENTS.values() for row in experiment.rows]
    assert len({model.name for model in models}) == len(set(models))


def test_table_2_is_the_paper_s() -> None:
    rows = EXPERIMENTS["table2"].rows
    assert {row.dataset for row in rows} == set(DATASETS)
    printed = [row.printed for row in rows if row.printed]
    assert len(printed) == 15
    for figures in printed:
        tasks = [figures[name].value for name in MEASURES[:-1]]
        assert figures["mean"].value == pytest.approx(mean(tasks), abs=0.06)


def test_the_number_of_experts_is_the_table_s(tmp_path: Path) -> None:
    for row in EXPERIMENTS["table12"].rows:
        connector = workshop(tmp_path).recipe(row.model, row.dataset).model.connector
        assert isinstance(connector, ExpertSettings)
        assert connector.count == int(row.cells[0])


def test_a_scale_adds_the_sizes_of_a_system_s_own_parts(tmp_path: Path) -> None:
    workshops = (workshop(tmp_path, scale) for scale in ("pocket", "paper"))
    small, full = (one.recipe(one.model(MED3DVLM), "gli").model for one in workshops)
    assert isinstance(small.connector, Med3DVLMSettings)
    assert small.connector != full.connector == Med3DVLMSettings()


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no scale is called 'huge'; there are pocket, paper"):
        load_scale("huge")
    with pytest.raises(RecipeError, match="write DATASET=FOLDER"):
        workshop_at(tmp_path, "paper", ["brain=/data"], lambda stage, done, total: None)
    with pytest.raises(RecipeError, match="needs real studies: --cohort gli=FOLDER"):
        workshop(tmp_path, "paper").dataset("gli")


def test_studies_that_are_lacking_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    given = replace(workshop(tmp_path, "paper"), cohorts={"gli": tmp_path})
    with pytest.raises(RecipeError, match=r"needs real studies: --cohort met=FOLDER --cohort goat=FOLDER$"):
        reproduced(given, ["table3", "table2"])
    assert not list(tmp_path.iterdir())
    assert plans(given, ["table2"])
