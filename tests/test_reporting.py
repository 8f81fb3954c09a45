"""The findings report: from a mask exactly what was measured, from a model what its heads say."""

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import make_study
from voxmoe.answering import Answer, Answerer, Category, Terms
from voxmoe.imaging.layouts import profile_named
from voxmoe.reporting import (
    NOT_A_DEVICE,
    NOT_COVERED,
    Report,
    _answered_label,
    report_by_model,
    report_of_mask,
)
from voxmoe.vocabulary import ABSENT, NOT_ASKED, Modality, Task
from voxmoe.vqa.findings import find
from voxmoe.vqa.protocol import PAPER_V2

GLI = profile_named("gli-2024")


def answer(volume: str, shape: str, spread: str, *regions: str) -> Answer:
    categories = {
        Task.VOLUME: Category(volume, 0.9),
        Task.SHAPE: Category(shape, 0.8),
        Task.SPREAD: Category(spread, 0.7),
    }
    terms = Terms(categories, tuple(Category(region, 0.6) for region in regions))
    return Answer(
        question="?",
        text="",
        terms=terms,
        heads=None,
        out_of_scope=0.1,
        experts=(1.0,),
        modalities=tuple(Modality),
        model="m",
        seconds=0.1,
    )


def test_a_mask_s_report_gives_what_was_measured() -> None:
    study = make_study()
    mask = study.reference
    labels = mask.data.copy() * 0
    labels[1:3, 1:3, 1:3] = 3
    labels[-1, -1, -1] = 3
    findings = find(type(mask)(labels.astype("uint8"), mask.affine), GLI, PAPER_V2)
    report = report_of_mask("S1", GLI, findings, (Modality.T1, Modality.FLAIR))
    found = report.to_json()
    assert found["missing"] == ["T1Gd", "T2"]
    assert [label["present"] for label in found["labels"].values()] == [False, False, True, False]
    measured = found["labels"]["ET"]["measured"]
    assert measured["components"] == 2
    assert measured["volume_mm3"] == findings.labels["ET"].volume_mm3
    assert found["labels"]["ET"]["spread"] == [{"term": findings.labels["ET"].spread, "probability": None}]
    text = found["text"]
    assert "Resection Cavity (RC): not seen." in text
    assert "2 components, the largest 89%" in text
    assert "1 of 4 labels seen (ET)" in text
    assert "note: no volume" in text
    assert NOT_COVERED in text
    assert NOT_A_DEVICE in text


@pytest.mark.parametrize(
    ("said", "present", "note"),
    [
        (answer("<1%", "oval", "single lesion", "frontal"), True, None),
        (answer(ABSENT, ABSENT, ABSENT, ABSENT), False, None),
        (answer("<1%", ABSENT, "single lesion", "frontal"), True, "the head for shape took it to be absent"),
        (answer(ABSENT, "oval", ABSENT, "insula"), False, "the heads for region and shape took it to be present"),
    ],
)
def test_heads_that_contradict_each_other_are_named(said: Answer, present: bool, note: str | None) -> None:
    reported = _answered_label(GLI.labels[0], said.terms, said.by_heads, None, {})
    assert reported.present is present
    assert reported.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("said", "present", "unanswered"),
    [
        (answer(NOT_ASKED, ABSENT, NOT_ASKED, ABSENT), False, "volume and spread"),
        (answer(NOT_ASKED, "oval", NOT_ASKED, "insula"), True, "volume and spread"),
        (answer("<1%", NOT_ASKED, "single lesion"), True, "region and shape"),
        (answer(NOT_ASKED, NOT_ASKED, NOT_ASKED), None, "volume, region, shape and spread"),
    ],
)
def test_a_head_that_takes_its_task_for_not_asked_finds_nothing(
    said: Answer, present: bool | None, unanswered: str
) -> None:
    reported = _answered_label(GLI.labels[0], said.terms, said.by_heads, None, {})
    assert reported.present is present
    assert NOT_ASKED not in {term.name for terms in reported.terms.values() for term in terms}
    assert reported.notes == (f"nothing was answered about {unanswered}",)


