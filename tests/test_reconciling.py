"""A model reconciled with its own measurements: kept with its weights, and used where it answers."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from voxmoe.answering import Answerer
from voxmoe.cli.main import app
from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.methods import AND_MEASURED, MEASURED
from voxmoe.evidence import measure_study
from voxmoe.imaging.layouts import find_study, profile_named
from voxmoe.imaging.study import load_study
from voxmoe.model.mpllm import MpLLM
from voxmoe.publishing import publish
from voxmoe.reconciling import reconcile
from voxmoe.reporting import report_by_model
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import train
from voxmoe.vocabulary import Task

GLI = profile_named("gli-2024")
STUDY = "BraTS-GLI-00001-100"
QUESTION = "How large is the Resection Cavity, what shape has it, and where is it?"


@pytest.fixture(scope="module")
def reconciled(seeing_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reconciled") / "model"
    copytree(seeing_model, place)
    reconcile(place, [dataset], split="all")
    return place


def test_what_was_learnt_from_is_told(reconciled: Path) -> None:
    told = json.loads((reconciled / "manifest.json").read_text())["consensus"]
    assert (told["split"], told["questions"], told["patients"]) == ("all", 96, 4)
    assert told["labels"] == ["NETC", "SNFH", "ET", "RC"]
    for name in ("heads", "measured", "weighed"):
        assert set(told["accuracy"][name]) == {*map(str, Task), "mean"}


def test_only_the_votes_are_new(reconciled: Path, seeing_model: Path) -> None:
    before, after = (MpLLM.from_pretrained(place).own_state() for place in (seeing_model, reconciled))
    new = {name for name in after if name not in before}
    assert all(name.startswith("consensus.") for name in new)
    assert any(after[name].any() for name in new if name.endswith("shared"))
    assert all((after[name] == tensor).all() for name, tensor in before.items())


def test_an_evaluation_shows_heads_measurement_and_both(reconciled: Path, dataset: Path) -> None:
    methods = evaluate(reconciled, dataset, split="all")["methods"]
    assert list(methods)[-3:] == ["mpLLM", MEASURED, "mpLLM" + AND_MEASURED]
    both = methods["mpLLM" + AND_MEASURED]["tasks"]["mean"]["value"]
    assert both > methods["mpLLM"]["tasks"]["mean"]["value"]  # these are the questions that it was learnt from


def test_an_answer_weighs_in_what_is_measured_and_keeps_what_the_heads_say(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    alone = answerer.ask(study, QUESTION)
    measured = measure_study(answerer, study, GLI)
    both = answerer.ask(study, QUESTION, findings=measured.predicted)
    assert not alone.weighed
    assert both.weighed
    assert both.heads == alone.said
    assert both.said != alone.said
    assert both.out_of_scope == alone.out_of_scope
    assert not answerer.ask(study, "How large is the lesion?", findings=measured.predicted).weighed
    agreement = measured.behind(both).agreement["RC"]
    assert agreement == measured.behind(alone).agreement["RC"]  # held against it is what the heads say


def test_what_is_measured_in_a_given_mask_is_not_weighed_in(reconciled: Path, cohort: Path) -> None:
    files = find_study(str(cohort / STUDY))
    answerer, study = Answerer.from_pretrained(reconciled), load_study(files)
    assert measure_study(answerer, study, GLI, files.mask).predicted is None


def test_a_report_has_the_numbers_of_the_drawn_mask(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    measured = measure_study(answerer, study, GLI)
    report = report_by_model(answerer, study, GLI, measured)
    for reported in report.labels:
        found = measured.findings.labels[reported.label.key]
        if reported.measured is not None:
            assert reported.measured["volume_mm3"] == found.volume_mm3
        else:
            assert not (reported.present and found.present)


def test_the_command_line_weighs_unless_told_not_to(reconciled: Path, cohort: Path) -> None:
    ask = ["ask", str(cohort / STUDY), QUESTION, "--model", str(reconciled), "--profile", "gli-2024", "--json"]
    both = json.loads(CliRunner().invoke(app, ask).stdout)
    alone = json.loads(CliRunner().invoke(app, [*ask, "--heads-alone"]).stdout)
    assert alone["heads"] is None
    assert both["heads"] == alone["categories"]
    assert "evidence" not in both


def test_another_model_can_start_from_it_without_its_votes(
    reconciled: Path, tiny_recipe: Path, seeing_recipe: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "next"
    train(load_recipe(tiny_recipe, [*seeing_recipe, f"start={reconciled}", "fit.max_steps=1", f"out={out}"]))
    assert MpLLM.from_pretrained(out).settings.consensus is None


def test_it_is_published_with_the_model(reconciled: Path, tmp_path: Path) -> None:
    publish(reconciled, tmp_path / "published")
    assert Answerer.from_pretrained(tmp_path / "published").weighs


def test_what_cannot_be_reconciled_is_refused(tiny_model: Path, reconciled: Path, dataset: Path) -> None:
    with pytest.raises(WeightsError, match="no decoder"):
        reconcile(tiny_model, [dataset])
    with pytest.raises(DatasetError, match="split"):
        reconcile(reconciled, [dataset], split="nowhere")
