"""`ask` and `report` of a CT, and what goes with a model of the one kind and not with the other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from voxmoe.imaging.volume import write_volume

Run = Callable[..., tuple[int, str, str]]
QUESTION = "Which side?"


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from voxmoe.imaging.torso import draw_torso

    path = tmp_path_factory.mktemp("ct") / "scan.nii.gz"
    write_volume(draw_torso(9, shape=(64, 64, 32)).volume, path)
    return path


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    *_, error = err.splitlines()
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in error


def test_a_ct_is_asked_about(voxmoe: Run, ct: Path, tiny_reader: Path) -> None:
    asked = ("ask", ct, QUESTION, "--model", tiny_reader)
    code, printed, _ = voxmoe(*asked, "--choice", "left", "--choice", "right", "--json")
    said = json.loads(printed)
    assert code == 0
    assert list(said) == ["question", "text", "choice", "choices", "task", "model", "seconds"]
    assert (said["question"], said["model"]) == (QUESTION, str(tiny_reader))
    code, printed, _ = voxmoe(*asked, "--choice", "left", "--choice", "right")
    told = [f"{one['letter']}. {one['text']} {one['probability']:.0%}" for one in said["choices"]]
    assert f"   likelihood of each choice: {', '.join(told)}\n" in printed
    code, printed, _ = voxmoe(*asked, "Where?", "--json")
    assert [answer["question"] for answer in json.loads(printed)] == [QUESTION, "Where?"]
    code, printed, _ = voxmoe(*asked)
    assert code == 0
    assert f"Q  {QUESTION}" in printed
    assert "experts for " in printed


def test_a_ct_is_reported(voxmoe: Run, ct: Path, tiny_reader: Path) -> None:
    code, printed, _ = voxmoe("report", ct, "--model", tiny_reader)
    assert code == 0
    assert "not a medical device" in printed
    code, printed, _ = voxmoe("report", ct, "--model", tiny_reader, "--json")
    assert list(json.loads(printed)) == ["question", "text", "choice", "choices", "task", "model", "seconds", "limits"]


def test_a_model_of_ct_refuses_what_is_for_mri(voxmoe: Run, ct: Path, tiny_reader: Path, cohort: Path) -> None:
    model = ("--model", tiny_reader)
    study = cohort / "BraTS-GLI-00001-100"
    refused(voxmoe("ask", study, QUESTION, *model), "a folder of NIfTI files", "--model pocket")
    refused(voxmoe("ask", study / f"{study.name}-t1n.nii.gz", QUESTION, *model), "no CT in HU", "--model pocket")
    refused(voxmoe("report", study / f"{study.name}-t1n.nii.gz", *model), "no CT in HU")
    refused(voxmoe("ask", ct.with_name("slice.PNG"), QUESTION, *model), "a 2D picture", "DICOM folder")
    refused(voxmoe("ask", ct.with_name("none.nii.gz"), QUESTION, *model), "no such file")
    refused(voxmoe("ask", "--t1", ct, QUESTION, *model), "--t1", "reads CT")
    for option in (["--mask", ct], ["--evidence"], ["--picture", "a.png"], ["--without", "t1"], ["--profile", "gli"]):
        refused(voxmoe("ask", ct, QUESTION, *option, *model), str(option[0]), "for brain MRI")
    for option in (["--mask"], ["--protocol", "code-v3"], ["--flair", ct]):
        refused(voxmoe("report", ct, *option, *model), str(option[0]), "for brain MRI")
    refused(voxmoe("ask", ct, QUESTION, "Where?", "--choice", "a", "--choice", "b", *model), "belongs to one question")
    refused(voxmoe("ask", ct, QUESTION, "--choice", "a", *model), "2 to 8")


def test_a_model_of_mri_refuses_what_is_for_ct(
    voxmoe: Run, ct: Path, tiny_model: Path, cohort: Path, tmp_path: Path
) -> None:
    model = ("--model", tiny_model)
    study = cohort / "BraTS-GLI-00001-100"
    refused(voxmoe("ask", study, QUESTION, "--choice", "a", "--choice", "b", *model), "--choice", "reads brain MRI")
    refused(voxmoe("ask", ct, QUESTION, *model), "is one file", "a CT needs a model that reads CT")
    refused(voxmoe("report", ct, *model), "is one file", "a CT needs a model that reads CT")
    refused(voxmoe("ask", "--t1", ct, QUESTION, *model), "given as T1", "values of a CT")
    (tmp_path / "1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    refused(voxmoe("ask", tmp_path, QUESTION, *model), "a folder of DICOM files", "reads brain MRI")
