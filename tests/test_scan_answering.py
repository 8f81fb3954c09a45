"""Questions about a CT: the form of the answer, what is kept between questions, and what is not taken."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import make_study
from voxmoe.answering import Answerer
from voxmoe.any_model import open_model, system_of
from voxmoe.errors import ImageError, QuestionError, StudyError, WeightsError
from voxmoe.imaging.ct import read_array
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.scan_answering import ScanAnswerer
from voxmoe.vocabulary import CTTask, Modality
from voxmoe.vqa.ct.exchange import REPORT_PROMPT

QUESTIONS = [
    "where?",
    "how many are there in the left lung?",
    "is it large?",
    "describe it",
    "which organ is enlarged?",
]


@pytest.fixture(scope="module")
def torso() -> Volume:
    from voxmoe.imaging.torso import draw_torso

    drawn: Volume = draw_torso(9, shape=(64, 64, 32)).volume
    return drawn


@pytest.fixture
def answerer(tiny_reader: Path) -> ScanAnswerer:
    return ScanAnswerer.from_pretrained(tiny_reader)


@pytest.fixture
def mri() -> Volume:
    return make_study().images[Modality.T1]


def kept_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of a method from now on."""
    calls: list[tuple[Any, ...]] = []
    method = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, called)
    return calls


def fresh(answerer: ScanAnswerer, question: str, volume: Volume) -> str:
    """What the model says to a question about a volume, without anything kept."""
    with torch.no_grad():
        ids = answerer.model.generate(**answerer.processor([question], [volume]), max_new_tokens=48)
    return answerer.processor.decode_answers(ids)[0]


def test_the_form_of_an_answer(answerer: ScanAnswerer, torso: Volume, tiny_reader: Path) -> None:
    said = answerer.ask(torso, "Which side?", ["left", "right"]).to_json()
    assert list(said) == ["question", "text", "choice", "choices", "task", "model", "seconds"]
    assert [(one["letter"], one["text"]) for one in said["choices"]] == [("A", "left"), ("B", "right")]
    assert sum(one["probability"] for one in said["choices"]) == pytest.approx(1)
    assert said["question"] == "Which side?"
    assert said["task"]["name"] in set(CTTask)
    assert 1 / 3 <= said["task"]["probability"] <= 1
    assert said["model"] == str(tiny_reader)
    assert json.loads(json.dumps(said)) == said
    report = answerer.report(torso)
    assert report.question == REPORT_PROMPT
    assert report.choice is None
    assert report.choices == ()
    assert "not a medical device" in report.to_report()["limits"]


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("B. the right", {"letter": "B", "text": "the right"}),
        ("It is on the left", {"letter": "A", "text": "left"}),
        ("A or B", None),
    ],
)
def test_the_choice_that_a_text_names_is_read_off(
    answerer: ScanAnswerer, torso: Volume, monkeypatch: pytest.MonkeyPatch, said: str, choice: Any
) -> None:
    asked = kept_calls(monkeypatch, answerer.processor, "prompt")
    monkeypatch.setattr(answerer.processor, "decode_answers", lambda ids: [said])
    answer = answerer.ask(torso, " Which side? ", ["left", "the right"]).to_json()
    assert asked == [("Which side? Choices: A. left B. the right",)], "as in training"
    assert (answer["text"], answer["choice"]) == (said, choice)
    assert [(one["letter"], one["text"]) for one in answer["choices"]] == [("A", "left"), ("B", "the right")]
    plain = answerer.ask(torso, "Which side?")
    assert (plain.choice, plain.choices) == (None, ())


