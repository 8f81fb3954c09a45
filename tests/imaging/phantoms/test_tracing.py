"""Real masks in drawn brains: volumes, proportions, sides and nesting are kept, fluid is respected, fractions are
exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moulds import DEEP, ball_mask, nested, write_masks
from scipy import ndimage

from voxmoe.imaging.parts import Part, part_labels
from voxmoe.imaging.phantoms import Masks, draw_subject, read_masks
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.brain import Brain, grow_brain
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.imaging.phantoms.placement import Placement
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.phantoms.tracing import TracedLesions, trace_lesions
from voxmoe.imaging.phantoms.voxels import Raster
from voxmoe.imaging.spaces import SRI24
from voxmoe.vocabulary import PROFILES_BY_NAME

PREOPERATIVE = PROFILES_BY_NAME["brats-2021"]
SPACING = 2.0
VENTRICLE = (0.0, -41.0, -3.0)
"""The place of the template that is farthest from the ventricles' walls, within."""


def moulds(folder: Path, **masks: object) -> Masks:
    return read_masks(write_masks(folder, {f"BraTS2021_{name}": mask for name, mask in masks.items()}))  # type: ignore[misc]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Masks:
    return moulds(tmp_path_factory.mktemp("masks"), **{"00001": nested()})


@pytest.fixture(scope="module")
def still() -> Anatomy:
    """The template as it is, in the SRI24 space."""
    drawn = draw_parameters(PREOPERATIVE, 0, 0).anatomy
    none = (0.0, 0.0, 0.0)
    return replace(drawn, rotation=none, scale=(1.0, 1.0, 1.0), shear=none, shift=none, elastic=none, ventricles=0.0)


@pytest.fixture(scope="module")
def brain(still: Anatomy) -> Brain:
    return grow_brain(still, (), Raster(SPACING))


def placed(masks: Masks, **changed: object) -> Placement:
    own = {"mirrored": False, "rotation": (0.0, 0.0, 0.0), "scale": (1.0, 1.0, 1.0), "shift": (0.0, 0.0, 0.0)}
    return Placement(mask=masks.kept[0].digest, push=0.0, **{**own, **changed})  # type: ignore[arg-type]


def traced(masks: Masks, brain: Brain, still: Anatomy, **changed: object) -> TracedLesions:
    return trace_lesions(masks.kept[0], placed(masks, **changed), brain, still, True, False)


def mm3(lesions: TracedLesions, part: Part) -> float:
    return float(lesions.filled[part].sum()) * SPACING**3


def centre_mni(lesions: TracedLesions, brain: Brain) -> np.ndarray:
    where = brain.voxels.places(lesions.parts > 0).mean(axis=1)
    return (np.linalg.inv(SRI24.from_mni152) @ SRI24.affine @ [*where, 1])[:3]


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (1.1, 0.95, 0.9)])
def test_volumes_and_proportions_are_those_of_the_mask(
    masks: Masks, brain: Brain, still: Anatomy, scale: tuple[float, float, float]
) -> None:
    lesions = traced(masks, brain, still, scale=scale, rotation=(20.0, -10.0, 5.0))
    room = np.linalg.det(SRI24.from_mni152[:3, :3]) * np.prod(scale)
    real = np.bincount(masks.kept[0].parts.ravel(), minlength=6)
    for part in (Part.CORE, Part.RIM):
        assert mm3(lesions, part) == pytest.approx(real[part] * room, rel=0.01)
    halo = real[Part.HALO] * room
    assert 0.8 * halo < mm3(lesions, Part.HALO) < 1.02 * halo, "less what lies in sulci"
    counted = np.bincount(lesions.parts, minlength=6) * SPACING**3
    assert counted[Part.CORE] == pytest.approx(mm3(lesions, Part.CORE), rel=0.1)
    assert counted[Part.RIM] == pytest.approx(mm3(lesions, Part.RIM), rel=0.1)


