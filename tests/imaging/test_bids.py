"""BIDS datasets: subjects and sessions, contrast agents, masks in derivatives, tables by inheritance."""

from pathlib import Path

import pytest

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.layouts import find_studies, find_study, mask_alone, profile_named, require_profile
from voxmoe.imaging.study import StudyFiles
from voxmoe.vocabulary import Modality

TABLE = "index\tname\n0\tBackground\n1\tPeritumoral Edema\n3\tEnhancing Tumour\n"


def touch(root: Path, *names: str, text: str = "") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two subjects, the first with two sessions; masks of three of the four studies."""
    root = tmp_path / "gliomas"
    for session in ("01", "02"):
        start = f"sub-a1/ses-{session}/anat/sub-a1_ses-{session}"
        touch(root, f"{start}_T1w.nii.gz", f"{start}_ce-gadolinium_T1w.nii.gz", f"{start}_T1w.json")
        touch(root, f"{start}_acq-3D_T2w.nii.gz", f"{start}_FLAIR.nii", f"{start}_T2map.nii.gz")
        touch(root, f"derivatives/manual/{start}_dseg.nii.gz")
    touch(root, "sub-b2/anat/sub-b2_run-1_T1w.nii.gz", "sub-b2/func/sub-b2_task-rest_bold.nii.gz")
    touch(root, "derivatives/manual/sub-b2/anat/sub-b2_label-lesion_mask.nii.gz")
    touch(root, "derivatives/manual/sub-b2/anat/sub-b2_label-WM_mask.nii.gz", "derivatives/README")
    touch(root, "sub-c3/anat/sub-c3_T2w.nii.gz", "sub-c3/anat/._sub-c3_T1w.nii.gz")
    return touch(root, "derivatives/manual/dseg.tsv", text=TABLE)


def test_studies_are_sessions_and_patients_are_subjects(bids: Path) -> None:
    studies = find_studies(bids.parent)
    assert [(study.id, study.patient) for study in studies] == [
        ("sub-a1_ses-01", "sub-a1"),
        ("sub-a1_ses-02", "sub-a1"),
        ("sub-b2", "sub-b2"),
        ("sub-c3", "sub-c3"),
    ]
    anat = bids / "sub-a1" / "ses-02" / "anat"
    assert studies[1].images == {
        Modality.T1: anat / "sub-a1_ses-02_T1w.nii.gz",
        Modality.T1GD: anat / "sub-a1_ses-02_ce-gadolinium_T1w.nii.gz",
        Modality.T2: anat / "sub-a1_ses-02_acq-3D_T2w.nii.gz",
        Modality.FLAIR: anat / "sub-a1_ses-02_FLAIR.nii",
    }
    masks = bids / "derivatives" / "manual"
    assert [study.mask for study in studies] == [
        masks / "sub-a1" / "ses-01" / "anat" / "sub-a1_ses-01_dseg.nii.gz",
        masks / "sub-a1" / "ses-02" / "anat" / "sub-a1_ses-02_dseg.nii.gz",
        masks / "sub-b2" / "anat" / "sub-b2_label-lesion_mask.nii.gz",
        None,
    ]


def test_labels_are_those_of_the_table(bids: Path) -> None:
    first, _, lesion, without = find_studies(bids)
    assert first.profile is not None
    assert lesion.profile is not None
    assert first.profile.name == "bids:gliomas"
    assert first.profile.labels_from == str(bids / "derivatives" / "manual" / "dseg.tsv")
    assert {label.key: label.values for label in first.profile.labels} == {"ED": (1,), "ET": (3,)}
    assert [(label.value, label.name) for label in lesion.profile.labels] == [(1, "lesion")]
    assert without.profile is None
    assert find_study(bids / "sub-c3", "gli").profile == profile_named("gli-2024")
    assert find_study(bids / "sub-b2", "bids") == find_study(bids / "sub-b2")


def test_a_subject_or_a_session_alone_keeps_its_masks(bids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = find_studies(bids)
    assert find_studies(bids / "sub-a1") == every[:2]
    assert find_study(bids / "sub-a1" / "ses-02") == every[1]
    assert find_study(bids / "sub-a1" / "ses-02" / "anat") == every[1]
    assert find_study(bids / "sub-a1_ses-02") == every[1]
    monkeypatch.chdir(bids / "sub-b2")
    assert find_study(".") == every[2]


def test_the_nearest_table_wins(bids: Path) -> None:
    start = "derivatives/manual/sub-a1/ses-01/anat/sub-a1_ses-01"
    touch(bids, f"{start}_dseg.tsv", text="index\tname\n1\tRC\n")
    touch(bids, "derivatives/manual/space-MNI_dseg.tsv", "derivatives/manual/sub-a1/sub-zz_dseg.tsv", text="nonsense")
    first, second, *_ = find_studies(bids)
    assert first.profile is not None
    assert second.profile is not None
    assert (first.profile.keys, second.profile.keys) == (("RC",), ("ED", "ET"))


def test_a_mask_alone_inherits_its_table(bids: Path) -> None:
    first, *_ = find_studies(bids)
    assert first.mask is not None
    assert mask_alone(first.mask).profile == first.profile
    assert mask_alone(first.mask).id == "sub-a1_ses-01"


def test_a_mask_without_a_table_asks_for_the_profile(bids: Path) -> None:
    (bids / "derivatives" / "manual" / "dseg.tsv").unlink()
    with pytest.raises(LabelError, match=r"sub-a1_ses-01: .*--profile .*or in the dataset itself .*dseg\.tsv of BIDS"):
        require_profile(find_studies(bids)[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("value\tname\n1\tED\n", "has the columns value, name; index and name are needed"),
        ("", "has the columns none; index and name are needed"),
        ("index,name\n1,ED\n", "has the columns index,name; index and name are needed"),
        ("index\tname\nED\t1\n", "is no table of label values"),
        ("index\tname\n\tED\n", "is no table of label values"),
        ("index\tname\n0\tBackground\n", "names no label but the background"),
        ("index\tname\n1000\tED\n", "label 'ED' has 1000; whole values from 1 to 255 are allowed"),
    ],
)
def test_tables_that_are_none(text: str, message: str, bids: Path) -> None:
    (bids / "derivatives" / "manual" / "dseg.tsv").write_text(text)
    with pytest.raises(LabelError, match=rf"dseg\.tsv: {message}"):
        find_studies(bids)
    study = find_studies(bids, "gli")[0]
    assert study.mask is not None
    assert study.profile == mask_alone(study.mask, "gli").profile == profile_named("gli-2024")


def test_a_row_without_a_name_is_called_by_its_value(bids: Path) -> None:
    (bids / "derivatives" / "manual" / "dseg.tsv").write_text("index\tname\n1\tED\n7\n")
    profile = find_studies(bids)[0].profile
    assert profile is not None
    assert [label.name for label in profile.labels] == ["ED", "label 7"]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("sub-c3_T2w.nii", "T2 image"),
        ("sub-c3_run-2_T2w.nii.gz", "T2 image"),
        ("sub-c3_space-MNI152Lin_T2w.nii.gz", "T2 image"),
    ],
)
def test_two_images_of_one_modality(name: str, role: str, bids: Path) -> None:
    touch(bids, f"sub-c3/anat/{name}")
    with pytest.raises(StudyError, match=rf"both claim to be the {role} of sub-c3; keep one of them"):
        find_studies(bids)


def test_two_masks_of_one_study(bids: Path) -> None:
    touch(bids, "derivatives/auto/sub-a1/ses-01/anat/sub-a1_ses-01_dseg.nii.gz")
    with pytest.raises(StudyError, match=r"auto/.* and .*manual/.* both claim to be the mask of sub-a1_ses-01"):
        find_studies(bids)


def test_of_two_masks_the_one_in_the_space_of_the_images(bids: Path) -> None:
    touch(bids, "derivatives/auto/sub-a1/ses-01/anat/sub-a1_ses-01_space-MNI152Lin_dseg.nii.gz")
    mask = find_studies(bids)[0].mask
    assert mask is not None
    assert mask.name == "sub-a1_ses-01_dseg.nii.gz"


def test_a_derivative_is_a_dataset_of_its_own_with_masks_beside_it(bids: Path) -> None:
    start = "sub-a1/ses-01/anat/sub-a1_ses-01_space-MNI152NLin6Asym_desc-brain"
    touch(bids, f"derivatives/stripped/{start}_T1w.nii.gz", f"derivatives/stripped/{start}_FLAIR.nii.gz")
    study = find_study(bids / "derivatives" / "stripped")
    assert (study.space, set(study.images)) == ("MNI152", {Modality.T1, Modality.FLAIR})
    assert study.mask == bids / "derivatives/manual/sub-a1/ses-01/anat/sub-a1_ses-01_dseg.nii.gz"
    assert find_studies(bids)[0].space is None


def test_folders_of_subjects_without_anat_are_no_bids(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/sub-01_t1.nii.gz", "sub-01/sub-01_seg.nii.gz")
    folder = tmp_path / "sub-01"
    images = {Modality.T1: folder / "sub-01_t1.nii.gz"}
    assert find_studies(tmp_path) == [StudyFiles("sub-01", "sub-01", images, folder / "sub-01_seg.nii.gz")]
