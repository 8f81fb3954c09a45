"""A phantom: the radiological order of contrasts, storage as in the releases, truth and mask."""

import json

import numpy as np
import pytest
from scipy import ndimage

from voxmoe.errors import ImageError
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms import Phantom, Subject, draw_phantom, draw_subject
from voxmoe.imaging.phantoms.contrasts import draw_contrasts
from voxmoe.imaging.phantoms.signal import tissue_signal
from voxmoe.imaging.spaces import SRI24
from voxmoe.vocabulary import PROFILES_BY_NAME, Modality

PREOPERATIVE = PROFILES_BY_NAME["brats-2021"]


@pytest.fixture(scope="module")
def glioma() -> Phantom:
    """The first study before surgery that has every label, some of each."""
    for index in range(20):
        phantom = draw_phantom(PREOPERATIVE, 7, index)
        if all(label["voxels"] > 2000 for label in phantom.truth["labels"].values()):
            return phantom
    raise AssertionError("no study with every label among twenty")


def median(phantom: Phantom, modality: Modality, where: np.ndarray) -> float:
    return float(np.median(phantom.study.images[modality].data[where]))


def tissue(phantom: Phantom) -> dict[str, np.ndarray]:
    """Where fluid, grey and white matter are beyond doubt and no lesion is near."""
    brain = draw_subject(phantom.profile, phantom.truth["seed"], phantom.truth["index"]).scene.brain
    healthy = phantom.study.mask.data == 0
    deep_enough = brain.inside & (brain.depth > 3) & (brain.plexus < 0.01) & (brain.vessel < 0.01)

    def where(fraction: np.ndarray) -> np.ndarray:
        return brain.voxels.on_grid((fraction > 0.9) & deep_enough) & healthy

    return {"csf": where(brain.csf), "grey": where(brain.grey), "white": where(brain.white)}


def test_contrasts_keep_the_radiological_order(glioma: Phantom) -> None:
    at = tissue(glioma)
    values = {label.key: label.value for label in PREOPERATIVE.labels}
    at |= {key: glioma.study.mask.data == value for key, value in values.items()}
    t1, gd, t2, flair = ({name: median(glioma, m, where) for name, where in at.items()} for m in Modality)
    assert t1["white"] > t1["grey"] > t1["csf"]
    assert gd["ET"] / gd["white"] > 1.1 * t1["ET"] / t1["white"]
    assert t1["ET"] < 1.1 * t1["white"]
    assert t2["csf"] > t2["grey"] > t2["white"]
    assert t2["ED"] > 1.1 * t2["white"]
    assert flair["csf"] < 0.7 * flair["white"] < 0.7 * flair["grey"]
    assert flair["ED"] > 1.1 * flair["white"]


def test_solid_cores_are_bright_in_flair_and_fluid_can_be_dark() -> None:
    drawn = [draw_contrasts(np.random.default_rng(seed))[Modality.FLAIR].brightness for seed in range(200)]
    assert min(light["core"] for light in drawn) > 1, "white matter is 1"
    assert min(light["cyst"] for light in drawn) < 0.6


def roughness(subject: Subject, share: np.ndarray, depth: int) -> float:
    """How much the T1 signal of what is `depth` mm within a tissue varies over 3 mm, noise aside, by its mean."""
    voxels = subject.scene.brain.voxels
    image = voxels.volume(tissue_signal(subject.scene, subject.parameters.modalities[Modality.T1]))
    rough = image - ndimage.gaussian_filter(image, 3)
    inside = ndimage.binary_erosion(voxels.volume(share) > 0.9, iterations=depth)
    return float(rough[inside].std() / image[inside].mean())


def test_lesions_are_hardly_rougher_than_white_matter() -> None:
    subjects = [draw_subject(PREOPERATIVE, 7, index) for index in (1, 2, 4)]
    white = [roughness(subject, subject.scene.brain.white, 3) for subject in subjects]
    for part in (Part.HALO, Part.CORE):
        theirs = [roughness(subject, subject.lesions.soft[part], 2) for subject in subjects]
        assert 1 < np.mean(np.divide(theirs, white)) < 2, part.name


