"""`evaluate`, `results`, `router` and `readers` as a user meets them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from voxmoe import default
from voxmoe.evaluation.results import save
from voxmoe.evaluation.said import evaluate_said
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange

Run = Callable[..., tuple[int, str, str]]


def test_evaluate_prints_tables_and_results_prints_them_again(
    voxmoe: Run, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    out, predictions = tmp_path / "results.json", tmp_path / "predictions.parquet"
    arguments = ("--modality-subsets", "--seed", "3", "--out", out, "--predictions", predictions)
    code, printed, err = voxmoe("evaluate", tiny_model, dataset, *arguments)
    assert code == 0
    assert "answering: 24/24" in err
    for words in (
        "24 questions about 1 studies of 1 patients",
        "random, training prior",
        "than majority class of the label",
        "RC: mpLLM",
        "T1Gd+T2+FLAIR",
    ):
        assert words in printed, words
    found = json.loads(out.read_text())
    assert found["version"] == 2
    assert found["manifest"]["settings"]["seed"] == 3
    assert found["manifest"]["resamples"] == 500
    assert pq.read_table(predictions).num_rows == 24 * (2 + 1 + 15)
    code, again, err = voxmoe("results", out)
    assert (code, err) == (0, "")
    assert again.startswith(printed)
    for words in ("partially-out-of-scope: mpLLM", "F1 macro", "AUROC", "adaptive ECE", "effective experts"):
        assert words in again, words
    assert json.loads(voxmoe("results", out, "--json")[1]) == found
    assert json.loads(voxmoe("results", out, out, "--json")[1]) == [found, found]
    code, page, err = voxmoe("results", out, "--markdown")
    assert (code, err) == (0, "")
    titles = [line for line in printed.splitlines() if line.startswith(("accuracy in %", "by label"))]
    assert len(titles) == 2
    assert all(f"\n\n{title.strip()}\n\n| " in page for title in titles)
    assert page.startswith(printed.splitlines()[0] + "\n\n")
    assert "calibration of mpLLM" in page
    code, _, err = voxmoe("results", dataset / "manifest.json")
    assert code == 2
    assert "holds no results" in err


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    voxmoe: Run, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for option in ("--out", "--predictions"):
        code, _, err = voxmoe("evaluate", tiny_model, dataset, option, tmp_path / "file" / "results.json")
        assert code == 2
        assert "results.json: cannot be written" in err
        assert "answering" not in err


def test_results_prints_what_was_said_about_cts(voxmoe: Run, tmp_path: Path) -> None:
    exchanges = [
        Exchange("c", "own", "a", "p1", CTTask.CLOSED, "organ", "Which?", "liver", ("liver", "spleen")),
        Exchange("o", "own", "b", "p2", CTTask.OPEN, "organ", "Which?", "liver"),
    ]
    save(tmp_path / "said.json", evaluate_said(exchanges, {"ours": {"c": "A", "o": "a liver"}}, []))
    code, printed, err = voxmoe("results", tmp_path / "said.json")
    assert (code, err) == (0, "")
    for words in (
        "2 exchanges (1 closed, 1 open) about 2 CTs",
        "exact+stem",
        "ours",
        "organ: ours",
        "ours than random",
    ):
        assert words in printed, words
    code, page, err = voxmoe("results", tmp_path / "said.json", "--markdown")
    assert (code, err) == (0, "")
    assert "\n\nclosed questions: accuracy in %, ± deviation by patient\n\n|  | organ | mean of kinds |" in page
    assert "| ours than random | 50.0 (-) |" in page


def test_evaluate_as_json(voxmoe: Run, tiny_model: Path, dataset: Path) -> None:
    code, printed, _ = voxmoe("evaluate", tiny_model, dataset, "--json")
    assert code == 0
    estimate = json.loads(printed)["methods"]["mpLLM"]["tasks"]["mean"]
    assert set(estimate) == {
        "value",
        "questions",
        "sd_by_question",
        "interval_by_question",
        "sd_by_patient",
        "interval_by_patient",
    }


def test_across_datasets_only_where_that_is_said(voxmoe: Run, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(dataset / "data")
    manifest = json.loads((dataset / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "profiles": ["goat-2024"]}))
    code, printed, err = voxmoe("evaluate", tiny_model, tmp_path)
    assert (code, printed) == (2, "")
    assert "or say --cross" in err
    code, printed, _ = voxmoe("evaluate", tiny_model, tmp_path, "--cross")
    assert code == 0
    assert "across datasets: trained on gli-2024, asked about goat-2024" in printed


def test_router_with_its_picture(voxmoe: Run, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    figure = tmp_path / "router.png"
    code, printed, _ = voxmoe("router", tiny_model, "--dataset", dataset, "--figure", figure)
    assert code == 0
    assert "question type" in printed
    assert "out-of-scope" in printed
    assert len(json.loads(figure.with_suffix(".json").read_text())["correlation"]) == 60
    assert figure.stat().st_size > 10_000
    assert voxmoe("router", tiny_model, "--figure", figure)[0] == 0, "its own is written anew"
    other = tmp_path / "results.json"
    other.write_text("{}")
    code, _, err = voxmoe("router", tiny_model, "--figure", other.with_suffix(".png"))
    assert code == 2
    assert f"{other}: holds something else" in err
    assert other.read_text() == "{}"
    code, printed, _ = voxmoe("router", tiny_model, "--json")
    assert code == 0
    assert json.loads(printed)["questions"] is None


def test_readers_out_and_back(voxmoe: Run, dataset: Path, tmp_path: Path) -> None:
    code, _, err = voxmoe("readers", "export", dataset, tmp_path / "reading", "--n", "1")
    assert code == 0
    assert "(16 questions)" in err
    sheet = tmp_path / "reading" / "reading.csv"
    code, printed, err = voxmoe("readers", "score", tmp_path / "reading", dataset)
    assert (code, printed) == (2, "")
    assert "line 2" in err
    assert "has no answer" in err
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        lines = [{**line, "answer": "N/A"} for line in csv.DictReader(stream)]
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    code, printed, _ = voxmoe("readers", "score", tmp_path / "reading", dataset)
    assert code == 0
    assert "kappa in the paper" in printed
    code, printed, _ = voxmoe("readers", "score", tmp_path / "reading", dataset, "--json")
    assert code == 0
    assert json.loads(printed)["readings"] == 16


def test_the_shipped_model_can_be_named_beside_another(
    voxmoe: Run, tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default, "SHIPPED", tiny_model)
    code, out, _ = voxmoe("evaluate", tiny_model, dataset, "--split", "train", "--beside", "pocket")
    assert code == 0
    assert f"mpLLM ({tiny_model.name})" in out
