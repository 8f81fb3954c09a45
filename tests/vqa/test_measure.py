"""Findings of what a user names: a folder, a mask alone, a mask with its T1."""

from pathlib import Path

import numpy as np
import pytest

from conftest import make_study
from voxmoe.errors import AtlasError, ImageError, LabelError, StudyError
from voxmoe.imaging.spaces import MNI152
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import Modality
from voxmoe.vqa.findings import Brain
from voxmoe.vqa.measure import brain_of, measure
from voxmoe.vqa.protocol import PAPER_V2, PROTOCOLS, Protocol

SUFFIXES = {Modality.T1: "t1n", Modality.T1GD: "t1c", Modality.T2: "t2w", Modality.FLAIR: "t2f"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study on a grid of no known space."""
    study = make_study(id="BraTS-GLI-00001-100")
    assert study.mask is not None
    for modality, volume in study.images.items():
        write_volume(volume, tmp_path / f"{study.id}-{SUFFIXES[modality]}.nii.gz")
    write_volume(study.mask, tmp_path / f"{study.id}-seg.nii.gz")
    return tmp_path


@pytest.fixture
def mni_mask(tmp_path: Path) -> Path:
    """A cube of ET in the left thalamus."""
    mask = np.zeros(MNI152.shape, np.uint8)
    mask[79:83, 106:110, 78:82] = 3
    write_volume(Volume(mask, MNI152.affine, axes="LAS"), tmp_path / "BraTS-GLI-00001-100-seg.nii.gz")
    return tmp_path / "BraTS-GLI-00001-100-seg.nii.gz"


def test_a_folder_without_a_space_has_all_but_regions(folder: Path) -> None:
    study, findings = make_study(), measure(folder)
    assert study.mask is not None
    assert (findings.profile, findings.protocol, findings.brain_from) == ("gli-2024", "paper-v2", "T1")
    assert findings.brain_voxels == np.count_nonzero(study.images[Modality.T1].data)
    for value, key in ((1, "NETC"), (2, "SNFH"), (3, "ET")):
        found = findings.labels[key]
        assert found.voxels == np.count_nonzero(study.mask.data == value)
        assert found.volume is not None
        assert found.regions is None
        assert "its grid (24x28x20 voxels" in found.reasons["regions"]
    assert not findings.labels["RC"].present


def test_an_atlas_that_was_asked_for_has_to_fit(folder: Path) -> None:
    with pytest.raises(AtlasError, match="is neither that of SRI24"):
        measure(folder, atlas="aal")
    assert measure(folder, space="MNI152").space == "MNI152"


def test_the_mask_alone(folder: Path) -> None:
    findings = measure(folder / "BraTS-GLI-00001-100-seg.nii.gz")
    assert (findings.profile, findings.brain_voxels, findings.brain_from) == ("gli-2024", None, None)
    assert findings.labels["ET"].volume is None
    assert findings.labels["ET"].reasons["volume"] == "no T1 image: the brain's volume is unknown"
    assert findings.labels["ET"].shape == measure(folder).labels["ET"].shape


def test_the_mask_with_its_t1(folder: Path) -> None:
    mask, t1 = (folder / f"BraTS-GLI-00001-100-{part}.nii.gz" for part in ("seg", "t1n"))
    assert measure(mask, t1=t1).labels["ET"].volume == measure(folder).labels["ET"].volume
    write_volume(Volume(np.ones((5, 5, 5), np.uint8), np.eye(4)), folder / "other.nii.gz")
    with pytest.raises(StudyError, match=r"other\.nii\.gz: lies on another grid than"):
        measure(mask, t1=folder / "other.nii.gz")


def test_regions_by_the_space_of_the_mask(mni_mask: Path) -> None:
    findings = measure(mni_mask)
    assert (findings.atlas, findings.space) == ("desikan-killiany", "MNI152")
    assert findings.labels["ET"].regions == {"subcortical": ("left",)}
    assert measure(mni_mask, protocol="code-v3").atlas == "aal"


def test_the_profile_says_what_the_values_mean(folder: Path) -> None:
    mask = folder / "BraTS-GLI-00001-100-seg.nii.gz"
    assert list(measure(mask, profile="goat").labels) == ["NCR", "ED", "ET"]
    assert list(measure(folder, profile="ped-2024").labels) == ["ET", "NET", "CC", "ED"]
    with pytest.raises(LabelError, match="label value 3 is not in profile brats-2021"):
        measure(mask, profile="brats-2021")
    with pytest.raises(LabelError, match="no profile is called 'brats'"):
        measure(mask, profile="brats")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BraTS-MET-00001-000-seg.nii.gz", r"BraTS-MET-00001-000: .*\(met-2024 or met-2025.*name it with --profile"),
        ("mine_mask.nii.gz", "mine: no release names its studies so"),
        ("labels.nii.gz", "labels: no release names its studies so"),
    ],
)
def test_a_mask_of_no_clear_release(name: str, message: str, folder: Path) -> None:
    mask = (folder / "BraTS-GLI-00001-100-seg.nii.gz").rename(folder / name)
    with pytest.raises(LabelError, match=message):
        measure(mask)
    assert measure(mask, profile="met").profile == "met-2024"


@pytest.mark.parametrize("name", ["BraTS-GLI-00001-100-seg.nii.gz", "mine.nii.gz"])
def test_what_is_not_there_is_named_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{name}: no such file"):
        measure(tmp_path / name)
    with pytest.raises(StudyError, match=r"nowhere: no such folder$"):
        measure(tmp_path / "nowhere")


def test_a_study_without_a_mask(folder: Path) -> None:
    (folder / "BraTS-GLI-00001-100-seg.nii.gz").unlink()
    with pytest.raises(StudyError, match="BraTS-GLI-00001-100: has no mask"):
        measure(folder)


def test_an_unknown_protocol(folder: Path) -> None:
    with pytest.raises(LabelError, match="no protocol is called 'strict'"):
        measure(folder, protocol="strict")


def test_the_brain_is_measured_on_the_first_modality_there_is() -> None:
    study = make_study(modalities=(Modality.FLAIR, Modality.T2))
    brain = brain_of(dict(study.images), PAPER_V2)
    assert isinstance(brain, Brain)
    assert brain.source == "T2"


@pytest.mark.parametrize(("millimetres", "is_brain"), [(2.5, True), (3, False)])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_more_than_a_brain_is_no_brain(millimetres: float, is_brain: bool, protocol: Protocol) -> None:
    """A block of 150,000 voxels is 2.3 l at 2.5 mm and 4.0 l at 3 mm."""
    data = np.zeros((60, 60, 60), np.float32)
    data[2:52, 2:52] = 7
    found = brain_of({Modality.T1: Volume(data, np.diag([*[millimetres] * 3, 1.0]), "the T1")}, protocol)
    if is_brain:
        assert found == Brain(150_000, "T1")
    else:
        assert isinstance(found, str)
        assert found == (
            "the T1: 4.0 l of it are not background, where a brain has at most 2.5: a skull-stripped T1 image, 0 "
            "around the brain, is needed"
        )


def test_a_head_with_its_skull_leaves_out_the_volume_alone(folder: Path) -> None:
    study = make_study()
    head = Volume(np.ones(study.reference.shape, np.float32), np.diag([6.0, 6, 6, 1]))
    for path in folder.glob("*.nii.gz"):
        volume = study.mask if "seg" in path.name else head
        assert volume is not None
        write_volume(Volume(volume.data, head.affine), path)
    et = measure(folder).labels["ET"]
    assert (et.relative_volume, et.brain_fraction, et.volume) == (None, None, None)
    assert "a skull-stripped T1 image, 0 around the brain, is needed" in et.reasons["volume"]
    assert et.shape_numbers is not None
