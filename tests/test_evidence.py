"""Evidence: exact with the true mask, said where an answer disagrees, drawn where the lesion is."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import make_study
from voxmoe.answering import Answer, Answerer, Category, Terms, labels_named
from voxmoe.errors import ImageError, LabelError, StudyError, WeightsError
from voxmoe.evidence import Evidence, draw, gather, mask_of, measure_mask
from voxmoe.imaging.layouts import find_study, profile_named
from voxmoe.imaging.study import Study, load_study
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.model.pyramid import PyramidEncoder
from voxmoe.segmenting import Segmenter
from voxmoe.vocabulary import NOT_ASKED, Task
from voxmoe.vqa.findings import to_json
from voxmoe.vqa.measure import measure

GLI = profile_named("gli-2024")
STUDY = "BraTS-GLI-00001-100"
QUESTION = "How large is the Surrounding Non-enhancing FLAIR hyperintensity, and where is it?"


@pytest.fixture(scope="module")
def study(cohort: Path) -> Study:
    return load_study(find_study(str(cohort / STUDY)), with_mask=True)


def answer_of(question: str, volume: str, regions: tuple[str, ...], shape: str = NOT_ASKED) -> Answer:
    categories = {Task.VOLUME: volume, Task.SHAPE: shape, Task.SPREAD: NOT_ASKED}
    terms = Terms(
        {task: Category(name, 0.9) for task, name in categories.items()},
        tuple(Category(region, 0.8) for region in regions),
    )
    return Answer(
        question=question,
        text="",
        terms=terms,
        heads=None,
        out_of_scope=0.1,
        experts=(),
        modalities=(),
        model="model",
        seconds=0.0,
    )


def test_labels_are_named_by_name_or_key_as_words_of_their_own() -> None:
    def keys(question: str) -> list[str]:
        return [label.key for label in labels_named(question, GLI)]

    assert keys(QUESTION) == ["SNFH"]
    assert keys("is the enhancing tissue larger than the RC?") == ["ET", "RC"]
    assert keys("what is better, and where?") == []


def test_a_name_within_a_longer_one_is_not_named() -> None:
    profile = profile_named("brats-2021")

    def keys(question: str) -> list[str]:
        return [label.key for label in labels_named(question, profile)]

    assert keys("How large is the Necrotic and Non-Enhancing Tumor Core?") == ["NCR"]
    assert keys("Is the Enhancing Tumor in the Necrotic and Non-Enhancing Tumor Core?") == ["NCR", "ET"]


def test_a_name_within_one_of_another_release_is_not_named() -> None:
    """The non-enhancing tumour of other releases is not the enhancing one of these."""
    for name, question in (
        ("brats-2021", "How large is the Non-Enhancing Tumor?"),
        ("brats-2021", "How large is the non enhancing tumor core?"),
        ("gli-2024", "Where is the non-enhancing tissue?"),
    ):
        assert labels_named(question, profile_named(name)) == ()
    assert [label.key for label in labels_named("the Non-Enhancing Tumor?", GLI)] == ["NETC"]


def test_findings_of_the_true_mask_are_exact_and_hold_the_answer(study: Study, cohort: Path) -> None:
    assert study.mask is not None
    known = measure(cohort / STUDY).labels["SNFH"]
    assert known.volume is not None
    assert known.regions is not None
    right = answer_of(QUESTION, known.volume, tuple(known.regions))
    measured = measure_mask(study, study.mask, "given mask", GLI)
    found = measured.behind(right)
    assert found.to_json()["labels"] == {"SNFH": to_json(measure(cohort / STUDY))["labels"]["SNFH"]}
    assert found.to_json()["agreement"] == {"SNFH": {"volume": True, "region": True}}
    wrong = answer_of(QUESTION, "50-75%", tuple(known.regions), shape="round")
    other = measured.behind(wrong)
    assert not other.agreement["SNFH"][Task.VOLUME]
    assert other.agreement["SNFH"][Task.REGION]


def test_an_answer_about_several_labels_is_held_against_none(study: Study) -> None:
    assert study.mask is not None
    answer = answer_of("Where are the Enhancing Tissue and the Resection Cavity?", NOT_ASKED, ("frontal",))
    found = measure_mask(study, study.mask, "given mask", GLI).behind(answer)
    assert [label.key for label in found.labels] == ["ET", "RC"]
    assert found.agreement == {}


def test_a_study_in_no_known_space_is_measured_but_for_its_regions() -> None:
    study = make_study()
    assert study.mask is not None
    found = measure_mask(study, study.mask, "given mask", GLI).behind(answer_of("the ET?", "<1%", ("frontal",)))
    told = found.to_json()["labels"]["ET"]
    assert told["regions"] is None
    assert told["volume_mm3"] > 0
    assert Task.REGION not in found.agreement["ET"]


def test_masks_that_cannot_be_measured_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    answerer, study = Answerer.from_pretrained(tiny_model), make_study()
    with pytest.raises(WeightsError, match="no decoder"):
        mask_of(answerer, study, GLI)
    assert study.mask is not None
    write_volume(study.mask, tmp_path / "mask.nii.gz")
    assert mask_of(answerer, study, GLI, tmp_path / "mask.nii.gz")[1] == "given mask"
    write_volume(replace(study.mask, data=study.mask.data[2:]), tmp_path / "other.nii.gz")
    with pytest.raises(StudyError, match="another grid"):
        mask_of(answerer, study, GLI, tmp_path / "other.nii.gz")
    write_volume(replace(study.mask, data=study.mask.data * 7), tmp_path / "values.nii.gz")
    with pytest.raises(LabelError, match="7"):
        mask_of(answerer, study, GLI, tmp_path / "values.nii.gz")


@pytest.mark.parametrize("made", ["seeing_model", "charting_model"])
def test_mask_and_answers_come_from_one_pass_over_the_study(
    request: pytest.FixtureRequest, study: Study, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, passes, see = request.getfixturevalue(made), [0], PyramidEncoder.see

    def counting_see(encoder: PyramidEncoder, x: Any) -> Any:
        passes[0] += 1
        return see(encoder, x)

    monkeypatch.setattr(PyramidEncoder, "see", counting_see)
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "one"))
    answerer = Answerer.from_pretrained(place)
    mask, source = mask_of(answerer, study, GLI)
    measured = [answerer.ask(study, question) for question in (QUESTION, "Where is it?")]
    assert (passes, source) == ([1], "predicted mask")

    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "other"))
    other = Answerer.from_pretrained(place)
    alone = [other.ask(study, question) for question in (QUESTION, "Where is it?")]
    segmenter = Segmenter.of(other.model)
    assert segmenter is not None
    np.testing.assert_array_equal(mask.data, segmenter.segment(study, GLI).data)
    assert [replace(answer, seconds=0.0) for answer in measured] == [replace(answer, seconds=0.0) for answer in alone]


def evidence_at(place: tuple[int, int, int]) -> Evidence:
    """A lesion of one label in a corner of a study of noise."""
    study = make_study(shape=(24, 28, 20))
    data = np.zeros((24, 28, 20), np.uint8)
    data[tuple(slice(at - 2, at + 2) for at in place)] = 3
    mask = Volume(data, np.eye(4), "mask")
    return measure_mask(study, mask, "given mask", GLI).behind(answer_of("the ET?", NOT_ASKED, ()))


@pytest.mark.parametrize(("x", "y", "z"), [(18, 20, 5), (5, 8, 15)])
def test_the_picture_shows_the_lesion_as_radiologists_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: int, y: int, z: int
) -> None:
    """x runs to the right and is drawn to the left, y runs to the front and z upwards and are drawn upwards; seen from
    the side, the front is on the left."""
    kept: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (kept.append(figure), save(figure, *a, **k))[1])
    draw(tmp_path / "evidence.png", evidence_at((x, y, z)))
    assert (tmp_path / "evidence.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [tmp_path / "evidence.png"]
    axial, coronal, sagittal = (
        np.concatenate([path.vertices for path in axes.collections[0].get_paths()]).mean(axis=0)
        for axes in kept[0].axes[:3]
    )
    # the middle of the four voxels around each place, counted from the left and from the top
    left, down, front = 23 - (x - 0.5), 19 - (z - 0.5), 27 - (y - 0.5)
    np.testing.assert_allclose(axial, (left, front), atol=0.6)
    np.testing.assert_allclose(coronal, (left, down), atol=0.6)
    np.testing.assert_allclose(sagittal, (front, down), atol=0.6)


def test_each_answer_has_its_own_picture_where_there_are_several(tmp_path: Path) -> None:
    measured = evidence_at((12, 12, 12)).measured
    answers = [answer_of("the ET?", NOT_ASKED, ()), answer_of("the NETC?", NOT_ASKED, ())]
    assert [each.picture for each in gather(measured, answers)] == [None, None]
    [one] = gather(measured, answers[:1], tmp_path / "one.svg")
    assert one.to_json()["picture"] == str(tmp_path / "one.svg")
    assert "ET" in (tmp_path / "one.svg").read_text()
    found = gather(measured, answers, tmp_path / "both.svg")
    assert [each.picture for each in found] == [tmp_path / "both-1.svg", tmp_path / "both-2.svg"]
    assert (tmp_path / "both-1.svg").read_bytes() == (tmp_path / "one.svg").read_bytes()
    assert (tmp_path / "both-1.svg").read_bytes() != (tmp_path / "both-2.svg").read_bytes()
    with pytest.raises(ImageError, match="png, pdf, svg"):
        gather(measured, answers, tmp_path / "evidence.bmp")


def test_ask_measures_and_draws(
    voxmoe: Callable[..., tuple[int, str, str]], seeing_model: Path, cohort: Path, tmp_path: Path
) -> None:
    study, picture = cohort / STUDY, tmp_path / "seen.png"
    mask = study / f"{STUDY}-seg.nii.gz"
    asked: tuple[Any, ...] = ("ask", study, QUESTION, "--model", seeing_model)
    code, out, _ = voxmoe(*asked, "--mask", mask, "--picture", picture)
    assert code == 0
    assert "measured in the given mask" in out
    assert re.search(
        r"SNFH: \d+\.\d mL \(\d+\.\d\d % of the brain: .*\((.*: )?sphericity \d\.\d\d, elongation \d\.\d\d",
        out,
    )
    assert re.search(r"\(\d+ components?, the largest \d+%\)", out)
    assert picture.is_file()
    assert f"picture: {picture}" in out
    code, out, _ = voxmoe(*asked, "Where is it?", "--evidence", "--without", "T2", "--json")
    assert code == 0
    assert [answer["evidence"]["source"] for answer in json.loads(out)] == ["predicted mask"] * 2
    code, out, err = voxmoe(*asked, "--picture", tmp_path / "seen.bmp")
    assert (code, out, err.count("\n")) == (2, "", 1), "it is refused before anything is read"
