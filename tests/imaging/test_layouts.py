"""Every naming of the BraTS releases 2017-2025, and folders that are not as they should be."""

from pathlib import Path

import pytest

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.layouts import (
    candidate_profiles,
    find_studies,
    find_study,
    mask_alone,
    profile_named,
    require_profile,
    study_from_paths,
)
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.vocabulary import PROFILES, Modality

OLD = ("_t1.nii.gz", "_t1ce.nii.gz", "_t2.nii.gz", "_flair.nii.gz", "_seg.nii.gz")
NEW = ("-t1n.nii.gz", "-t1c.nii.gz", "-t2w.nii.gz", "-t2f.nii.gz", "-seg.nii.gz")

RELEASES = [
    ("Brats17_2013_10_1", OLD, "brats-2018", "Brats17_2013_10_1"),
    ("Brats17_TCIA_605_1", OLD, "brats-2018", "Brats17_TCIA_605_1"),
    ("Brats18_CBICA_AAB_1", OLD, "brats-2018", "Brats18_CBICA_AAB_1"),
    ("BraTS19_TMC_06290_1", OLD, "brats-2019", "BraTS19_TMC_06290_1"),
    ("BraTS20_Training_001", [name.removesuffix(".gz") for name in OLD], "brats-2020", "BraTS20_Training_001"),
    ("BraTS2021_00000", OLD, "brats-2021", "BraTS2021_00000"),
    ("BraTS-GLI-00000-000", NEW, "gli-2023", "BraTS-GLI-00000"),
    ("BraTS-GLI-00005-001", NEW, "gli-2023", "BraTS-GLI-00005"),
    ("BraTS-GLI-02078-103", NEW, "gli-2024", "BraTS-GLI-02078"),
    ("BraTS-MET-00002-000", NEW, None, "BraTS-MET-00002"),
    ("BraTS-GoAT-00123", NEW, "goat-2024", "BraTS-GoAT-00123"),
    ("BraTS-PED-00001-000", NEW, None, "BraTS-PED-00001"),
    ("BraTS-SSA-00002-000", NEW, "ssa-2023", "BraTS-SSA-00002"),
    ("BraTS-MEN-00000-000", NEW, "men-2023", "BraTS-MEN-00000"),
]


def fill(folder: Path, study: str, endings: tuple[str, ...] | list[str] = NEW) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for ending in endings:
        (folder / f"{study}{ending}").touch()
    return folder


@pytest.mark.parametrize(("study", "endings", "profile", "patient"), RELEASES)
def test_naming_of_each_release(
    study: str, endings: tuple[str, ...], profile: str | None, patient: str, tmp_path: Path
) -> None:
    folder = fill(tmp_path / study, study, endings)
    assert find_study(tmp_path) == StudyFiles(
        id=study,
        patient=patient,
        images=dict(zip(Modality, (folder / f"{study}{ending}" for ending in endings), strict=False)),
        mask=folder / f"{study}{endings[-1]}",
        profile=profile_named(profile) if profile else None,
    )


def test_radiotherapy_meningioma_has_one_modality_and_a_gtv(tmp_path: Path) -> None:
    folder = fill(tmp_path, "BraTS-MEN-RT-0000-1", ["_t1c.nii.gz", "_gtv.nii.gz"])
    study = find_study(folder)
    assert (study.id, study.patient) == ("BraTS-MEN-RT-0000-1", "BraTS-MEN-RT-0000")
    assert study.images == {Modality.T1GD: folder / "BraTS-MEN-RT-0000-1_t1c.nii.gz"}
    assert study.mask == folder / "BraTS-MEN-RT-0000-1_gtv.nii.gz"
    assert study.profile == profile_named("men-rt-2024")


