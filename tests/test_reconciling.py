"""A model reconciled with its own measurements: kept with its weights, and used where it answers."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from voxmoe.answering import Answerer
from voxmoe.cli.main import app
from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.methods import AND_MEASURED, MEASURED
from voxmoe.evaluation.tables import summary
from voxmoe.evidence import ask_all, measure_study
from voxmoe.files import sha256
from voxmoe.imaging.layouts import find_study, profile_named
from voxmoe.imaging.study import load_study
from voxmoe.model.consensus import Consensus
from voxmoe.publishing import publish
from voxmoe.reconciling import reconcile
from voxmoe.reporting import report_by_model
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import train
from voxmoe.vocabulary import Task
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import protocol_named

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


def test_the_weights_stay_as_they_are(reconciled: Path, seeing_model: Path) -> None:
    assert sha256(reconciled / "model.safetensors") == sha256(seeing_model / "model.safetensors")
    consensus = Consensus.beside(reconciled)
    assert consensus is not None
    assert any(tensor.any() for name, tensor in consensus.state_dict().items() if name.endswith("shared"))


def test_an_evaluation_shows_heads_measurement_and_both(reconciled: Path, dataset: Path) -> None:
    found = evaluate(reconciled, dataset, split="all")
    methods = found["methods"]
    assert list(methods)[-3:] == ["mpLLM", MEASURED, "mpLLM" + AND_MEASURED]
    both = methods["mpLLM" + AND_MEASURED]["tasks"]["mean"]["value"]
    for other, difference in found["differences_weighed"].items():
        assert difference["mean"]["value"] == pytest.approx(both - methods[other]["tasks"]["mean"]["value"], abs=0.01)
    assert set(found["differences_weighed"]) == set(methods) - {"mpLLM" + AND_MEASURED}
    titles = [table.title for table in summary(found)]
    assert sum("and measurement is better" in title for title in titles) == 1
    assert both > methods["mpLLM"]["tasks"]["mean"]["value"]  # these are the questions that it was learnt from


def test_an_answer_weighs_in_what_is_measured_and_keeps_what_the_heads_say(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    alone = answerer.ask(study, QUESTION)
    measured = measure_study(answerer, study, GLI)
    both = answerer.ask(study, QUESTION, drawn=measured.drawn)
    assert alone.heads is None
    assert both.heads == alone.terms
    assert both.terms != alone.terms
    assert both.out_of_scope == alone.out_of_scope
    agreement = measured.behind(both).agreement["RC"]
    assert agreement == measured.behind(alone).agreement["RC"]  # held against it is what the heads say
    assert measured.behind(alone).weighed is None
    weighed = measured.behind(both).weighed
    assert weighed is not None
    found = measured.findings.labels["RC"]
    assert weighed["RC"][Task.VOLUME] == (both.terms.named(Task.VOLUME) == set(found.answer(Task.VOLUME)))
    assert measured.behind(both).to_json()["agreement_weighed"]["RC"].keys() == weighed["RC"].keys()


@pytest.mark.parametrize("evidence", [False, True])
def test_all_are_answered_as_the_command_does(reconciled: Path, cohort: Path, evidence: bool) -> None:
    answerer, files = Answerer.from_pretrained(reconciled), find_study(str(cohort / STUDY))
    study = load_study(files)
    weighed = answerer.ask(study, QUESTION, drawn=measure_study(answerer, study, GLI).drawn)
    for profile in (None, GLI):
        (told, lesion), measured = ask_all(
            answerer, study, [QUESTION, "How large is the lesion?"], profile=profile, evidence=evidence
        )
        assert (told.terms, told.heads) == (weighed.terms, weighed.heads)
        assert lesion.heads is None, "it names no label"
        assert (measured is not None) == evidence
    ((alone,), _) = ask_all(answerer, study, [QUESTION], heads_alone=True)
    ((beside_mask,), given) = ask_all(answerer, study, [QUESTION], profile=GLI, given=files.mask)
    assert alone.terms == beside_mask.terms == weighed.heads
    assert given is not None
    assert given.source == "given mask"


@pytest.mark.parametrize(
    "question", ["How large is the lesion?", "How large are the Resection Cavity and the Enhancing Tissue?"]
)
def test_of_no_label_or_of_several_nothing_is_weighed_in(reconciled: Path, cohort: Path, question: str) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    assert answerer.ask(study, question, drawn=measure_study(answerer, study, GLI).drawn).heads is None


def test_of_a_label_that_the_model_has_not_learnt_about_nothing_is_weighed_in(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    drawn = measure_study(answerer, study, profile_named("brats-2021")).drawn
    assert answerer.ask(study, "How large is the Peritumoral Edema?", drawn=drawn).heads is None


def test_a_label_table_of_the_dataset_s_own_is_weighed_by_its_names(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    own = replace(GLI, name="bids:somewhere")
    both = answerer.ask(study, QUESTION, drawn=measure_study(answerer, study, own).drawn)
    assert both.terms == answerer.ask(study, QUESTION, drawn=measure_study(answerer, study, GLI).drawn).terms


def test_a_question_is_measured_by_the_study_s_labels_or_else_by_those_that_it_names(reconciled: Path) -> None:
    answerer = Answerer.from_pretrained(reconciled)
    assert answerer.measured_by(QUESTION) == answerer.measured_by(QUESTION, GLI) == GLI
    assert answerer.measured_by("How large is the Peritumoral Edema?") is None, "it was not learnt about"
    other = profile_named("met-2025")  # which has the same names
    assert answerer.measured_by(QUESTION, other) == other
    assert answerer.measured_by(QUESTION, profile_named("brats-2021")) is None, "the study has no such label"
    answerer.consensus = None
    assert answerer.measured_by(QUESTION) is None


def test_what_is_measured_in_a_given_mask_is_not_weighed_in(reconciled: Path, cohort: Path) -> None:
    files = find_study(str(cohort / STUDY))
    answerer, study = Answerer.from_pretrained(reconciled), load_study(files)
    assert measure_study(answerer, study, GLI, files.mask).drawn is None


def test_a_report_has_the_numbers_of_the_drawn_mask(reconciled: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(reconciled), load_study(find_study(str(cohort / STUDY)))
    drawn = measure_study(answerer, study, GLI).drawn
    assert drawn is not None
    report = report_by_model(answerer, study, GLI, drawn)
    assert report.weighed
    for reported in report.labels:
        found = drawn.findings.labels[reported.label.key]
        if reported.measured is None:
            assert not (reported.present and found.present)
            continue
        assert reported.measured["volume_mm3"] == found.volume_mm3
        agrees = [term.name for term in reported.terms[Task.SPREAD]] == [found.spread]
        assert reported.measured["components"] == (found.components if agrees else None)
    assert not report_by_model(answerer, study, GLI).weighed


def test_a_model_that_has_not_learnt_to_weigh_reports_by_its_heads(seeing_model: Path, cohort: Path) -> None:
    answerer, study = Answerer.from_pretrained(seeing_model), load_study(find_study(str(cohort / STUDY)))
    drawn = measure_study(answerer, study, GLI).drawn
    assert report_by_model(answerer, study, GLI, drawn) == report_by_model(answerer, study, GLI)


def test_the_command_line_weighs_unless_told_not_to(reconciled: Path, cohort: Path) -> None:
    ask = ["ask", str(cohort / STUDY), QUESTION, "--model", str(reconciled), "--profile", "gli-2024", "--json"]
    both = json.loads(CliRunner().invoke(app, ask).stdout)
    alone = json.loads(CliRunner().invoke(app, [*ask, "--heads-alone"]).stdout)
    assert alone["heads"] is None
    assert both["heads"] == alone["categories"]
    assert "evidence" not in both


def test_a_mask_that_is_given_leaves_the_answer_to_the_heads(reconciled: Path, cohort: Path) -> None:
    mask = find_study(str(cohort / STUDY)).mask
    ask = ["ask", str(cohort / STUDY), QUESTION, "--model", str(reconciled), "--profile", "gli-2024", "--json"]
    told = json.loads(CliRunner().invoke(app, [*ask, "--mask", str(mask)]).stdout)
    assert told["heads"] is None
    assert told["evidence"]["source"] == "given mask"


def test_the_command_line_reports_what_is_weighed(reconciled: Path, cohort: Path) -> None:
    report = ["report", str(cohort / STUDY), "--model", str(reconciled), "--profile", "gli-2024", "--json"]
    both = json.loads(CliRunner().invoke(app, report).stdout)
    alone = json.loads(CliRunner().invoke(app, [*report, "--heads-alone"]).stdout)
    assert (both["weighed"], alone["weighed"]) == (True, False)
    assert "weighed with the mask that it draws" in both["text"]


def test_training_anew_removes_it(tiny_recipe: Path, seeing_recipe: list[str], dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, [*seeing_recipe, "fit.max_steps=1", f"out={tmp_path}"])
    train(recipe)
    Consensus(["ET"]).save(tmp_path)
    train(load_recipe(tiny_recipe, [*seeing_recipe, "fit.max_steps=2", f"out={tmp_path}"]))
    assert Consensus.beside(tmp_path) is None


def test_it_is_published_with_the_model(reconciled: Path, cohort: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(reconciled, published)
    assert "96 questions about 4 patients" in (published / "README.md").read_text()
    study = load_study(find_study(str(cohort / STUDY)))
    answers = []
    for place in (reconciled, published):
        answerer = Answerer.from_pretrained(place)
        answers.append(answerer.ask(study, QUESTION, drawn=measure_study(answerer, study, GLI).drawn))
    for task, category in answers[0].categories.items():
        assert answers[1].categories[task].probability == pytest.approx(category.probability, abs=0.05)


def test_two_datasets_teach_together(seeing_model: Path, dataset: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    copytree(seeing_model, place)
    told = reconcile(place, [dataset, dataset], split="all")
    assert (told["questions"], told["patients"]) == (192, 8)


def test_what_cannot_be_reconciled_is_refused(
    tiny_model: Path, reconciled: Path, dataset: Path, cohort: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="no decoder"):
        reconcile(tiny_model, [dataset])
    with pytest.raises(DatasetError, match="split"):
        reconcile(reconciled, [dataset], split="nowhere")
    with pytest.raises(DatasetError, match="single patient"):
        reconcile(reconciled, [dataset], split="validation")
    build_dataset(cohort, tmp_path / "other", protocol_named("code-v3"))
    with pytest.raises(DatasetError, match="by the protocol code-v3"):
        reconcile(reconciled, [tmp_path / "other"], split="all")
