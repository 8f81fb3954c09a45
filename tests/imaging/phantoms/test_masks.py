"""Real masks: one shape is one mould wherever it comes from; what is of no use is told; no patient is in them."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from moulds import DEEP, ball_mask, nested, write_masks

from voxmoe.errors import StudyError
from voxmoe.imaging.parts import Part, label_parts, part_labels
from voxmoe.imaging.phantoms import Masks, read_masks
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.spaces import SRI24
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import PROFILES, Profile

OWN = np.array([[0.9, 0, 0, -20], [0, 1.2, 0, 7], [0, 0, 2.0, -60], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masks(tmp_path_factory.mktemp("masks"), {"BraTS2021_00007": nested()})


@pytest.fixture(scope="module")
def masks(folder: Path) -> Masks:
    return read_masks(folder)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_labels_lead_to_the_parts_that_carry_them(profile: Profile) -> None:
    parts, labels = label_parts(profile), part_labels(profile)
    assert parts[0] == 0
    assert all(labels[parts[value]] == value for value in profile.by_value)
    assert not parts[[value for value in range(256) if value not in profile.by_value]].any()


def test_a_mask_keeps_its_parts_and_its_place(masks: Masks) -> None:
    (mask,) = masks.kept
    np.testing.assert_allclose(mask.centre_mni, DEEP, atol=0.1)
    parts = mask.parts
    core, rim, halo = ((parts == part).sum() for part in (Part.CORE, Part.RIM, Part.HALO))
    assert core == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.02)
    assert core + rim == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
    assert core + rim + halo == pytest.approx(4 / 3 * np.pi * 16**3, rel=0.02)
    assert not mask.hollow
    brain = (load_template().maps["depth"] > 0).sum()
    assert mask.solid == pytest.approx(100 * (core + rim) / brain)
    shell = np.ones(parts.shape, bool)
    shell[1:-1, 1:-1, 1:-1] = False
    assert not parts[shell].any(), "interpolation beyond the border finds nothing"


def test_the_shape_lies_in_the_template_where_it_lay_in_the_other_space(masks: Masks, tmp_path: Path) -> None:
    (there,) = read_masks(write_masks(tmp_path, {"BraTS2021_00001": nested(space=SRI24)})).kept
    (here,) = masks.kept
    np.testing.assert_allclose(there.centre_mni, here.centre_mni, atol=0.1)
    assert there.solid == pytest.approx(here.solid, rel=0.02)


def test_only_the_shape_tells_masks_apart(masks: Masks, folder: Path, tmp_path: Path) -> None:
    (mask,) = masks.kept
    same = nested().data
    as_2023 = np.choose(same, [0, 1, 2, 0, 3]).astype(np.float32, order="F")
    flipped = Volume(np.asfortranarray(as_2023[::-1]), nested().affine @ np.diag([-1.0, 1, 1, 1]), axes="RPS")
    flipped.affine[:3, 3] = nested().affine[:3] @ [as_2023.shape[0] - 1, 0, 0, 1]
    write_volume(flipped, tmp_path / "deeper" / "BraTS-GLI-00031-000-seg.nii.gz")
    shutil.copy(folder / "BraTS2021_00007_seg.nii.gz", tmp_path / "BraTS2021_00999_seg.nii.gz")
    other = nested((40.0, -50.0, 30.0))
    write_volume(other, tmp_path / "BraTS2021_00002_seg.nii.gz")
    found = read_masks(tmp_path)
    assert not found.skipped
    assert len(found.kept) == 2, "what is there twice counts once"
    assert [one.digest for one in found.kept] == sorted(one.digest for one in found.kept)
    assert mask.digest in found.by_digest
    assert np.array_equal(found.by_digest[mask.digest].parts, mask.parts)
    assert found.digest != masks.digest


def test_nothing_of_a_patient_is_kept(masks: Masks, folder: Path) -> None:
    held = pickle.dumps(masks.kept)
    assert b"BraTS" not in held
    assert folder.name.encode() not in held
    assert len(held) < 40_000, "packed"


def own_space(image: np.ndarray, mask: np.ndarray, folder: Path) -> Path:
    write_volume(Volume(np.asfortranarray(image), OWN), folder / "BraTS2021_00003_t1.nii.gz")
    write_volume(Volume(np.asfortranarray(mask), OWN), folder / "BraTS2021_00003_seg.nii.gz")
    return folder


def ellipsoid(shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(map(slice, shape))]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)) < 1


def standing(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A point as deviations of a brain's points from their mean."""
    return (point - points.mean(axis=0)) / points.std(axis=0)


def test_in_a_space_of_its_own_a_mask_lies_as_it_does_in_its_brain(tmp_path: Path) -> None:
    shape, centre, radii = (190, 170, 80), (95.0, 90.0, 40.0), (70.5, 68.5, 33.5)
    brain = ellipsoid(shape, centre, radii).astype(np.int16) * 300
    mask = 2 * ellipsoid(shape, (95 + 35.25, 90, 40 - 16.75), (9.0, 7.0, 4.0)).astype(np.uint8)
    (found,) = read_masks(own_space(brain, mask, tmp_path)).kept
    template = load_template()
    inside = np.argwhere(template.maps["depth"] > 0) + template.origin_mni
    there = standing(inside, np.array(found.centre_mni))
    np.testing.assert_allclose(there, standing(np.argwhere(brain), np.argwhere(mask).mean(axis=0)), atol=0.01)


