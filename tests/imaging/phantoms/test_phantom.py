"""A phantom: the radiological order of contrasts, storage as in the releases, truth and mask."""

import json

import numpy as np
import pytest

from voxmoe.imaging.phantoms import Phantom, draw_phantom
from voxmoe.imaging.phantoms.brain import grow_brain
from voxmoe.imaging.phantoms.foci import pushes
from voxmoe.imaging.phantoms.parameters import draw_parameters
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
    parameters = draw_parameters(phantom.profile, phantom.truth["seed"], phantom.truth["index"])
    brain = grow_brain(parameters.anatomy, pushes(parameters.foci, parameters.anatomy))
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
    assert gd["ET"] > 1.1 * gd["white"]
    assert t1["ET"] < 1.02 * t1["white"]
    assert t2["csf"] > t2["grey"] > t2["white"]
    assert t2["ED"] > 1.1 * t2["white"]
    assert flair["csf"] < 0.7 * flair["white"] < 0.7 * flair["grey"]
    assert flair["ED"] > 1.1 * flair["white"]


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