def test_case_355_of_2020(tmp_path: Path) -> None:
    name = "BraTS20_Training_355"
    folder = fill(tmp_path / name, name, ["_t1.nii", "_t1ce.nii", "_t2.nii", "_flair.nii"])
    (folder / "W39_1998.09.19_Segm.nii").touch()
    study = find_study(tmp_path)
    assert study.id == name
    assert study.mask == folder / "W39_1998.09.19_Segm.nii"
    assert study.profile == profile_named("brats-2020")


def test_a_stray_mask_is_not_adopted_where_several_studies_lie(tmp_path: Path) -> None:
    for name in ("BraTS20_Training_001", "BraTS20_Training_002"):
        fill(tmp_path, name, ["_t1.nii"])
    (tmp_path / "W39_1998.09.19_Segm.nii").touch()
    assert [study.mask for study in find_studies(tmp_path)] == [None, None]


def test_grades_in_folders_of_their_own(tmp_path: Path) -> None:
    fill(tmp_path / "HGG" / "Brats18_2013_11_1", "Brats18_2013_11_1", OLD)
    fill(tmp_path / "LGG" / "Brats18_2013_0_1", "Brats18_2013_0_1", OLD)
    (tmp_path / "survival_data.csv").touch()
    assert [study.id for study in find_studies(tmp_path)] == ["Brats18_2013_0_1", "Brats18_2013_11_1"]


def test_flat_folder_of_several_studies(tmp_path: Path) -> None:
    names = ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"]
    for name in names:
        fill(tmp_path, name)
    studies = find_studies(tmp_path)
    assert [study.id for study in studies] == names
    assert [study.patient for study in studies] == ["BraTS-GLI-00001", "BraTS-GLI-00001", "BraTS-GLI-00002"]
    assert all(len(study.images) == 4 and study.mask for study in studies)


@pytest.mark.parametrize(
    ("ending", "modality"),
    [
        ("-t2W.nii.gz", Modality.T2),
        ("_T1w.nii", Modality.T1),
        ("_T1Gd.nii.gz", Modality.T1GD),
        ("-t1post.nii", Modality.T1GD),
        ("_fla.nii.gz", Modality.FLAIR),
        ("_FLAIR.NII.GZ", Modality.FLAIR),
        (".t2flair.nii", Modality.FLAIR),
    ],
)
def test_spellings_of_a_modality(ending: str, modality: Modality, tmp_path: Path) -> None:
    study = find_study(fill(tmp_path, "case", [ending]))
    assert (study.id, dict(study.images)) == ("case", {modality: tmp_path / f"case{ending}"})


def test_files_named_by_role_alone_take_the_name_of_their_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "patient7", "", ["t1.nii.gz", "flair.nii.gz", "seg.nii.gz", "notes.nii.gz"])
    study = find_study(folder)
    assert (study.id, set(study.images)) == ("patient7", {Modality.T1, Modality.FLAIR})
    assert study.mask == folder / "seg.nii.gz"


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    name = "BraTS2021_00000"
    folder = fill(tmp_path / name, name, OLD)
    fill(folder, f"._{name}", OLD)
    fill(tmp_path / ".cache" / name, name, OLD)
    assert [study.id for study in find_studies(tmp_path)] == [name]


def test_masks_without_images_are_no_study(tmp_path: Path) -> None:
    fill(tmp_path, "BraTS-GLI-02078-103", ["-seg.nii.gz"])
    with pytest.raises(StudyError, match=r"no study found; a study is a set of files such as ID-t1n\.nii\.gz"):
        find_studies(tmp_path)


def test_no_folder_and_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere: no such folder$"):
        find_studies(tmp_path / "nowhere")
    (tmp_path / "file.nii.gz").touch()
    with pytest.raises(StudyError, match="is a file, not a folder"):
        find_studies(tmp_path / "file.nii.gz")
    with pytest.raises(StudyError, match="no study found"):
        find_studies(tmp_path)


def test_a_mask_of_another_study_is_not_adopted(tmp_path: Path) -> None:
    fill(tmp_path, "BraTS2021_00001", OLD[:4])
    (tmp_path / "BraTS2021_00002_seg.nii.gz").touch()
    assert [study.mask for study in find_studies(tmp_path)] == [None]