def test_images_are_stored_as_the_releases_store_theirs(glioma: Phantom) -> None:
    mask = glioma.study.mask
    assert mask.data.dtype == np.uint8
    brain = glioma.study.foreground
    assert 0.9e6 < brain.sum() < 2.3e6
    for volume in glioma.study.images.values():
        assert volume.data.dtype == np.int16
        assert volume.shape == SRI24.shape
        assert volume.axes == "LPS"
        assert np.array_equal(volume.data > 0, brain)
        assert 100 < np.median(volume.data[brain]) < 10_000
    assert not mask.data[~brain].any()


def test_truth_is_what_the_mask_holds(glioma: Phantom) -> None:
    mask = glioma.study.mask
    assert glioma.truth["brain_voxels"] == glioma.study.foreground.sum()
    for label in PREOPERATIVE.labels:
        truth = glioma.truth["labels"][label.key]
        at = np.argwhere(mask.data == label.value)
        assert truth["voxels"] == len(at)
        centre = mask.affine[:3, :3] @ at.mean(axis=0) + mask.affine[:3, 3]
        np.testing.assert_allclose(truth["centre_mm"], centre, atol=0.02)
    assert json.loads(json.dumps(glioma.truth)) == glioma.truth


def test_lesions_lie_where_the_truth_says(glioma: Phantom) -> None:
    focus = glioma.truth["foci"][0]
    voxel = np.linalg.inv(glioma.study.mask.affine) @ [*focus["centre_mm"], 1]
    x, y, z = np.rint(voxel[:3]).astype(int)
    assert glioma.study.mask.data[x - 12 : x + 13, y - 12 : y + 13, z - 12 : z + 13].any()


@pytest.fixture(scope="module")
def coarse(glioma: Phantom) -> Subject:
    return draw_subject(PREOPERATIVE, 7, glioma.truth["index"], spacing=2.0)


def test_finer_voxels_than_the_template_has_are_refused() -> None:
    with pytest.raises(ImageError, match=r"1 mm or more, not 0\.5 mm"):
        draw_subject(PREOPERATIVE, 0, 0, spacing=0.5)


def halved(volume: np.ndarray) -> np.ndarray:
    """Means of 2x2x2 voxels; a last odd plane counts twice."""
    even = np.pad(volume.astype(np.float32), [(0, size % 2) for size in volume.shape], mode="edge")
    x, y, z = (size // 2 for size in even.shape)
    return even.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


def test_coarse_voxels_show_the_same_brain_and_lesions(glioma: Phantom, coarse: Subject) -> None:
    study = coarse.image().study
    assert study.reference.spacing == (2, 2, 2)
    fine_corner, corner = glioma.study.mask.affine[:3, 3], study.mask.affine[:3, 3]
    np.testing.assert_allclose(corner - fine_corner, 0.5 * glioma.study.mask.affine[:3, :3].sum(axis=1))
    brain = halved(glioma.study.foreground) >= 0.5
    assert 2 * (brain & study.foreground).sum() / (brain.sum() + study.foreground.sum()) > 0.98
    fine = halved(glioma.study.mask.data != 0)
    drawn = sum(coarse.fractions().values())
    assert 2 * np.minimum(fine, drawn).sum() / (fine.sum() + drawn.sum()) > 0.85
    for modality, image in study.images.items():
        both = brain & study.foreground
        assert np.corrcoef(halved(glioma.study.images[modality].data)[both], image.data[both])[0, 1] > 0.85


def test_fractions_agree_with_the_mask(coarse: Subject) -> None:
    fractions = coarse.fractions()
    total = sum(fractions.values())
    assert total.min() >= 0
    assert total.max() < 1 + 1e-5
    assert not total[~coarse.image().study.foreground].any()
    for label in PREOPERATIVE.labels:
        voxels = (coarse.mask.data == label.value).sum()
        assert fractions[label.key].sum() == pytest.approx(voxels, rel=0.15)
        assert fractions[label.key][coarse.mask.data == label.value].mean() > 0.6


def test_another_take_is_the_same_patient_on_another_scanner(coarse: Subject) -> None:
    first, again, second = (coarse.image(take) for take in (0, 0, 1))
    assert first.truth == again.truth
    assert first.truth["parameters"]["foci"] == second.truth["parameters"]["foci"]
    assert first.truth["labels"] == second.truth["labels"]
    for modality, image in first.study.images.items():
        assert np.array_equal(image.data, again.study.images[modality].data)
        other = second.study.images[modality].data
        assert np.array_equal(image.data > 0, other > 0)
        assert not np.array_equal(image.data, other)
