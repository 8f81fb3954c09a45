"""How a mask is placed: drawn once, mirrored about the midline, turned about its own centre."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moulds import DEEP, ball_mask, nested, write_masks

from voxmoe.imaging.phantoms import Masks, read_masks
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.placement import Placement, draw_placement
from voxmoe.vocabulary import PROFILES_BY_NAME

GLI = PROFILES_BY_NAME["gli-2024"]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Masks:
    some = {
        "BraTS-GLI-00001-100": nested(),
        "BraTS-GLI-00002-100": ball_mask([(DEEP, 14.0, 2), (DEEP, 9.0, 4)]),
        "BraTS-GLI-00003-100": ball_mask([(DEEP, 4.0, 3)]),
    }
    some["BraTS-GLI-00001-100"].data[some["BraTS-GLI-00001-100"].data == 4] = 3
    return read_masks(write_masks(tmp_path_factory.mktemp("masks"), some))


def at(matrix: np.ndarray, point: tuple[float, float, float]) -> np.ndarray:
    return matrix[:3, :3] @ point + matrix[:3, 3]


def test_a_placement_is_a_function_of_seed_and_masks_and_no_two_are_alike(masks: Masks) -> None:
    drawn = [draw_placement(np.random.default_rng(seed), masks) for seed in range(60)]
    assert drawn[7] == draw_placement(np.random.default_rng(7), masks)
    assert len({placement.shift for placement in drawn}) == 60
    assert {placement.mask for placement in drawn} == masks.by_digest.keys()
    assert 15 < sum(placement.mirrored for placement in drawn) < 45
    for placement in drawn:
        mask = masks.by_digest[placement.mask]
        assert 0.6 < np.prod(placement.scale) < 1.7
        assert (placement.push == 0) == (mask.solid < 0.5)


def test_all_else_that_is_drawn_stays_as_it_is_without_masks(masks: Masks) -> None:
    shaped, grown = draw_parameters(GLI, 4, 2, masks=masks), draw_parameters(GLI, 4, 2)
    assert shaped.placement is not None
    assert not shaped.foci
    assert replace(shaped, placement=None, foci=grown.foci) == grown
    assert "placement" not in grown.to_json()
    assert shaped.to_json()["placement"]["mask"] in masks.by_digest
    places = [draw_parameters(GLI, 4, index, masks=masks).placement for index in range(4)]
    assert len({place.shift for place in places if place}) == 4


def test_the_centre_of_a_placed_mask_is_the_centre_of_the_mask(masks: Masks) -> None:
    for seed in range(6):
        placement = draw_placement(np.random.default_rng(seed), masks)
        mask = masks.by_digest[placement.mask]
        way = placement.to_mask(mask)
        np.testing.assert_allclose(at(mask.to_mni @ way, placement.centre(mask)), mask.centre_mni, atol=1e-9)
        voxel = abs(np.linalg.det(mask.to_mni[:3, :3]))
        assert abs(np.linalg.det(way[:3, :3])) * voxel * np.prod(placement.scale) == pytest.approx(1)


def test_a_mirrored_mask_is_read_at_the_mirrored_place(masks: Masks) -> None:
    mask = masks.kept[0]
    still = Placement(mask.digest, False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.0)
    mirrored = replace(still, mirrored=True)
    for x, y, z in np.random.default_rng(0).uniform(-50, 50, (5, 3)):
        np.testing.assert_allclose(at(still.to_mask(mask), (x, y, z)), at(mirrored.to_mask(mask), (-x, y, z)))


def test_a_scale_stretches_along_the_mask_and_then_it_is_turned(masks: Masks) -> None:
    mask = masks.kept[0]
    turned = Placement(mask.digest, False, (0.0, 0.0, 90.0), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.0)
    x, y, z = mask.centre_mni
    back = mask.to_mni @ turned.to_mask(mask)
    np.testing.assert_allclose(at(back, (x, y + 10, z)), (x + 5, y, z), atol=1e-9)


def test_the_files_of_a_folder_change_no_placement_by_their_names(masks: Masks, tmp_path: Path) -> None:
    renamed = {
        "BraTS-GLI-00905-101": ball_mask([(DEEP, 4.0, 3)]),
        "BraTS-GLI-00904-101": ball_mask([(DEEP, 14.0, 2), (DEEP, 9.0, 4)]),
        "BraTS-GLI-00903-101": nested(),
    }
    renamed["BraTS-GLI-00903-101"].data[renamed["BraTS-GLI-00903-101"].data == 4] = 3
    others = read_masks(write_masks(tmp_path, renamed))
    assert draw_parameters(GLI, 0, 3, masks=others) == draw_parameters(GLI, 0, 3, masks=masks)