def test_a_volume_is_looked_at_once_for_each_group_and_answered_as_anew(
    answerer: ScanAnswerer, torso: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, opened = (kept_calls(monkeypatch, answerer.model, name) for name in ("look", "opened"))
    kept = [answerer.ask(torso, question) for question in QUESTIONS]
    groups = {answer.task.name for answer in kept if answer.task}
    assert len(groups) > 1, "else this shows nothing"
    assert len(looks) == len(opened) == len(groups)
    assert all(view.opening is not None for view in answerer._seen[torso].views.values())
    for question, answer in zip(QUESTIONS, kept, strict=True):
        assert answer.text == fresh(answerer, question, torso)
    other = replace(torso, data=torso.data[:, ::-1].copy())
    answerer.ask(other, QUESTIONS[0])
    assert len(looks) == len(groups) + len(QUESTIONS) + 1
    del other
    assert len(answerer._seen) == 1


def test_prompts_and_volumes_go_to_where_the_model_is(
    answerer: ScanAnswerer, torso: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer.model.to("meta")
    asked: list[str] = []

    def route(prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> None:
        asked.extend(tensor.device.type for tensor in (prompt_ids, prompt_mask))

    def look(pixels: torch.Tensor, routing: Any) -> None:
        asked.append(pixels.device.type)
        raise InterruptedError

    monkeypatch.setattr(answerer.model, "route", route)
    monkeypatch.setattr(answerer.model, "look", look)
    with pytest.raises(InterruptedError):
        answerer.ask(torso, "Which side?")
    assert asked == ["meta"] * 3


def test_a_soft_router_looks_by_every_question(
    tiny_reader: Path, torso: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "soft"
    shutil.copytree(tiny_reader, folder)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["experts"]["soft"] = True
    (folder / "config.json").write_text(json.dumps(config))
    answerer = ScanAnswerer.from_pretrained(folder)
    looks = kept_calls(monkeypatch, answerer.model, "look")
    answers = [answerer.ask(torso, question) for question in QUESTIONS]
    assert len(looks) == len(QUESTIONS)
    assert not answerer._seen[torso].views, "nothing is kept that no other question can use"
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert answer.text == fresh(answerer, question, torso)


def test_what_cannot_be_asked_is_refused(answerer: ScanAnswerer, torso: Volume) -> None:
    for question in ("", " \n"):
        with pytest.raises(QuestionError, match="is empty"):
            answerer.ask(torso, question, ["a", "b"])
    with pytest.raises(QuestionError, match="at most 512"):
        answerer.ask(torso, "how " * 400)
    for choices in (["one"], ["a", " A"], ["a", ""], list("abcdefghi")):
        with pytest.raises(QuestionError, match="2 to 8 that differ"):
            answerer.ask(torso, "which?", choices)


def test_what_is_no_ct_is_refused(answerer: ScanAnswerer, torso: Volume, mri: Volume, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no CT in HU.*brain MRI.*--model pocket"):
        answerer.ask(mri, "where?")
    with pytest.raises(ImageError, match="is a 2D picture"):
        answerer.ask(replace(torso, data=torso.data[:, :, :1]), "where?")
    np.save(tmp_path / "m3d.npy", np.random.default_rng(0).random((1, 4, 16, 16)))
    with pytest.raises(ImageError, match=r"m3d.npy: has grey values.*NIfTI or DICOM"):
        answerer.read(tmp_path / "m3d.npy")
    with pytest.raises(ImageError, match="twice"):
        answerer.ask(replace(torso, data=torso.data - 1024), "where?")


def test_a_model_of_grey_values_takes_m3d_s_arrays_alone(answerer: ScanAnswerer, torso: Volume, tmp_path: Path) -> None:
    np.save(tmp_path / "m3d.npy", np.random.default_rng(0).random((1, 4, 16, 16)))
    answerer.processor.pictures["windows"] = []
    volume = answerer.read(tmp_path / "m3d.npy")
    assert np.array_equal(volume.data, read_array(tmp_path / "m3d.npy").data)
    assert answerer.ask(volume, "where?").task is not None
    with pytest.raises(ImageError, match=r"no M3D array.*\.npy"):
        answerer.ask(torso, "where?")


def test_a_file_is_answered_as_its_volume(answerer: ScanAnswerer, torso: Volume, tmp_path: Path) -> None:
    write_volume(torso, tmp_path / "ct.nii.gz")
    read = answerer.read(tmp_path / "ct.nii.gz")
    assert answerer.ask(read, "where?").text == answerer.ask(torso, "where?").text


def test_a_file_is_checked_as_it_is_in_training(answerer: ScanAnswerer, torso: Volume, tmp_path: Path) -> None:
    tilted = torso.affine.copy()
    tilted[:, 2] += 0.3 * tilted[:, 1]
    write_volume(replace(torso, affine=tilted), tmp_path / "tilted.nii.gz")
    with pytest.raises(ImageError, match=r"tilted\.nii\.gz: its axes stand \d+ degrees to one another"):
        answerer.read(tmp_path / "tilted.nii.gz")
    gap = torso.data.copy(order="F")
    gap[:, :, 16] = -1024
    write_volume(replace(torso, data=gap), tmp_path / "gap.nii.gz")
    with pytest.raises(ImageError, match=r"gap\.nii\.gz: axial slice 17 of 32, counted from below, has a single value"):
        answerer.read(tmp_path / "gap.nii.gz")


def test_a_ct_is_refused_by_a_model_of_brain_mri(tiny_model: Path, torso: Volume) -> None:
    with pytest.raises(StudyError, match="given as T1 and has the values of a CT"):
        Answerer.from_pretrained(tiny_model).ask(Study("ct", {Modality.T1: torso}), "where?")


def test_a_folder_s_configuration_says_what_it_is(tiny_model: Path, tiny_reader: Path, tmp_path: Path) -> None:
    assert isinstance(open_model(tiny_model), Answerer)
    assert isinstance(open_model(tiny_reader), ScanAnswerer)
    with pytest.raises(WeightsError, match="no such model folder"):
        system_of(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        system_of(tmp_path)
    for text, told in (("{", "no JSON"), ("[]", "model_type is None"), ('{"model_type": "llama"}', "'llama'.*tgh-moe")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=told):
            system_of(tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("name", ["example_ct_sm.nii.gz", "example_ct_dicom"])
def test_real_cts_are_answered_and_real_mri_is_refused(answerer: ScanAnswerer, real_data: Path, name: str) -> None:
    volume = answerer.read(real_data / "ct" / name)
    assert answerer.ask(volume, "where?").task is not None
    study = next(iter(sorted((real_data / "brats").iterdir())))
    with pytest.raises(ImageError, match="is a folder of NIfTI files"):
        answerer.read(study)
    scans = [path for path in sorted(study.rglob("*.nii.gz")) if "seg" not in path.name]
    with pytest.raises(ImageError, match="no CT in HU"):
        answerer.read(scans[0])


def test_a_reader_without_its_tokenizer_is_named(tiny_reader: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_reader, tmp_path / "model")
    (model / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"model: holds no tokenizer\.json; copy all"):
        ScanAnswerer.from_pretrained(model)