def test_a_validation_folder_has_no_masks(tmp_path: Path) -> None:
    for name in ("BraTS20_Validation_001", "BraTS20_Validation_002"):
        fill(tmp_path / name, name, OLD[:4])
    studies = find_studies(tmp_path)
    assert [(study.mask, study.profile, study.held_out) for study in studies] == [
        (None, profile_named("brats-2020"), False)
    ] * 2


@pytest.mark.parametrize("endings", [("_t1ce.nii.gz", "_t1gd.nii.gz"), ("-t1c.nii", "-t1c.nii.gz")])
def test_two_files_for_one_modality(endings: tuple[str, ...], tmp_path: Path) -> None:
    fill(tmp_path, "case", endings)
    with pytest.raises(StudyError) as error:
        find_studies(tmp_path)
    first, second = sorted(f"case{ending}" for ending in endings)
    assert str(error.value) == (
        f"{tmp_path}: {first} and {second} both claim to be the T1Gd image of case; keep one of them"
    )


def test_two_masks_for_one_study(tmp_path: Path) -> None:
    fill(tmp_path, "case", ["_t1.nii.gz", "_seg.nii.gz", "_segm.nii.gz"])
    with pytest.raises(StudyError, match=r"case_seg\.nii\.gz and case_segm\.nii\.gz both claim to be the mask of case"):
        find_studies(tmp_path)


def test_a_mask_in_both_storage_forms(tmp_path: Path) -> None:
    fill(tmp_path, "case", ["_t1.nii.gz", "_seg.nii", "_seg.nii.gz"])
    with pytest.raises(StudyError, match=r"case_seg\.nii and case_seg\.nii\.gz both claim to be the mask of case"):
        find_studies(tmp_path)


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        fill(tmp_path / folder, "BraTS2021_00000", OLD)
    with pytest.raises(StudyError, match=r"study BraTS2021_00000 lies in .*/a and .*/b; keep one of them"):
        find_studies(tmp_path)


def test_several_studies_where_one_is_meant(tmp_path: Path) -> None:
    for number in range(5):
        fill(tmp_path, f"BraTS2021_0000{number}", OLD)
    with pytest.raises(StudyError) as error:
        find_study(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: holds 5 studies (BraTS2021_00000, BraTS2021_00001, BraTS2021_00002, BraTS2021_00003 ..); "
        "name the folder of one of them, or where they have none, DATASET/STUDY"
    )
    assert find_study(tmp_path / "BraTS2021_00003") == find_studies(tmp_path)[3]
    with pytest.raises(StudyError, match=r"00009: no such folder, and .* holds no study of that name but BraTS2021_0"):
        find_study(tmp_path / "BraTS2021_00009")


@pytest.mark.parametrize(
    ("study", "candidates"),
    [
        ("BraTS-MET-00002-000", ("met-2024", "met-2025")),
        ("BraTS-PED-00001-000", ("ped-2023", "ped-2024")),
    ],
)
def test_an_ambiguous_release_asks_for_the_profile(study: str, candidates: tuple[str, str], tmp_path: Path) -> None:
    files = find_study(fill(tmp_path, study))
    assert candidate_profiles(study) == candidates
    with pytest.raises(LabelError) as error:
        require_profile(files)
    assert str(error.value) == (
        f"{study}: the layout alone does not say which release this is ({' or '.join(candidates)}, whose label "
        "values differ); name it with --profile"
    )
    for name in candidates:
        assert require_profile(files, name).profile == profile_named(name)
        assert find_study(tmp_path, name).profile == profile_named(name)


def test_a_name_of_no_release_asks_for_the_profile(tmp_path: Path) -> None:
    files = find_study(fill(tmp_path, "mine"))
    assert (files.profile, files.patient, candidate_profiles("mine")) == (None, "mine", ())
    with pytest.raises(LabelError, match=r"mine: no release names its studies so; .*--profile \(gli-2024, met-2024"):
        require_profile(files)


