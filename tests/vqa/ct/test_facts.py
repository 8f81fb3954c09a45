"""How often facts are true is what the plan's chances make of them, and keeping them evens the answers out."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from voxmoe.imaging.torso import Torso
from voxmoe.imaging.torso.plan import draw_plan
from voxmoe.vqa.ct.facts import PREVALENCE, SIZES_MM, facts_of, largest, size_name


def test_shares_add_up_and_name_every_choice(torsos: list[Torso]) -> None:
    for torso in torsos:
        for fact in facts_of(torso.truth):
            assert fact.answer in fact.choices
            assert len(set(fact.wordings)) == len(fact.wordings) >= 3
            if fact.shares:
                assert set(fact.shares) == set(fact.choices)
                total = sum(fact.shares.values())
                if fact.kind == "abnormality" and fact.topic in ("lungs", "liver"):
                    assert 0.5 < total < 1, "the others have more than one and are not asked"
                else:
                    assert total == pytest.approx(1, abs=0.011), fact
                assert 0 < fact.keep <= 1


def test_prevalence_is_that_of_plans() -> None:
    plans = [draw_plan(np.random.default_rng([2, index])) for index in range(2000)]
    fields = {
        "nodule": "nodules", "effusion": "effusions", "consolidation": "consolidation", "emphysema": "emphysema",
        "cardiomegaly": "cardiomegaly", "coronary calcification": "coronary_calcification",
        "aortic calcification": "aortic_calcification", "liver cyst": "liver_cysts",
        "liver metastasis": "liver_metastases", "fatty liver": "fatty_liver", "splenomegaly": "splenomegaly",
        "kidney stone": "kidney_stones", "kidney cyst": "kidney_cysts",
    }  # fmt: skip
    assert fields.keys() == PREVALENCE.keys()
    for name, field in fields.items():
        share = np.mean([bool(getattr(plan, field)) for plan in plans])
        assert share == pytest.approx(PREVALENCE[name], abs=0.04), name


def test_keeping_makes_answers_alike_often(torsos: list[Torso]) -> None:
    """share x keep is the same for each answer that is not rarer than a tenth."""
    kept = defaultdict(set)
    for torso in torsos:
        for fact in facts_of(torso.truth):
            if fact.shares and fact.shares[fact.answer] >= 0.1:
                kept[fact.kind, fact.topic].add(round(fact.shares[fact.answer] * fact.keep, 6))
    assert len(kept) > 20
    assert all(len(values) == 1 for values in kept.values())


def test_sizes_begin_where_their_names_say_by_the_millimetres_of_reports() -> None:
    assert [size_name("nodule", mm) for mm in (8.0, 13.49, 13.6, 18.6, 23.4, 23.9, 30.0)] == [
        "less than 14 mm", "less than 14 mm", "14 to 19 mm", "19 to 24 mm", "19 to 24 mm", "24 mm or more",
        "24 mm or more",
    ]  # fmt: skip
    assert all(len(names) == 4 for names in SIZES_MM.values())


def test_the_largest_has_to_stand_out(torsos: list[Torso]) -> None:
    nodules = next(torso.truth.of("nodule") for torso in torsos if len(torso.truth.of("nodule")) > 1)
    first, second = (replace(each, diameter_mm=mm) for each, mm in zip(nodules, (10.0, 20.0), strict=False))
    assert largest((first, second)) is second
    assert largest((first, replace(second, diameter_mm=10.5))) is None
    assert largest((first,)) is first
    assert largest(()) is None
