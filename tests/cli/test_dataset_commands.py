"""`build` leaves a card, `stats` prints the tables, `audit` says by its exit code whether anything leaks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from voxmoe.files import sha256, write_json
from voxmoe.vqa.wordings.bank import QUESTION_TYPES
from voxmoe.vqa.wordings.file import Entry, write_wordings
from voxmoe.vqa.wordings.grammar import GRAMMAR

Run = Callable[..., tuple[int, str, str]]


def test_stats_beside_the_papers(voxmoe: Run, dataset: Path) -> None:
    code, out, _ = voxmoe("stats", dataset)
    assert code == 0
    assert "paper's GLI" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["questions", "96", "38,904"] in lines
    assert ["unique", "questions", "96", "(100.0", "%)", "38,023", "(97.7", "%)"] in lines
    assert ["questions,", "train", "48", "(50.0", "%)", "31,104", "(80.0", "%)"] in lines
    assert [line[-1] for line in lines if line[:1] == ["insula"]] == ["5.8"]
    for heading in ("(paper: Table 1)", "(paper: Table 6,", "examples (paper: Table 5)"):
        assert heading in out
    for kind in ("single-task", "multi-task", "partially out of scope", "out of scope"):
        assert f"\n{kind}, BraTS-GLI-" in out
    code, out, _ = voxmoe("stats", dataset, "--json")
    assert code == 0
    assert json.loads(out)["splits"]["train"]["questions"] == 48
    code, out, err = voxmoe("stats", dataset / "nothing")
    assert (code, out) == (2, "")
    assert "no finished dataset here" in err


def test_audit_clean_then_leaking_then_without_images(voxmoe: Run, dataset: Path, tmp_path: Path) -> None:
    own = tmp_path / "dataset"
    shutil.copytree(dataset, own)
    code, out, err = voxmoe("audit", own, "--jobs", "1")
    assert code == 0, out
    assert "no leakage found" in out
    assert out.startswith(f"16 images of studies or volumes (4 in {own}) were compared with one another\n")
    assert "fingerprinting images: 16/16" in err
    studies = json.loads((own / "meta" / "studies.json").read_text())
    test = next(one for one in studies if one["split"] == "test")
    train = next(one for one in studies if one["split"] == "train")
    write_json(own / "meta" / "studies.json", [{**one, "sha256": train["sha256"]} for one in (train, test)])
    code, out, _ = voxmoe("audit", own)
    assert code == 1
    assert "1 pairs across splits or datasets" in out
    assert f"{test['study']} (test of " in out
    assert "file: T1, T1Gd, T2, FLAIR, mask, similarity 1.000" in out
    code, out, _ = voxmoe("audit", own, "--json")
    assert code == 1
    assert not json.loads(out)["clean"]
    (own / "meta" / "fingerprints.json").unlink()
    manifest = json.loads((own / "manifest.json").read_text())
    write_json(own / "manifest.json", {**manifest, "images": str(tmp_path / "gone")})
    code, out, err = voxmoe("audit", own)
    assert (code, out) == (2, "")
    assert "no such file" in err
    assert str(tmp_path / "gone") in err


def test_audit_says_its_exit_codes(voxmoe: Run) -> None:
    _, out, _ = voxmoe("audit", "--help")
    assert "Exit code 0 if there is none, 1 if there is, 2 if" in " ".join(out.split())


def test_build_writes_the_card(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    one = sorted(path for path in cohort.iterdir() if path.is_dir())[0]
    shutil.copytree(one, tmp_path / "cohort" / one.name)
    bank = tmp_path / "bank.jsonl"
    told = (
        (kind, tasks, GRAMMAR.bank(kind, tasks).wording(n, n)) for kind, tasks in QUESTION_TYPES for n in range(1, 5)
    )
    write_wordings(bank, (Entry(kind=k, tasks=t, question=one.question, answer=one.answer) for k, t, one in told))
    drawn = ("--wordings", bank, "--type-weights", "paper")
    code, _, _ = voxmoe("build", tmp_path / "cohort", tmp_path / "out", "--jobs", "1", *drawn)
    assert code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["wordings"], manifest["type_weights"]["name"]) == (f"sha256:{sha256(bank)}", "paper")
    assert "24 questions" in (tmp_path / "out" / "README.md").read_text()
    described = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert [file["@id"] for file in described["distribution"]] == ["data/train.parquet", "parquet-files"]


def test_export(voxmoe: Run, dataset: Path, tmp_path: Path) -> None:
    code, out, err = voxmoe("export", dataset, tmp_path / "out", "--format", "mpllm")
    assert (code, out) == (0, "")
    assert f"mpllm in {tmp_path / 'out'}" in err
    assert sum(len(json.loads(path.read_text())) for path in (tmp_path / "out").glob("*.json")) == 96
    code, out, err = voxmoe("export", dataset, tmp_path / "out", "--format", "csv")
    assert (code, out) == (2, "")
    assert "no format is called 'csv'" in err
