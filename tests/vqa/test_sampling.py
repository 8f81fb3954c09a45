"""Which questions are drawn, and that a draw is all that is needed to ask them again."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import PROFILES, PROFILES_BY_NAME, Kind, Profile, Task
from voxmoe.vqa.findings import LabelFindings
from voxmoe.vqa.sampling import Draw, apply_draw, draw_questions, listed
from voxmoe.vqa.wordings import Bank

GLI = PROFILES_BY_NAME["gli"]
KINDS = [Kind.IN_SCOPE] * 4 + [Kind.PARTIAL, Kind.OUT_OF_SCOPE]

FOUND = LabelFindings(
    present=True,
    voxels=10,
    volume_mm3=10.0,
    relative_volume=2.0,
    brain_fraction=0.02,
    volume="1-5%",
    regions={"temporal": ("left",), "frontal": ("left",), "insula": ("left",)},
    shape="oval",
    shape_numbers=None,
    spread="scattered lesions",
    components=3,
    core_fraction=0.5,
    reasons={},
)


@settings(deadline=None)
@given(study=st.text(max_size=20), seed=st.integers(0, 2**31), profile=st.sampled_from(PROFILES))
def test_six_questions_a_label(study: str, seed: int, profile: Profile) -> None:
    draws = list(draw_questions(study, profile, seed))
    assert [draw.label for draw in draws] == [key for key in profile.keys for _ in KINDS]
    for start in range(0, len(draws), 6):
        drawn = draws[start : start + 6]
        assert [draw.kind for draw in drawn] == KINDS
        multi = [draw.tasks for draw in drawn[:4]]
        assert len(set(multi)) == 4
        assert {task for tasks in multi for task in tasks} == set(Task)
        assert drawn[4].tasks
        assert drawn[5].tasks == ()
    assert len({(draw.kind, draw.tasks, draw.question) for draw in draws}) == len(draws)
    for draw in draws:
        bank = Bank(draw.kind, draw.tasks)
        assert 0 <= draw.question < bank.questions
        assert 0 <= draw.answer < bank.answers


def test_seed_and_name_decide_and_nothing_else() -> None:
    first = list(draw_questions("BraTS-GLI-00005-100", GLI, 0))
    list(draw_questions("another", GLI, 5))
    assert list(draw_questions("BraTS-GLI-00005-100", GLI, 0)) == first
    assert list(draw_questions("BraTS-GLI-00005-100", GLI, 1)) != first
    assert list(draw_questions("BraTS-GLI-00005-101", GLI, 0)) != first
    assert first[0] == Draw("NETC", Kind.IN_SCOPE, first[0].tasks, first[0].question, first[0].answer)


def test_shares_over_many_studies() -> None:
    draws = [draw for study in range(2_000) for draw in draw_questions(f"study {study}", GLI, 0)]
    assert len(draws) == 2_000 * 4 * 6
    asked = Counter(task for draw in draws for task in draw.tasks)
    for task in Task:
        assert 0.54 <= 1 - asked[task] / len(draws) <= 0.555
    partial = Counter(draw.tasks for draw in draws if draw.kind is Kind.PARTIAL)
    assert len(partial) == 15
    assert all(abs(count / 8_000 - 1 / 15) < 0.01 for count in partial.values())


def test_questions_are_as_unique_as_in_the_paper() -> None:
    names = {label.key: label.name for label in GLI.labels}
    texts = [
        Bank(draw.kind, draw.tasks).wording(draw.question, draw.answer).question.format(label=names[draw.label])
        for study in range(1_621)
        for draw in draw_questions(f"BraTS-GLI-{study:05}-100", GLI, 0)
    ]
    assert len(texts) == 38_904
    assert len(set(texts)) / len(texts) >= 0.977


def test_every_question_is_asked_again_from_its_draw() -> None:
    findings = dict.fromkeys(GLI.keys, FOUND)
    for draw in draw_questions("study", GLI, 0):
        question = apply_draw(draw, GLI, findings)
        again = apply_draw(Draw(draw.label, draw.kind, draw.tasks, draw.question, draw.answer), GLI, findings)
        assert question == again
        name = next(label.name for label in GLI.labels if label.key == draw.label)
        assert name in question.text
        assert name in question.answer
        assert not set("{}") & set(question.text + question.answer)
        assert (question.topic is None) is (draw.kind is Kind.IN_SCOPE)
        for task, term in {
            Task.VOLUME: "1-5%",
            Task.REGION: "frontal, insula and temporal",
            Task.SHAPE: "oval",
            Task.SPREAD: "scattered lesions",
        }.items():
            assert (term in question.answer) is (task in draw.tasks)


def test_an_exact_question() -> None:
    question = apply_draw(Draw("ET", Kind.IN_SCOPE, (Task.VOLUME, Task.REGION), 0, 0), GLI, {"ET": FOUND})
    assert question.text == "How large is Enhancing Tissue and where is it located?"
    assert question.answer == (
        "The overall volume of Enhancing Tissue is 1-5% and it is located in frontal, insula and temporal."
    )


def test_what_the_findings_lack_cannot_be_asked() -> None:
    lacking = replace(FOUND, regions=None, reasons={"regions": "no atlas fits"})
    with pytest.raises(DatasetError, match="the region of ET cannot be answered: no atlas fits"):
        apply_draw(Draw("ET", Kind.IN_SCOPE, (Task.REGION,), 0, 0), GLI, {"ET": lacking})


@pytest.mark.parametrize(("terms", "text"), [(("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")])
def test_lists_of_regions(terms: tuple[str, ...], text: str) -> None:
    assert listed(terms) == text
