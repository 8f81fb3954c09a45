"""What is drawn of patients comes as often as it is said to."""

import numpy as np
import pytest

from voxmoe.imaging.torso.plan import CHANCES, HEALTHY, NODULE_COUNTS, Phase, Plan, draw_plan

PLANS = [draw_plan(np.random.default_rng([4, index])) for index in range(2000)]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("consolidation", "consolidation"),
        ("emphysema", "emphysema"),
        ("cardiomegaly", "cardiomegaly"),
        ("coronary calcification", "coronary_calcification"),
        ("aortic calcification", "aortic_calcification"),
        ("liver cyst", "liver_cysts"),
        ("liver metastasis", "liver_metastases"),
        ("fatty liver", "fatty_liver"),
        ("splenomegaly", "splenomegaly"),
    ],
)
def test_findings_come_by_their_chances(name: str, field: str) -> None:
    share = np.mean([bool(getattr(plan, field)) for plan in PLANS])
    assert share == pytest.approx((1 - HEALTHY) * CHANCES[name], abs=0.05)


@pytest.mark.parametrize("name", ["effusion", "kidney stone", "kidney cyst"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_sides_are_drawn_apart(name: str, side: str) -> None:
    field = f"{name.replace(' ', '_')}s"
    share = np.mean([side in dict(getattr(plan, field)) for plan in PLANS])
    assert share == pytest.approx((1 - HEALTHY) * CHANCES[name], abs=0.05)


def test_healthy_ones_phases_and_counts_occur() -> None:
    assert np.mean([plan == Plan(plan.phase) for plan in PLANS]) == pytest.approx(HEALTHY, abs=0.03)
    assert all(np.mean([plan.phase == phase for plan in PLANS]) == pytest.approx(1 / 3, abs=0.05) for phase in Phase)
    for count, chance in list(enumerate(NODULE_COUNTS))[1:]:
        share = np.mean([len(plan.nodules) == count for plan in PLANS])
        assert share == pytest.approx((1 - HEALTHY) * chance, abs=0.04)
