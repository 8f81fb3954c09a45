"""Which questions are drawn, and that a draw is all that is needed to ask them again."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import ABSENT, NOT_ASKED, PROFILES, PROFILES_BY_NAME, Kind, Profile, Task
from voxmoe.vqa.findings import LabelFindings
from voxmoe.vqa.paper_tables import PAPER_DATASETS
from voxmoe.vqa.sampling import Draw, apply_draw, check_enough, draw_questions, listed
from voxmoe.vqa.type_weights import PAPER, UNIFORM, TypeWeights
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Bank, Tasks, Wording, Wordings
from voxmoe.vqa.wordings.grammar import GRAMMAR

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
ABSENT_FOUND = replace(FOUND, present=False, volume=ABSENT, regions={}, shape=ABSENT, spread=ABSENT)


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
        bank = GRAMMAR.bank(draw.kind, draw.tasks)
        assert 0 <= draw.question < bank.questions
        assert 0 <= draw.answer < bank.answers


def test_seed_and_name_decide_and_nothing_else() -> None:
    first = list(draw_questions("BraTS-GLI-00005-100", GLI, 0))
    list(draw_questions("another", GLI, 5))
    assert list(draw_questions("BraTS-GLI-00005-100", GLI, 0)) == first
    assert list(draw_questions("BraTS-GLI-00005-100", GLI, 1)) != first
    assert list(draw_questions("BraTS-GLI-00005-101", GLI, 0)) != first
    assert first[0] == Draw("NETC", Kind.IN_SCOPE, first[0].tasks, first[0].question, first[0].answer)


@pytest.mark.parametrize("weights", [UNIFORM, PAPER], ids=lambda weights: weights.name)
@pytest.mark.parametrize("name", PAPER_DATASETS)
def test_the_papers_datasets_at_full_size(name: str, weights: TypeWeights) -> None:
    """As many questions as Table 1 says, as unique, and as often about each task as Tables 6-8 say, or as uniform."""
    told, profile = PAPER_DATASETS[name], PROFILES_BY_NAME[name]
    draws = [
        draw
        for study in range(told.studies)
        for draw in draw_questions(f"{name}-{study:05}", profile, 0, weights=weights)
    ]
    assert len(draws) == told.questions == {"gli-2024": 38_904, "met-2024": 11_718, "goat-2024": 24_318}[name]
    asked = Counter(task for draw in draws for task in draw.tasks)
    noise = 0 if told.questions > 30_000 else 0.5  # MET is small; test_type_weights.py has the exact shares
    for task in Task:
        share = 100 * (1 - asked[task] / len(draws))
        if weights is PAPER:
            assert abs(share - told.frequencies[task][NOT_ASKED]) < 1
        else:
            assert 54 - noise <= share <= 55.5 + noise
    if weights is UNIFORM:
        findings = dict.fromkeys(profile.keys, FOUND) | {profile.keys[0]: ABSENT_FOUND}
        texts = [apply_draw(draw, profile, findings).text for draw in draws]
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
    assert question.text == "How large is the volume of Enhancing Tissue and where is it located?"
    assert question.answer == (
        "The overall volume of Enhancing Tissue is 1-5%, and it is located in frontal, insula and temporal."
    )


def test_an_exact_question_about_an_absent_label() -> None:
    draw = Draw("RC", Kind.IN_SCOPE, (Task.VOLUME, Task.REGION), 1, 1)
    question = apply_draw(draw, GLI, {"RC": ABSENT_FOUND})
    assert question.text == "How large is the Resection Cavity and where is it located?"
    assert question.answer == "The Resection Cavity is absent, so its volume is N/A, and its location is N/A."


def test_where_no_region_is_touched() -> None:
    draw = Draw("ET", Kind.IN_SCOPE, (Task.REGION,), 0, 0)
    question = apply_draw(draw, GLI, {"ET": replace(FOUND, regions={})})
    assert question.answer == "The Enhancing Tissue is located in no labelled region."


class Few(Wordings):
    """A source of a given number of wordings of each type."""

    source = "few"

    def __init__(self, **counts: int) -> None:
        self.counts = counts

    def bank(self, kind: Kind, tasks: Tasks) -> Bank:
        few = self

        class Own(Bank):
            questions = few.counts.get("_".join((kind.replace("-", "_"), *tasks)), 4)
            answers = 2

            def wording(self, question: int, answer: int) -> Wording:
                return Wording(f"{question} {{label}}?", f"{answer} {kind}.", "absent")

        return Own()


def test_any_source_is_drawn_from_alike() -> None:
    draws = list(draw_questions("study", GLI, 0, Few()))
    assert len({(draw.kind, draw.tasks, draw.question) for draw in draws}) == 24
    assert {draw.question for draw in draws if draw.kind is Kind.OUT_OF_SCOPE} == {0, 1, 2, 3}, "all of four are used"
    question = apply_draw(draws[5], GLI, dict.fromkeys(GLI.keys, FOUND), Few())
    assert question.text == f"{draws[5].question} Non-Enhancing Tumor?"
    assert question.answer == f"{draws[5].answer} out-of-scope."
    assert apply_draw(draws[5], GLI, dict.fromkeys(GLI.keys, ABSENT_FOUND), Few()).answer == "absent"


def test_too_few_wordings() -> None:
    check_enough(Few(), 4)
    check_enough(GRAMMAR, 100)
    for kind, tasks in QUESTION_TYPES:
        name = "_".join((kind.replace("-", "_"), *tasks))
        with pytest.raises(DatasetError, match=r"3 wordings of (in|partially|out)-.*a study of 4 labels may need 4"):
            check_enough(Few(**{name: 3}), 4)
        check_enough(Few(**{name: 3}), 3)


@given(study=st.text(max_size=20), seed=st.integers(0, 2**31))
def test_weights_change_types_and_nothing_of_the_rules(study: str, seed: int) -> None:
    heavy = TypeWeights(name="heavy", by_number={4: 50.0})
    draws = list(draw_questions(study, GLI, seed, weights=heavy))
    for start in range(0, len(draws), 6):
        multi = [draw.tasks for draw in draws[start : start + 4]]
        assert len(set(multi)) == 4
        assert {task for tasks in multi for task in tasks} == set(Task)


def test_what_the_findings_lack_cannot_be_asked() -> None:
    lacking = replace(FOUND, regions=None, reasons={"regions": "no atlas fits"})
    with pytest.raises(DatasetError, match="the region of ET cannot be answered: no atlas fits"):
        apply_draw(Draw("ET", Kind.IN_SCOPE, (Task.REGION,), 0, 0), GLI, {"ET": lacking})


@pytest.mark.parametrize(("terms", "text"), [(("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")])
def test_lists_of_regions(terms: tuple[str, ...], text: str) -> None:
    assert listed(terms) == text