def test_a_mirrored_lesion_lies_on_the_other_side(masks: Masks, brain: Brain, still: Anatomy) -> None:
    here, there = (traced(masks, brain, still, mirrored=side) for side in (False, True))
    np.testing.assert_allclose(centre_mni(here, brain), DEEP, atol=0.7)
    np.testing.assert_allclose(centre_mni(there, brain), np.array(DEEP) * (-1, 1, 1), atol=0.7)
    for part in (Part.CORE, Part.RIM):
        assert mm3(here, part) == pytest.approx(mm3(there, part), rel=0.01)


def test_a_shift_moves_the_lesion_and_its_told_centre(masks: Masks, brain: Brain, still: Anatomy) -> None:
    moved = traced(masks, brain, still, shift=(3.0, -4.0, 2.0))
    np.testing.assert_allclose(centre_mni(moved, brain), np.add(DEEP, (3, -4, 2)), atol=0.7)
    (told,) = moved.centres
    np.testing.assert_allclose((np.linalg.inv(SRI24.from_mni152) @ [*told, 1])[:3], np.add(DEEP, (3, -4, 2)), atol=0.3)


def test_in_drawn_brains_a_core_stays_in_its_rim(masks: Masks) -> None:
    for index in range(4):
        subject = draw_subject(PREOPERATIVE, 3, index, SPACING, masks)
        voxels, lesions = subject.scene.brain.voxels, subject.lesions
        parts, swells = voxels.volume(lesions.parts), voxels.volume(subject.scene.brain.csf < 0.7)
        inner = ndimage.binary_dilation(parts == Part.CORE)
        assert np.isin(parts[inner], (Part.CORE, Part.RIM)).all()
        outer = ndimage.binary_dilation(parts >= Part.CORE) & swells
        assert (parts[outer] > 0).mean() > 0.98
        filled = {part: share.sum() for part, share in subject.part_fractions().items()}
        assert filled[Part.CORE] / (filled[Part.CORE] + filled[Part.RIM]) == pytest.approx((8 / 12) ** 3, abs=0.04)
        placement = subject.parameters.placement
        assert placement is not None
        percent = 100 * (filled[Part.CORE] + filled[Part.RIM]) / subject.scene.brain.inside.sum()
        assert percent == pytest.approx(masks.kept[0].solid * np.prod(placement.scale), rel=0.35), "as it is warped"


def test_the_mask_says_what_the_fractions_say(masks: Masks) -> None:
    subject = draw_subject(PREOPERATIVE, 3, 0, SPACING, masks)
    fractions = subject.fractions()
    shares = np.stack([fractions[label.key] for label in PREOPERATIVE.labels])
    total = shares.sum(axis=0)
    assert total.min() >= 0
    assert total.max() < 1 + 1e-5
    mask = subject.mask.data
    assert np.array_equal(mask > 0, total >= 0.5)
    values = np.array([label.value for label in PREOPERATIVE.labels])
    chosen = np.take_along_axis(shares, np.searchsorted(values, mask)[None].clip(0, 2), axis=0)[0]
    assert np.array_equal(chosen[mask > 0], shares.max(axis=0)[mask > 0])
    truth = subject.image().truth
    for label in PREOPERATIVE.labels:
        assert truth["labels"][label.key]["voxels"] == (mask == label.value).sum()
        assert fractions[label.key].sum() == pytest.approx((mask == label.value).sum(), rel=0.1)
    assert truth["parameters"]["placement"]["mask"] == masks.kept[0].digest
    assert [focus["kind"] for focus in truth["foci"]] == ["from a mask"]


def test_coarser_voxels_hold_the_same_lesions(masks: Masks) -> None:
    fine, coarse = (draw_subject(PREOPERATIVE, 3, 1, spacing, masks).part_fractions() for spacing in (2.0, 4.0))
    for part in (Part.CORE, Part.RIM):
        assert 8 * coarse[part].sum() == pytest.approx(fine[part].sum(), rel=0.02)


def test_the_same_masks_give_the_same_bytes_and_others_do_not(masks: Masks, tmp_path: Path) -> None:
    one, again = (draw_subject(PREOPERATIVE, 3, 2, 4.0, masks).image() for _ in range(2))
    assert one.truth == again.truth
    assert all(np.array_equal(image.data, again.study.images[m].data) for m, image in one.study.images.items())
    other = draw_subject(PREOPERATIVE, 3, 2, 4.0, moulds(tmp_path, **{"00002": nested((30.0, 20.0, 30.0))})).image()
    assert not np.array_equal(one.study.mask.data, other.study.mask.data)  # type: ignore[union-attr]


