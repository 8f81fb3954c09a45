"""A torso as a scanner stores it: the same from the same, HU where they belong, and findings that can be seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.torso import Torso, draw_torso
from voxmoe.imaging.torso.acquisition import PADDING
from voxmoe.imaging.torso.labels import value_of
from voxmoe.imaging.torso.plan import Phase
from voxmoe.imaging.volume import write_volume


def test_the_same_from_the_same_and_others_from_others() -> None:
    first, again, other = (draw_torso(9, index, (64, 64, 32)) for index in (5, 5, 6))
    assert first.hu.tobytes() == again.hu.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.truth == again.truth
    assert (first.labels != other.labels).mean() > 0.05


def test_the_usual_grid() -> None:
    torso = draw_torso(0)
    assert torso.hu.shape == torso.labels.shape == torso.truth.shape == (128, 128, 64)
    assert (torso.hu.dtype, torso.labels.dtype) == (np.int16, np.uint8)
    assert torso.truth.spacing_mm == pytest.approx((3, 3, 5), rel=0.06)


def test_every_file_is_read_as_a_ct(torsos: list[Torso], tmp_path: Path) -> None:
    """Padded ones are among them."""
    padded = 0
    for torso in torsos:
        write_volume(torso.volume, tmp_path / "ct.nii.gz")
        found = read_ct(tmp_path / "ct.nii.gz")
        assert np.array_equal(found.data, np.maximum(torso.hu, -1024))
        assert np.allclose(found.affine, torso.affine, atol=1e-3)
        padded += int(torso.hu.min() in PADDING[1:])
    assert padded


@pytest.fixture(scope="module")
def fine() -> list[Torso]:
    """On the usual grid."""
    return [draw_torso(3, index) for index in range(8)]


HU = {
    "lung": dict.fromkeys(Phase, (-930, -700)),
    "liver": {Phase.NONE: (48, 69), Phase.ARTERIAL: (55, 82), Phase.VENOUS: (95, 132)},
    "spleen": {Phase.NONE: (38, 57), Phase.ARTERIAL: (88, 145), Phase.VENOUS: (98, 140)},
    "aorta": {Phase.NONE: (25, 60), Phase.ARTERIAL: (200, 405), Phase.VENOUS: (105, 185)},
    "effusion": dict.fromkeys(Phase, (-15, 45)),
    "bone": dict.fromkeys(Phase, (150, 900)),
    "liver cyst": dict.fromkeys(Phase, (-60, 60)),
}


@pytest.mark.parametrize("name", HU)
def test_median_hu_of_organs_in_each_phase(fine: list[Torso], name: str) -> None:
    """Of what lies within their surface, where nothing else is mixed in."""
    seen = set()
    for torso in fine:
        if name == "liver" and torso.truth.fatty_liver:
            continue
        for side in ("right", "left") if name in ("lung", "effusion") else (None,):
            values = torso.hu[ndimage.binary_erosion(torso.labels == value_of(name, side))]
            if len(values) > 20:
                low, high = HU[name][torso.truth.phase]
                assert low < np.median(values) < high, (torso.truth.id, side)
                seen.add(torso.truth.phase)
    assert seen == set(Phase) or name in ("liver", "liver cyst", "effusion")
    assert seen


def test_findings_stand_out_from_their_hosts(torsos: list[Torso]) -> None:
    """A difference that can be seen in the usual windows, for lesions of more than a few voxels."""
    darker = {"liver cyst": ("liver",), "emphysema": ("lung",), "kidney cyst": ("kidney",)}
    brighter = {
        "nodule": "lung", "effusion": "lung", "consolidation": "lung", "kidney stone": "kidney",
        "coronary calcification": "heart", "aortic calcification": "aorta",
    }  # fmt: skip
    compared = set()
    for torso in torsos:
        for lesion in torso.truth.lesions:
            own = torso.hu[torso.labels == value_of(lesion.name, lesion.side)]
            hosts = {"liver metastasis": "liver", **{name: host[0] for name, host in darker.items()}, **brighter}
            host_side = lesion.side if hosts[lesion.name] in ("lung", "kidney") else None
            host = torso.hu[torso.labels == value_of(hosts[lesion.name], host_side)]
            difference = np.median(own) - np.median(host)
            if len(own) < 4 or (lesion.name == "kidney cyst" and torso.truth.phase is Phase.NONE):
                continue
            least = 6 if lesion.name.startswith("liver") else 15
            if lesion.name in darker:
                assert difference < -least, (torso.truth.id, lesion)
            elif lesion.name in brighter:
                assert difference > 100, (torso.truth.id, lesion)
            else:
                assert abs(difference) > least, (torso.truth.id, lesion)
            compared.add(lesion.name)
    assert len(compared) >= 9


def test_round_lesions_have_the_volume_of_their_diameter(fine: list[Torso]) -> None:
    """On the usual grid; kidney cysts and lesions at a border are cut."""
    ratios = []
    for torso in fine:
        for lesion in torso.truth.lesions:
            if lesion.name in ("nodule", "liver cyst", "liver metastasis"):
                assert lesion.diameter_mm
                ratios.append(lesion.volume_mm3 / (np.pi / 6 * lesion.diameter_mm**3))
    assert len(ratios) > 5
    assert np.median(ratios) == pytest.approx(1, abs=0.12)
    assert 0.4 < min(ratios) <= max(ratios) < 1.8


def test_effusions_lie_behind_the_lung_above_them(torsos: list[Torso]) -> None:
    y = np.arange(64)
    compared = 0
    for torso in torsos:
        for side in torso.truth.sides("effusion"):
            fluid, lung = ((torso.labels == value_of(name, side)).sum(axis=(0, 2)) for name in ("effusion", "lung"))
            assert np.average(y, weights=fluid) < np.average(y, weights=lung) - 2
            compared += 1
    assert compared


def test_a_large_heart_and_a_large_spleen_are_large_by_measure(torsos: list[Torso]) -> None:
    from voxmoe.imaging.torso.plan import draw_plan

    agree = [
        (plan.cardiomegaly == torso.truth.cardiomegaly, plan.splenomegaly == torso.truth.splenomegaly)
        for torso in torsos
        for plan in [draw_plan(np.random.default_rng([9, torso.truth.index, 0]))]
    ]
    assert np.mean(agree, axis=0).min() > 0.9


def test_volume_and_mask_share_their_grid(torsos: list[Torso]) -> None:
    torso = torsos[0]
    assert torso.volume.same_grid(replace(torso.mask, data=torso.mask.data))
