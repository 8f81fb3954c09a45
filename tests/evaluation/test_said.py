"""A whole evaluation of texts, its figures counted by hand, and what has to hold whatever was said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.errors import DatasetError, MissingPackageError, ResultsError
from voxmoe.evaluation.guesses import MajorityClass, typical
from voxmoe.evaluation.results import load, load_any, save
from voxmoe.evaluation.said import evaluate_said
from voxmoe.evaluation.text_metrics import OptionalMetric
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

PLANES = ("axial", "coronal", "sagittal")


def closed(number: int, answer: str, patient: str = "p1", choices: tuple[str, ...] = PLANES, **more: Any) -> Exchange:
    kind = more.get("kind", "plane")
    return Exchange(f"c{number}", "own", "a.nii.gz", patient, CTTask.CLOSED, kind, "Which?", answer, choices)


def worded(number: int, answer: str, patient: str = "p1", task: CTTask = CTTask.OPEN, kind: str = "organ") -> Exchange:
    return Exchange(f"{task}{number}", "own", "b.nii.gz", patient, task, kind, "What?", answer)


ASKED = [
    closed(0, "axial"),
    closed(1, "coronal", "p2"),
    closed(2, "sagittal", "p2"),
    closed(3, "yes", "p3", ("no", "yes"), kind="contrast"),
    worded(0, "left lung"),
    worded(1, "liver", "p2"),
    worded(0, "No nodule is seen.", "p3", CTTask.REPORT, "report"),
    worded(1, "A nodule in the left lung.", "p1", CTTask.REPORT, "report"),
]
LEARNT = [
    *[closed(number, "coronal", "q1") for number in range(3)],
    closed(3, "axial", "q2"),
    closed(4, "no", "q2", ("no", "yes"), kind="contrast"),
    *[worded(number, answer, "q1") for number, answer in enumerate(["spleen", "liver", "liver"])],
    *[
        worded(number, answer, "q1", CTTask.REPORT, "report")
        for number, answer in enumerate(["A nodule is seen.", "No nodule is seen.", "Effusion on both sides."])
    ],
]
SYSTEM = {
    "c0": "A. axial",
    "c1": "The answer is (C).",
    "c2": "axial or sagittal",
    "c3": "yes, B",
    "open0": "Left lung.",
    "open1": "the spleen",
    "report0": "No nodule is seen.",
    "report1": "",
}
TRUE = {exchange.id: exchange.target for exchange in ASKED}


def value(record: dict[str, Any], method: str, task: str, measure: str, part: str = "all") -> float:
    found = record["methods"][method][task][measure]
    return float((found["by_kind"][part] if part in found["by_kind"] else found[part])["value"])


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return evaluate_said(ASKED, {"system": SYSTEM, "truth": TRUE}, LEARNT)


def test_closed_questions_by_hand(record: dict[str, Any]) -> None:
    assert value(record, "system", "closed", "accuracy", "plane") == pytest.approx(100 / 3)
    assert value(record, "system", "closed", "accuracy", "contrast") == 100
    assert value(record, "system", "closed", "accuracy", "mean") == pytest.approx((100 / 3 + 100) / 2)
    assert value(record, "system", "closed", "accuracy") == 50
    assert value(record, "system", "closed", "unparsed") == 25
    assert value(record, "system", "closed", "m3d_compat") == 25  # "yes, B" has no full stop


def test_open_answers_and_reports_by_hand(record: dict[str, Any]) -> None:
    assert value(record, "system", "open", "exact_match") == 50  # case and full stop aside
    assert value(record, "system", "open", "bleu1") == pytest.approx(100 * (1 / 3 + 0) / 2)  # "lung" of "Left lung ."
    assert value(record, "system", "open", "rouge1") == 50
    assert value(record, "system", "report", "rouge1") == 50
    assert value(record, "system", "report", "meteor") == pytest.approx(50 * (1 - 0.5 / 5**3))


def test_the_truth_is_worth_all(record: dict[str, Any]) -> None:
    for measure in ("accuracy", "m3d_compat"):
        assert value(record, "truth", "closed", measure) == 100
    assert value(record, "truth", "open", "exact_match") == value(record, "truth", "report", "bleu1") == 100
    found = record["methods"]["truth"]["closed"]["accuracy"]["all"]
    assert found["interval_by_patient"] == (100, 100)


def test_baselines_by_hand(record: dict[str, Any]) -> None:
    assert value(record, "random", "closed", "accuracy") == pytest.approx(100 * (3 / 3 + 1 / 2) / 4)
    assert set(record["methods"]["random"]) == {"closed"}
    assert value(record, "majority class", "closed", "accuracy", "plane") == pytest.approx(100 / 3)
    assert value(record, "majority class", "closed", "accuracy", "contrast") == 0
    assert value(record, "majority class", "closed", "unparsed") == 0
    assert value(record, "majority class", "open", "exact_match") == 50
    assert value(record, "majority class", "report", "rouge1") < 100


def test_the_likeliest_choice_counts_whatever_is_said() -> None:
    """Closed questions alone: of the four, the first and the last are right."""
    weighed = {"c0": [0.5, 0.3, 0.2], "c1": [0.4, 0.3, 0.3], "c2": [0.4, 0.4, 0.2], "c3": [0.1, 0.9]}
    found = evaluate_said(ASKED, {"system": SYSTEM}, LEARNT, weighed={"weighing": weighed})
    assert found["methods"]["weighing"].keys() == {"closed"}
    assert value(found, "weighing", "closed", "accuracy") == value(found, "weighing", "closed", "m3d_compat") == 50
    assert value(found, "weighing", "closed", "accuracy", "contrast") == 100
    assert value(found, "weighing", "closed", "unparsed") == 0
    assert set(found["differences"]) == {"system", "weighing"}
    assert set(found["differences"]["weighing"]["system"]) == {"closed"}
    without = evaluate_said(ASKED, {"system": SYSTEM}, LEARNT)["methods"]
    assert {name: one for name, one in found["methods"].items() if name != "weighing"} == without
    assert "weighing" not in evaluate_said(ASKED[4:], {"system": SYSTEM}, [], weighed={"weighing": {}})["methods"]
    for wrong in ({}, weighed | {"c3": [0.1, 0.2, 0.7]}):
        with pytest.raises(ResultsError, match=r"weighing: weighs [03] choices of c[03], which has"):
            evaluate_said(ASKED, {"system": SYSTEM}, LEARNT, weighed={"weighing": wrong})
    with pytest.raises(ResultsError, match="the name of a method already"):
        evaluate_said(ASKED, {"system": SYSTEM}, LEARNT, weighed={"system": weighed})


def test_counts(record: dict[str, Any]) -> None:
    assert record["counts"]["asked"] == {
        "exchanges": 8,
        "patients": 3,
        "images": 2,
        "tasks": {"report": {"report": 2}, "closed": {"plane": 3, "contrast": 1}, "open": {"organ": 2}},
    }
    assert record["counts"]["learnt"]["exchanges"] == len(LEARNT)
    assert record["manifest"]["rules"]["meteor"] == "exact+stem"


def test_differences_are_paired(record: dict[str, Any]) -> None:
    found = record["differences"]["system"]["truth"]["closed"]["accuracy"]
    assert found["all"]["value"] == -50
    assert set(record["differences"]) == {"system", "truth"}
    assert set(record["differences"]["system"]) == {"random", "majority class", "truth"}
    assert set(record["differences"]["system"]["random"]) == {"closed"}
    same = evaluate_said(ASKED, {"one": SYSTEM, "other": dict(SYSTEM)}, LEARNT)["differences"]["one"]["other"]
    for measures in same.values():
        for figures in measures.values():
            assert figures["all"]["value"] == figures["all"]["sd_by_patient"] == 0


def test_intervals_are_by_patient() -> None:
    """Many questions about two patients, one always right: a resample of patients is all, half or nothing."""
    asked = [closed(number, "axial", f"p{number // 20}") for number in range(40)]
    said = {exchange.id: "A" if exchange.patient == "p0" else "B" for exchange in asked}
    found = evaluate_said(asked, {"system": said}, [])["methods"]["system"]["closed"]["accuracy"]["all"]
    assert found["interval_by_patient"] == (0, 100)
    low, high = found["interval_by_question"]
    assert 30 < low < high < 70


def test_the_order_of_the_exchanges_changes_no_mean(record: dict[str, Any]) -> None:
    turned = evaluate_said(ASKED[::-1], {"system": SYSTEM}, LEARNT)
    for task, measures in turned["methods"]["system"].items():
        for measure in measures:
            assert value(turned, "system", task, measure) == pytest.approx(value(record, "system", task, measure))


def test_the_same_evaluation_gives_the_same_record(record: dict[str, Any]) -> None:
    assert evaluate_said(ASKED, {"system": SYSTEM, "truth": TRUE}, LEARNT) == record


def test_the_record_comes_back_from_its_file(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "said.json"
    save(path, record)
    assert load_any(path) == load(path, "said") == json.loads(json.dumps(record))
    with pytest.raises(ResultsError, match="holds results of answers about CT, and those of an evaluation about MRI"):
        load(path)
    save(path, {**record, "version": 99})
    with pytest.raises(ResultsError, match="version 99"):
        load_any(path)


def test_what_is_left_out_is_counted() -> None:
    with pytest.raises(ResultsError, match=r"half: says nothing to 6 of 8 exchanges, e\.g\. c2"):
        evaluate_said(ASKED, {"half": {"c0": "A", "c1": "B"}}, LEARNT)


def test_texts_about_other_exchanges_do_not_count(record: dict[str, Any]) -> None:
    more = evaluate_said(ASKED, {"system": {**SYSTEM, "elsewhere": "A"}}, LEARNT)
    assert more["methods"]["system"] == record["methods"]["system"]


def test_bad_input_is_refused() -> None:
    with pytest.raises(DatasetError, match="no exchanges"):
        evaluate_said([], {}, LEARNT)
    with pytest.raises(DatasetError, match=r"1 ids stand for several exchanges, e\.g\. c0"):
        evaluate_said([ASKED[0], replace(ASKED[1], id="c0")], {"system": SYSTEM}, LEARNT)
    with pytest.raises(ResultsError, match="'random' is a baseline"):
        evaluate_said(ASKED, {"random": SYSTEM}, LEARNT)


def test_bertscore_joins_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxmoe.evaluation.text_metrics.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError):
        evaluate_said(ASKED, {"system": SYSTEM}, LEARNT, also=["bertscore"])
    metric = OptionalMetric(lambda texts, answers: [0.25] * len(texts), lambda: None)
    monkeypatch.setattr("voxmoe.evaluation.said.OPTIONAL", {"bertscore": metric})
    found = evaluate_said(ASKED, {"system": SYSTEM}, LEARNT, also=["bertscore"])
    assert value(found, "system", "report", "bertscore") == 25


def test_nothing_learnt_leaves_guessing_alone() -> None:
    found = evaluate_said(ASKED, {"system": SYSTEM}, [])
    assert set(found["methods"]) == {"random", "system"}
    only = evaluate_said(ASKED, {"system": SYSTEM}, [one for one in LEARNT if one.task is CTTask.OPEN])
    assert set(only["methods"]["majority class"]) == {"open"}


def test_one_patient_has_no_interval_by_patient() -> None:
    found = evaluate_said(ASKED[:1], {"system": SYSTEM}, [])["methods"]["system"]["closed"]["accuracy"]["all"]
    assert (found["value"], found["interval_by_patient"]) == (100, None)


def test_majority_is_of_the_text_among_the_choices_then_of_the_letter() -> None:
    majority = MajorityClass.of(LEARNT, 0)
    assert majority.says(closed(9, "axial", choices=("axial", "Coronal"))) == "B. Coronal"
    assert majority.says(closed(9, "axial", choices=("oblique", "sagittal", "axial"))) == "C. axial"
    # B is the commonest letter of this kind, none of the texts was ever an answer
    assert majority.says(closed(9, "x", choices=("x", "y", "z"))) == "B. y"
    # of a kind that training has not: the commonest letter of all kinds
    assert majority.says(closed(9, "coronal", choices=("coronal", "u"), kind="new")) == "B. u"
    assert MajorityClass.of([], 0).says(ASKED[0]) == "A. axial"
    assert majority.says(worded(9, "x", kind="new")) == "liver"


def test_the_typical_report_is_nearest_to_the_others() -> None:
    assert typical(["a b", "a b c", "x y", "b c"], 0) == "a b c"
    assert typical([], 0) == ""
    many = [f"word{number}" for number in range(300)]
    assert typical(many, 1) == typical(many, 1)
    assert typical(many, 1) in many


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["A", "B. coronal", "sagittal", "A or B", "?"]), min_size=4, max_size=4))
def test_accuracy_and_unparsed_never_exceed_all(texts: list[str]) -> None:
    said = {one.id: text for one, text in zip(ASKED[:4], texts, strict=True)}
    found = evaluate_said(ASKED[:4], {"system": said}, LEARNT)
    assert value(found, "system", "closed", "accuracy") + value(found, "system", "closed", "unparsed") <= 100
    by_kind = found["methods"]["system"]["closed"]["accuracy"]["by_kind"]
    assert np.mean([one["value"] for one in by_kind.values()]) == pytest.approx(
        value(found, "system", "closed", "accuracy", "mean")
    )