def test_halo_ends_at_fluid_and_tumour_takes_its_place(brain: Brain, still: Anatomy, tmp_path: Path) -> None:
    beside = (22.0, -38.0, 16.0)
    lesions = traced(moulds(tmp_path, **{"00003": nested(beside)}), brain, still)
    in_ventricle = brain.inside & (brain.ventricle < -1)
    assert (lesions.filled[Part.RIM] * in_ventricle).sum() > 5, "the lesion has to reach into a ventricle"
    assert not lesions.filled[Part.HALO][brain.ventricle <= 0.3].any()
    assert not lesions.filled[Part.HALO][brain.csf >= 0.7].any()
    core = brain.voxels.volume(lesions.parts == Part.CORE)
    parts = brain.voxels.volume(lesions.parts)
    assert np.isin(parts[ndimage.binary_dilation(core)], (Part.CORE, Part.RIM)).all()
    assert not lesions.parts[~brain.inside].any()


def test_what_floats_in_a_ventricle_is_left_out_unless_it_grows_there(
    brain: Brain, still: Anatomy, tmp_path: Path
) -> None:
    template = load_template()
    x, y, z = np.rint(np.array(VENTRICLE) - template.origin_mni).astype(int)
    assert template.maps["ventricle"][x, y, z] < -5
    masks = moulds(tmp_path, **{"00004": ball_mask([(DEEP, 9.0, 4), (VENTRICLE, 4.0, 4)])})
    assert masks.kept[0].solid < 0.2, "the largest piece alone"
    without, grown = (
        trace_lesions(masks.kept[0], placed(masks), brain, still, True, in_ventricles)
        for in_ventricles in (False, True)
    )
    afloat = grown.filled[Part.RIM] - without.filled[Part.RIM]
    small, large = 4 / 3 * np.pi * np.array([4.0, 9.0]) ** 3 * np.linalg.det(SRI24.from_mni152[:3, :3])
    assert afloat.sum() * SPACING**3 == pytest.approx(small, rel=0.1)
    assert mm3(without, Part.RIM) == pytest.approx(large, rel=0.03)


def test_a_cavity_is_fluid_of_the_tumour_where_the_profile_has_none(
    brain: Brain, still: Anatomy, tmp_path: Path
) -> None:
    mask = ball_mask([(DEEP, 14.0, 2), (DEEP, 10.0, 4)])
    masks = read_masks(write_masks(tmp_path, {"BraTS-GLI-00001-100": mask}))
    hollow, solid = (
        trace_lesions(masks.kept[0], placed(masks), brain, still, cavities, False) for cavities in (True, False)
    )
    assert np.array_equal(hollow.filled[Part.CAVITY], solid.filled[Part.CYST])
    assert Part.CAVITY not in solid.filled
    subject = draw_subject(PREOPERATIVE, 0, 0, 4.0, masks)
    assert set(np.unique(subject.mask.data)) == {0, *part_labels(PREOPERATIVE)[[Part.HALO, Part.CYST]]}


def test_real_masks_keep_their_share_of_the_brain_and_their_proportions(real_data: Path) -> None:
    profile = PROFILES_BY_NAME["gli-2023"]
    masks = read_masks(real_data / "brats")
    brain_mni = (load_template().maps["depth"] > 0).sum()
    for index in range(5):
        subject = draw_subject(profile, 0, index, SPACING, masks)
        placement = subject.parameters.placement
        assert placement is not None
        mask = masks.by_digest[placement.mask]
        real = np.bincount(mask.parts.ravel(), minlength=6)[1:] * abs(np.linalg.det(mask.to_mni[:3, :3])) / brain_mni
        drawn = np.array([share.sum() for share in subject.part_fractions().values()])
        drawn = drawn / subject.scene.brain.inside.sum()
        assert drawn.sum() == pytest.approx(real.sum() * np.prod(placement.scale), rel=0.35)
        np.testing.assert_allclose(drawn / drawn.sum(), real / real.sum(), atol=0.1)
        assert subject.image().study.mask is not None