def test_in_a_standard_space_a_large_brain_is_brought_to_the_templates_size(tmp_path: Path) -> None:
    centre = np.array((120.0, 120.0, 75.0))
    found = []
    for name, size in (("00001", 1.0), ("00002", 1.1)):
        brain = ellipsoid(SRI24.shape, tuple(centre), tuple(size * np.array((66.0, 80.0, 58.0)))).astype(np.int16)
        lesion = 4 * ellipsoid(SRI24.shape, tuple(centre + size * np.array((30.0, 20, -10))), (size * 11,) * 3)
        for role, data in (("flair", brain), ("seg", lesion.astype(np.uint8))):
            volume = Volume(np.asfortranarray(data), SRI24.affine, axes=SRI24.axes)
            write_volume(volume, tmp_path / name / f"BraTS2021_{name}_{role}.nii.gz")
        found += read_masks(tmp_path / name).kept
    np.testing.assert_allclose(found[0].centre_mni, found[1].centre_mni, atol=0.3)
    assert found[0].solid == pytest.approx(found[1].solid, rel=0.02)


def test_where_no_brain_shows_the_place_a_mask_is_left_out(tmp_path: Path) -> None:
    mask = np.zeros((190, 170, 80), np.uint8)
    mask[100:110, 80:90, 30:40] = 2
    head = own_space(np.full(mask.shape, 7, np.int16), mask, tmp_path / "head")
    with pytest.raises(StudyError, match=r"_seg\.nii\.gz: nothing shows .* 5\.6 litres .*no skull-stripped"):
        read_masks(head)
    (head / "BraTS2021_00003_t1.nii.gz").unlink()
    with pytest.raises(StudyError, match=r"_seg\.nii\.gz: nothing shows .* no image beside it"):
        read_masks(head)


def test_what_cannot_be_used_is_told_and_left_out(folder: Path, tmp_path: Path, masks: Masks) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    good = (folder / "BraTS2021_00007_seg.nii.gz").read_bytes()
    (tmp_path / "BraTS2021_00010_seg.nii.gz").write_bytes(good[: len(good) // 2])
    write_masks(tmp_path, {"BraTS2021_00011": ball_mask([]), "BraTS2021_00012": ball_mask([(DEEP, 9.0, 7)])})
    write_masks(tmp_path, {"BraTS-MET-00001-000": nested(), "scan": nested()})
    heard: list[tuple[int, int]] = []
    found = read_masks(tmp_path, progress=lambda done, total: heard.append((done, total)))
    assert [mask.digest for mask in found.kept] == [masks.kept[0].digest]
    assert heard[-1] == (6, 6)
    told = {
        "BraTS2021_00010": "truncated or damaged",
        "BraTS2021_00011": "shows no lesion",
        "BraTS2021_00012": "label value 7",
        "BraTS-MET-00001-000": "met-2024 or met-2025",
        "scan": "no release names its studies so",
    }
    assert len(found.skipped) == len(told)
    assert all(any(name in line and why in line for line in found.skipped) for name, why in told.items())


def test_labels_that_are_no_part_of_a_lesion_are_told(tmp_path: Path) -> None:
    masks = tmp_path / "derivatives" / "lesions" / "sub-01" / "anat"
    write_volume(nested(), masks / "sub-01_dseg.nii.gz")
    write_volume(nested(), tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    table = tmp_path / "derivatives" / "lesions" / "dseg.tsv"
    table.write_text("index\tname\n1\tcore of it\n2\tEdema\n4\tvessel\n")
    with pytest.raises(StudyError, match=r"core of it, vessel is no part of a lesion .*RC"):
        read_masks(tmp_path)
    table.write_text("index\tname\n1\tNCR\n2\tED\n4\tET\n")
    (mask,) = read_masks(tmp_path).kept
    assert set(np.unique(mask.parts)) == {0, Part.HALO, Part.CORE, Part.RIM}


def test_a_named_profile_decides_for_all(folder: Path, masks: Masks) -> None:
    (mask,) = read_masks(folder, profile="ped-2024").kept
    assert set(np.unique(mask.parts)) == {0, Part.HALO, Part.CORE, Part.RIM}
    assert (mask.parts == Part.HALO).sum() == (masks.kept[0].parts == Part.RIM).sum(), "4 is oedema there"


def test_a_folder_without_masks_is_one_clear_error(tmp_path: Path) -> None:
    write_volume(Volume(nested().data, nested().affine), tmp_path / "BraTS2021_00001_t1.nii.gz")
    with pytest.raises(StudyError, match="no mask found"):
        read_masks(tmp_path)
    with pytest.raises(StudyError, match="no such folder"):
        read_masks(tmp_path / "nowhere")


def test_real_masks_are_all_of_use(real_data: Path) -> None:
    before, after = read_masks(real_data / "brats"), read_masks(real_data / "gli2024_masks")
    assert (len(before.kept), len(after.kept)) == (7, 13)
    assert not before.skipped
    assert not after.skipped
    assert not any(mask.hollow for mask in before.kept)
    assert sum(mask.hollow for mask in after.kept) > 6
    template = load_template()
    for mask in (*before.kept, *after.kept):
        x, y, z = np.rint(mask.centre_mni - template.origin_mni).astype(int)
        assert template.maps["depth"][x, y, z] > -2, "in the brain"
