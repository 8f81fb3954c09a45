"""The truth says what the labels show, and survives its file."""

import json

import cc3d
import numpy as np
import pytest

from voxmoe.errors import DatasetError
from voxmoe.imaging.torso import Torso, TorsoTruth
from voxmoe.imaging.torso.labels import LABELS, SIDES, value_of, where
from voxmoe.imaging.torso.truth import grade_of


def test_volumes_are_counted(torsos: list[Torso]) -> None:
    for torso in torsos:
        voxel = np.prod(torso.truth.spacing_mm)
        for label in LABELS:
            counted = int((torso.labels == label.value).sum()) * voxel
            assert torso.truth.volumes_mm3.get(label.key, 0) == pytest.approx(counted, abs=0.06)
        assert set(np.unique(torso.labels)) <= {0, *(label.value for label in LABELS)}


def test_lesions_are_the_pieces_of_their_labels(torsos: list[Torso]) -> None:
    """Round ones in lungs, liver and kidneys never touch; all others are one for each label."""
    for torso in torsos:
        for label in (each for each in LABELS if each.finding):
            lesions = torso.truth.of(label.name, label.side)
            mask = torso.labels == label.value
            pieces = int(cc3d.connected_components(mask.astype(np.uint8), connectivity=6).max())
            if label.name in ("nodule", "liver cyst", "liver metastasis"):
                assert len(lesions) == pieces, (torso.truth.id, label)
            else:
                assert len(lesions) == bool(pieces), (torso.truth.id, label)
            total = sum(each.volume_mm3 for each in lesions)
            assert total == pytest.approx(torso.truth.volumes_mm3.get(label.key, 0), abs=1)


def test_places_slices_and_zones_are_those_of_the_voxels(torsos: list[Torso]) -> None:
    for torso in torsos:
        back = np.linalg.inv(torso.affine)
        for lesion in torso.truth.lesions:
            voxel = (back @ [*lesion.centre_mm, 1])[:3]
            low, high = lesion.slices
            assert low - 0.5 <= voxel[2] <= high + 0.5
            value = value_of(lesion.name, lesion.side)
            assert (torso.labels[:, :, [low, high]] == value).any(axis=(0, 1)).all()
            if lesion.diameter_mm:
                assert torso.labels[tuple(np.rint(voxel).astype(int))] == value
            if lesion.zone:
                bottom, top = torso.truth.lung_slices[lesion.side]
                assert lesion.zone == ("upper" if voxel[2] > (bottom + top) / 2 else "lower")


def test_left_and_right_are_the_patients(torsos: list[Torso]) -> None:
    """x grows towards the right: the liver lies there, the spleen at the left, and so does what has a side."""
    for torso in torsos:
        x = torso.affine[0, 0] * np.arange(torso.labels.shape[0]) + torso.affine[0, 3]

        def middle(*names: str, side: str | None = None, torso: Torso = torso, x: np.ndarray = x) -> float:
            return float(np.average(x, weights=where(torso.labels, *names, side=side).sum(axis=(1, 2))))

        spine = middle("bone")
        assert middle("spleen") < middle("heart") < spine + 5
        assert middle("liver") > spine + 20
        for name in ("lung", "kidney"):
            assert middle(name, side="right") > spine + 20 > spine - 20 > middle(name, side="left")
        for lesion in torso.truth.lesions:
            if lesion.side:
                assert (lesion.centre_mm[0] > spine) == (lesion.side == "right"), (torso.truth.id, lesion)


def test_ratio_of_the_heart_and_shares_of_effusions_by_hand(torsos: list[Torso]) -> None:
    for torso in torsos:
        chest = [2, 3, *range(20, 28)]
        width = [np.ptp(np.argwhere(np.isin(torso.labels, values))[:, 0]) + 1 for values in ([5, 28], chest)]
        assert torso.truth.cardiothoracic_ratio == pytest.approx(width[0] / width[1], abs=1e-3)
        for number, side in enumerate(SIDES):
            inside = np.isin(torso.labels, [2 + number, *range(20 + number, 28, 2)])
            for effusion in torso.truth.of("effusion", side):
                share = (torso.labels == 22 + number).sum() / inside.sum()
                assert effusion.share == pytest.approx(share, abs=1e-3)
                assert effusion.grade == grade_of(share)


def test_grades_begin_where_they_are_said_to() -> None:
    assert [grade_of(share) for share in (0.02, 0.0999, 0.1, 0.2999, 0.3, 0.9)] == [
        "small", "small", "moderate", "moderate", "large", "large",
    ]  # fmt: skip


def test_a_truth_survives_its_file(torsos: list[Torso]) -> None:
    for torso in torsos:
        assert TorsoTruth.from_json(json.loads(json.dumps(torso.truth.to_json()))) == torso.truth


@pytest.mark.parametrize("content", [{}, {"phase": "arterial"}, {"phase": "late", "lesions": []}])
def test_other_content_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="not the truth of a CT phantom"):
        TorsoTruth.from_json(content)