def test_a_label_about_which_nothing_is_answered_is_neither_seen_nor_not_seen() -> None:
    nothing = answer(NOT_ASKED, NOT_ASKED, NOT_ASKED).terms
    gone = answer(ABSENT, ABSENT, ABSENT, ABSENT).terms
    seen = answer("<1%", "oval", "single lesion", "frontal").terms
    silent = _answered_label(GLI.labels[0], nothing, nothing, None, dict.fromkeys(Task, 0.97))
    others = tuple(
        _answered_label(label, said, said, None, {}) for label, said in zip(GLI.labels[1:3], (gone, seen), strict=True)
    )
    report = Report("S1", "model", "m", tuple(Modality), (silent, *others), GLI.name)
    found = report.to_json()
    assert [label["present"] for label in found["labels"].values()] == [None, False, True]
    keys = [label.key for label in GLI.labels]
    assert f"({keys[0]}): not answered.\n    note: nothing was answered about volume, region" in found["text"]
    assert f"({keys[1]}): not seen (90%)." in found["text"]
    summary = f"1 of 2 labels seen ({keys[2]}); regions touched: frontal; 1 not answered ({keys[0]})."
    assert f"SUMMARY    {summary}" in found["text"]
    alone = replace(report, labels=(silent,)).to_text()
    assert f"SUMMARY    1 not answered ({keys[0]})." in alone
    assert "seen" not in alone


def test_nothing_that_is_said_of_a_label_denies_that_it_is_there() -> None:
    heads = answer("<1%", ABSENT, "single lesion", "frontal")
    weighed = answer("<1%", ABSENT, ABSENT, "frontal")
    reported = _answered_label(GLI.labels[0], weighed.terms, heads.terms, None, {})
    assert reported.terms[Task.SHAPE] == reported.terms[Task.SPREAD] == ()
    assert reported.terms[Task.VOLUME]
    assert reported.notes == (
        "the head for shape took it to be absent",
        "left out: what the mask makes of spread, which would be that it is absent",
    )


def test_nothing_is_said_of_a_label_that_is_not_there() -> None:
    said = answer(ABSENT, "oval", "single lesion", "insula").terms
    terms = _answered_label(GLI.labels[0], said, said, None, {}).terms
    assert [task for task in Task if terms[task]] == [Task.VOLUME]


def test_what_the_model_takes_to_be_out_of_scope_is_said() -> None:
    said = answer("<1%", "oval", "single lesion", "insula").terms
    strange = {Task.VOLUME: 0.2, Task.REGION: 0.51, Task.SHAPE: 0.97, Task.SPREAD: 0.5}
    reported = _answered_label(GLI.labels[0], said, said, None, strange)
    assert reported.notes == ("taken to be out of scope: the question about region (51%) and shape (97%)",)
    assert reported.out_of_scope == strange


def test_a_model_reports_every_label_of_its_profile(tiny_model: Path) -> None:
    answerer = Answerer.from_pretrained(tiny_model)
    report = report_by_model(answerer, make_study(modalities=(Modality.T1, Modality.T2)))
    assert [reported.label.key for reported in report.labels] == [label.key for label in GLI.labels]
    assert report.missing == (Modality.T1GD, Modality.FLAIR)
    for reported in report.labels:
        assert all(0 <= term.probability <= 1 for terms in reported.terms.values() for term in terms)
        assert list(reported.out_of_scope) == list(Task)
    told = report.to_json()["labels"]["ET"]["out_of_scope"]
    assert list(told) == [str(task) for task in Task]
    assert all(0 < chance < 1 for chance in told.values())
    assert report.to_text().splitlines()[1].endswith("missing: T1Gd and FLAIR")


def test_a_profile_that_the_model_does_not_know_is_not_reported(tiny_model: Path) -> None:
    answerer = Answerer.from_pretrained(tiny_model)
    assert answerer.profile(profile_named("brats-2021")) == answerer.profile() == GLI
    same_names = profile_named("met-2024")
    assert answerer.profile(same_names) == same_names