def test_the_named_profile_wins_over_the_name(tmp_path: Path) -> None:
    files = find_study(fill(tmp_path, "BraTS2021_00000", OLD), profile="gli")
    assert files.profile == profile_named("gli-2024")
    assert require_profile(files, "ped-2024").profile == profile_named("ped-2024")
    assert require_profile(files).profile == profile_named("gli-2024")


@pytest.mark.parametrize(("alias", "name"), [("GLI", "gli-2024"), ("met", "met-2024"), ("goat", "goat-2024")])
def test_aliases(alias: str, name: str) -> None:
    assert profile_named(alias).name == name


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(LabelError) as error:
        profile_named("brats-1999")
    assert all(profile.name in str(error.value) for profile in PROFILES)


def test_a_study_given_file_by_file(tmp_path: Path) -> None:
    images = {Modality.T1: tmp_path / "BraTS-GLI-00005-001-t1n.nii.gz", Modality.T2: tmp_path / "x_t2.nii.gz"}
    assert study_from_paths({Modality.T1: images[Modality.T1]}).patient == "BraTS-GLI-00005"
    assert study_from_paths(images).id == "BraTS-GLI-00005-001-t1n"
    assert study_from_paths({Modality.T2: tmp_path / "scan.of.head.nii"}).id == "scan"
    with pytest.raises(StudyError, match="no image was given; at least one of T1, T1Gd, T2, FLAIR"):
        study_from_paths({})


@pytest.mark.parametrize(
    ("name", "study", "profile"),
    [
        ("BraTS-GLI-02078-103-seg.nii.gz", "BraTS-GLI-02078-103", "gli-2024"),
        ("BraTS2021_00000_seg.nii", "BraTS2021_00000", "brats-2021"),
        ("BraTS-MEN-RT-0000-1_gtv.nii.gz", "BraTS-MEN-RT-0000-1", "men-rt-2024"),
        ("BraTS-MET-00002-000-seg.nii.gz", "BraTS-MET-00002-000", None),
        ("mine.nii.gz", "mine", None),
    ],
)
def test_a_mask_alone_tells_its_release_by_its_name(name: str, study: str, profile: str | None) -> None:
    files = mask_alone(Path("folder") / name)
    assert (files.id, files.mask, dict(files.images)) == (study, Path("folder") / name, {})
    assert files.profile == (profile_named(profile) if profile else None)


@pytest.mark.real
def test_real_folders(real_data: Path) -> None:
    studies = {study.id: study for study in find_studies(real_data / "brats")}
    assert len(studies) == 7
    assert {study.profile.name for study in studies.values() if study.profile} == {"brats-2021", "gli-2023"}
    assert all(len(study.images) == 4 and study.mask for study in studies.values())
    loaded = load_study(studies["BraTS-GLI-00000-000"], with_mask=True)
    assert loaded.modalities == tuple(Modality)
    own = find_study(real_data / "own_scan")
    assert (own.id, own.mask, len(own.images)) == ("TCGA-DU-7294", None, 4)


def test_linked_study_folders_are_found_and_loops_are_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "store" / "BraTS2021_00001"
    real.mkdir(parents=True)
    (real / "BraTS2021_00001_t1.nii.gz").touch()
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    (cohort / "BraTS2021_00001").symlink_to(real)
    (cohort / "again").symlink_to(cohort)
    assert [study.id for study in find_studies(cohort)] == ["BraTS2021_00001"]


def test_a_brain_mask_is_not_a_segmentation(tmp_path: Path) -> None:
    for name in ("BraTS2021_00001_t1.nii.gz", "BraTS2021_00001_brain_mask.nii.gz"):
        (tmp_path / name).touch()
    assert find_studies(tmp_path)[0].mask is None
