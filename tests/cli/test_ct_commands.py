"""`collect`, `validate`, `stats` and `audit` of CT data: what is printed, and by which exit code they end."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
HEADER = "image,patient,task,question,answer,choice_a,choice_b"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three rows that can be used and one that cannot."""
    rows = [f"{n}.nii.gz,p{n},closed,Which side?,left,right,left" for n in range(2)]
    rows += ["2.nii.gz,p2,report,,No nodule.,,", "3.nii.gz,p3,closed,Which side?,both,right,left"]
    path = tmp_path / "own.csv"
    path.write_text("\n".join([HEADER, *rows]))
    (tmp_path / "images").mkdir()
    for n in range(4):
        (tmp_path / "images" / f"{n}.nii.gz").write_text(str(n))
    return path


def test_collect_then_stats(voxmoe: Run, table: Path, tmp_path: Path) -> None:
    images = ("--images", tmp_path / "images")
    code, out, _ = voxmoe("collect", "own", tmp_path / "set", table, *images)
    assert code == 1
    assert "3 rows (1 train, 1 validation, 1 test; splits drawn)" in out
    assert "own.csv:5: answer: 'both' is none of the choices ['right', 'left']" in out
    code, out, _ = voxmoe("collect", "own", tmp_path / "set", f"test={table}", *images, "--json")
    found = json.loads(out)
    assert (code, found["rows"]["test"], list(found["skipped"])) == (1, 3, ["test=own.csv:5"])
    code, out, _ = voxmoe("stats", tmp_path / "set")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["closed:", "closed", "0", "0", "2", "2"] in lines
    assert ["B", "-", "-", "100.0", "100.0"] in lines
    code, out, _ = voxmoe("stats", tmp_path / "set", "--json")
    assert (code, json.loads(out)["letters"]) == (0, {"B": 2})
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    assert voxmoe("collect", "own", tmp_path / "set", table, *images)[0] == 0


def test_collect_what_is_of_another_format(voxmoe: Run, table: Path, tmp_path: Path) -> None:
    code, out, err = voxmoe("collect", "3d-rad", tmp_path / "set", table, "--images", tmp_path / "images")
    assert (code, out) == (2, "")
    assert "own.csv: lacks Task, Subtask, VolumeName" in err
    code, _, err = voxmoe("collect", "vqa", tmp_path / "set", table, "--images", tmp_path / "images")
    assert code == 2
    assert "no format is called 'vqa'; there are m3d-vqa, m3d-cap, ct-rate, radgenome, 3d-rad, own" in err


def test_validate(voxmoe: Run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "0.nii.gz").unlink()
    code, out, _ = voxmoe("validate", table, "--images", tmp_path / "images")
    assert code == 1
    assert "own.csv:2: image: 0.nii.gz: no such file" in out
    assert "own.csv:5: answer: 'both' is none of" in out
    assert "4 rows, 2 problems" in out
    code, out, _ = voxmoe("validate", table, "--json")
    assert (code, len(json.loads(out)["problems"])) == (1, 1)
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    assert voxmoe("validate", table)[0] == 0
    code, _, err = voxmoe("validate", tmp_path / "gone.csv")
    assert code == 2
    assert "gone.csv: no such file" in err


def test_audit_of_ct(voxmoe: Run, table: Path, tmp_path: Path) -> None:
    """Its images are none, so an audit can only say which."""
    voxmoe("collect", "own", tmp_path / "set", table, "--images", tmp_path / "images")
    code, _, err = voxmoe("audit", tmp_path / "set", "--jobs", "1")
    assert code == 2
    assert "0.nii.gz" in err or "1.nii.gz" in err or "2.nii.gz" in err


def test_commands_for_mri_datasets_refuse_others(voxmoe: Run, table: Path, tmp_path: Path) -> None:
    voxmoe("collect", "own", tmp_path / "set", table, "--images", tmp_path / "images")
    code, _, err = voxmoe("export", tmp_path / "set", tmp_path / "out", "--format", "mpllm")
    assert code == 2
    assert "a dataset about CTs (voxmoe collect); one about MRI studies is needed here" in err
