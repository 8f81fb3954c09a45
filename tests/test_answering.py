"""Questions about a study: the form of the answer, and what is kept between questions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import make_study
from voxmoe.answering import Answerer, _regions
from voxmoe.errors import QuestionError, WeightsError
from voxmoe.imaging.layouts import find_study
from voxmoe.imaging.study import Study, load_study
from voxmoe.model.features import VisionFeatures
from voxmoe.model.heads import probabilities
from voxmoe.model.mpllm import MpLLM
from voxmoe.training.features import FeatureCache, stack
from voxmoe.vocabulary import ABSENT, CLASSES, NO_REGION, NOT_ASKED, Modality, Task


@pytest.fixture(scope="module")
def answerer(tiny_model: Path) -> Answerer:
    return Answerer.from_pretrained(tiny_model)


def test_the_answer_says_what_the_heads_say(answerer: Answerer) -> None:
    answer = answerer.ask(make_study(), "How large is the Enhancing Tissue?").to_json()
    assert list(answer) == [
        "question", "text", "categories", "heads", "out_of_scope", "experts", "modalities", "model", "seconds",
    ]  # fmt: skip
    assert answer["categories"]["volume"]["category"] in CLASSES[Task.VOLUME]
    assert 0 <= answer["out_of_scope"]["probability"] <= 1
    assert sum(answer["experts"]) == pytest.approx(1)
    assert len(answer["experts"]) == 4
    assert answer["modalities"] == ["T1", "T1Gd", "T2", "FLAIR"]


def test_missing_modalities_are_answered_from_the_others(answerer: Answerer) -> None:
    answer = answerer.ask(make_study(modalities=(Modality.T2,)), "Where is the edema?")
    assert answer.modalities == (Modality.T2,)


def test_a_study_is_encoded_once(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(seed=5)
    first = answerer.ask(study, "Where is the edema?")
    monkeypatch.setattr(answerer.model, "encode_images", None)
    second = answerer.ask(study, "Where is the edema?")
    assert (first.text, first.categories) == (second.text, second.categories)


def test_questions_and_studies_go_to_where_the_model_is(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer.from_pretrained(tiny_model)
    study = make_study(seed=8)
    features = answerer.cache.of(study)
    answerer.model.to("meta")
    monkeypatch.setattr(answerer.model, "listen", lambda question_ids, question_mask: {"prompt": question_ids})
    monkeypatch.setattr(answerer.model, "look", VisionFeatures.inputs)
    answerer._keep(study, features)
    heard, seen = answerer._heard("Where is the edema?"), answerer._look(study)
    assert {tensor.device.type for tensor in (*heard.values(), *seen.values())} == {"meta"}


def test_a_question_is_read_by_the_router_once_for_all_studies(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, question = [make_study(seed=6), make_study(seed=7)], "Where is the edema, and what shape has it?"
    fresh = [answerer.ask(study, question) for study in studies]
    answerer._heard.cache_clear()
    answerer.ask(studies[0], question)
    monkeypatch.setattr(answerer.model, "_prompt_hidden", None)
    again = [answerer.ask(study, question) for study in studies]
    assert [replace(answer, seconds=0.0) for answer in again] == [replace(answer, seconds=0.0) for answer in fresh]


@pytest.mark.parametrize("made", ["tiny_model", "charting_model"])
def test_answers_are_those_of_the_model_as_it_was_trained(request: pytest.FixtureRequest, made: str) -> None:
    """Settled adapters and what is kept between questions change nothing."""
    place, study = request.getfixturevalue(made), make_study(seed=8)
    trained, asked = MpLLM.from_pretrained(place), Answerer.from_pretrained(place)
    ups = [parameter for name, parameter in trained.named_parameters() if ".lora_B." in name]
    assert any(up.any() for up in ups)
    features = stack([FeatureCache(trained).of(study)])
    for question in ("How large is the Enhancing Tissue?", "What shape has it?", "How large is the Enhancing Tissue?"):
        with torch.no_grad():
            output = trained(**asked.processor([question]), **features)
        expected = probabilities(output.heads)
        answer = asked.ask(study, question, say=False)
        assert answer.experts == pytest.approx(output.expert_weights[0].tolist(), abs=1e-5)
        assert answer.out_of_scope == pytest.approx(float(expected["out_of_scope"][0, 1]), abs=1e-5)
        for task, said in answer.categories.items():
            assert said.probability == pytest.approx(float(expected[str(task)].max()), abs=1e-5)


def test_a_model_that_learnt_no_text_answers_by_its_heads_alone(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answerer.ask(make_study(), "Where is the edema?")
    settings = answerer.model.settings
    silent = settings.model_copy(update={"loss": settings.loss.model_copy(update={"text": 0.0})})
    monkeypatch.setattr(answerer.model, "settings", silent)
    monkeypatch.setattr(answerer.model, "generate", None)
    after = answerer.ask(make_study(), "Where is the edema?")
    assert after.text == ""
    assert after.categories == before.categories


@pytest.mark.parametrize("question", ["", " \n", "how " * 400])
def test_unaskable_questions_are_refused(answerer: Answerer, question: str) -> None:
    with pytest.raises(QuestionError):
        answerer.ask(make_study(), question)


def chances(**by_name: float) -> torch.Tensor:
    return torch.tensor([by_name.get(name.replace(" ", "_").replace("/", ""), 0.1) for name in CLASSES[Task.REGION]])


def test_regions_are_those_above_one_half() -> None:
    assert [r.name for r in _regions(chances(frontal=0.9, insula=0.6))] == ["frontal", "insula"]
    assert [r.name for r in _regions(chances(NA=0.8, insula=0.6))] == [ABSENT]
    assert [r.name for r in _regions(chances())] == [NO_REGION]
    assert _regions(chances(not_asked=0.7, frontal=0.9)) == ()
    assert NOT_ASKED in CLASSES[Task.REGION]


def test_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such model folder"):
        Answerer.from_pretrained(tmp_path / "none")


@pytest.mark.real
def test_every_real_study_is_answered_with_and_without_a_modality(answerer: Answerer, real_data: Path) -> None:
    folders = [*sorted((real_data / "brats").iterdir()), real_data / "own_scan"]
    assert len(folders) == 8
    for folder in folders:
        study = load_study(find_study(folder))
        assert study.modalities == tuple(Modality)
        whole = answerer.ask(study, "How large is the Enhancing Tissue?")
        for missing in Modality:
            kept = {modality: volume for modality, volume in study.images.items() if modality is not missing}
            answer = answerer.ask(Study(study.id, kept), "How large is the Enhancing Tissue?")
            assert missing not in answer.modalities
            assert answer.experts == whole.experts, "the experts are chosen by the question"
            assert answer.categories[Task.VOLUME].probability != whole.categories[Task.VOLUME].probability
