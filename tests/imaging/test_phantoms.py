"""Phantoms: same seed, same bytes; the radiological order of contrasts; truth and masks; resumed cohorts."""

import json
from pathlib import Path

import numpy as np
import pytest

from voxmoe.errors import AtlasError
from voxmoe.files import sha256
from voxmoe.imaging import anatomy, phantoms
from voxmoe.imaging.layouts import candidate_profiles, find_studies
from voxmoe.imaging.lesions import PART_KEYS, Part, draw_foci, part_values
from voxmoe.imaging.phantoms import FILE_NAMES, Phantom, draw_parameters, draw_phantom, study_id, write_cohort
from voxmoe.imaging.spaces import SRI24
from voxmoe.imaging.study import check_labels, load_study
from voxmoe.vocabulary import PROFILES, PROFILES_BY_NAME, Modality

GLI = PROFILES_BY_NAME["gli-2024"]
MET = PROFILES_BY_NAME["met-2024"]
PREOPERATIVE = PROFILES_BY_NAME["brats-2021"]


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def glioma() -> Phantom:
    """The first study before surgery that has every label, some of each."""
    for index in range(20):
        phantom = draw_phantom(PREOPERATIVE, 7, index)
        if all(label["voxels"] > 2000 for label in phantom.truth["labels"].values()):
            return phantom
    raise AssertionError("no study with every label among twenty")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(out, 3, GLI, seed=11)
    return out


def median(phantom: Phantom, modality: Modality, where: np.ndarray) -> float:
    return float(np.median(phantom.study.images[modality].data[where]))


def tissue(phantom: Phantom) -> dict[str, np.ndarray]:
    """Where fluid, grey and white matter are beyond doubt and no lesion is near."""
    parameters = draw_parameters(phantom.profile, phantom.truth["seed"], phantom.truth["index"])
    moved = phantoms.pushes(parameters.foci, parameters.anatomy)
    brain = anatomy.grow_brain(parameters.anatomy, moved)
    healthy = phantom.study.mask.data == 0
    deep_enough = brain.inside & (brain.depth > 3) & (brain.plexus < 0.01) & (brain.vessel < 0.01)

    def where(fraction: np.ndarray) -> np.ndarray:
        full = np.zeros(SRI24.shape, dtype=bool)
        box = tuple(slice(a, a + n) for a, n in zip(brain.start, brain.shape, strict=True))
        full[box] = brain.volume((fraction > 0.9) & deep_enough)
        return full & healthy

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


def test_parameters_are_a_function_of_profile_seed_and_index() -> None:
    assert draw_parameters(GLI, 3, 5) == draw_parameters(GLI, 3, 5)
    others = [draw_parameters(GLI, 3, 6), draw_parameters(GLI, 4, 5), draw_parameters(MET, 3, 5)]
    assert all(draw_parameters(GLI, 3, 5).anatomy != other.anatomy for other in others)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_each_profile_draws_and_names_its_own_studies(profile: phantoms.Profile) -> None:
    drawn = [draw_parameters(profile, 1, index) for index in range(40)]
    assert all(parameters.modalities.keys() == set(Modality) for parameters in drawn)
    assert len({len(parameters.foci) for parameters in drawn}) > 1
    assert profile.name in candidate_profiles(study_id(profile, 12))
    values = part_values(profile)
    assert set(values.values()) <= {0, *profile.by_value}
    assert set(values.values()) >= set(profile.by_value), "a label that no part of a lesion can carry"


def test_table_of_names_holds_every_profile() -> None:
    assert set(FILE_NAMES) == {profile.name for profile in PROFILES}
    assert set(PART_KEYS) == set(Part)


def test_some_treated_studies_lack_a_label_and_few_lack_all() -> None:
    drawn = [draw_foci(np.random.default_rng(seed), GLI) for seed in range(400)]
    assert 0 < sum(not foci for foci in drawn) < 20
    main = [foci[0] for foci in drawn if foci]
    assert 0.65 < np.mean([focus.cavity > 0 for focus in main]) < 0.88
    assert 0.55 < np.mean([focus.enhancing > 0 for focus in main]) < 0.85
    assert (
        0.25
        < np.mean([0 < focus.enhancing < 1 or (focus.tumour > 0 and not focus.enhancing) for focus in main])
        < 0.6
    )


@pytest.mark.parametrize("name", ["met-2025", "ped-2024", "men-rt-2024"])
def test_found_again_with_the_labels_of_the_profile(tmp_path: Path, name: str) -> None:
    profile = PROFILES_BY_NAME[name]
    write_cohort(tmp_path, 1, profile, seed=2)
    (files,) = find_studies(tmp_path, profile=name)
    study = load_study(files, with_mask=True)
    assert study.modalities == profile.modalities
    check_labels(study.mask, profile)
    assert study.mask.data.any()


def test_layout_decides_the_profile_of_a_cohort(cohort: Path) -> None:
    found = find_studies(cohort)
    assert [files.id for files in found] == [f"BraTS-GLI-{index:05d}-100" for index in range(3)]
    assert all(files.profile == GLI and files.mask and len(files.images) == 4 for files in found)
    listed = json.loads((cohort / "cohort.json").read_text())
    assert [study["id"] for study in listed["studies"]] == [files.id for files in found]
    assert (listed["n"], listed["seed"], listed["profile"]) == (3, 11, "gli-2024")


def test_processes_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    write_cohort(tmp_path, 3, GLI, seed=11, jobs=2, progress=lambda done, n: heard.append((done, n)))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert hashes(tmp_path) == hashes(cohort)


def test_another_seed_changes_every_image(cohort: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, 1, GLI, seed=12)
    before, after = hashes(cohort), hashes(tmp_path)
    assert all(before[name] != digest for name, digest in after.items())


def test_interrupted_run_is_taken_up_again(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = phantoms.write_volume

    def interrupted(volume: phantoms.Volume, path: Path) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path.name)
        write(volume, path)

    monkeypatch.setattr(phantoms, "write_volume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path, 3, GLI, seed=11)
    partial = hashes(tmp_path)
    assert partial.items() < hashes(cohort).items(), "what is there is whole"
    monkeypatch.undo()
    kept = tmp_path / study_id(GLI, 0) / f"{study_id(GLI, 0)}-seg.nii.gz"
    age = kept.stat().st_mtime_ns
    write_cohort(tmp_path, 3, GLI, seed=11)
    assert hashes(tmp_path) == hashes(cohort)
    assert kept.stat().st_mtime_ns == age, "a complete study is not written again"


def test_study_of_other_parameters_is_written_anew(cohort: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, 1, GLI, seed=12)
    write_cohort(tmp_path, 3, GLI, seed=11)
    assert hashes(tmp_path) == hashes(cohort)


def test_missing_template_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anatomy.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(AtlasError, match=r"pip install .*nilearn"):
        anatomy._template_path("t1")


def test_smooth_noise_is_standard_and_smooth() -> None:
    field = anatomy.smooth_noise(np.random.default_rng(0), (60, 50, 70), 4.0)
    assert field.shape == (60, 50, 70)
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.35


def test_upsampled_constant_stays_constant() -> None:
    lattice = np.full(anatomy.lattice_shape((17, 23, 9), 5.0), 2.5, dtype=np.float32)
    np.testing.assert_allclose(anatomy.upsample(lattice, (17, 23, 9), 5.0), 2.5, rtol=1e-5)
