"""A table made from nothing at a tiny size: resumable, and with the paper's figures beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from voxmoe.errors import RecipeError
from voxmoe.evaluation.methods import LABEL_MAJORITY, MAJORITY, MEASURED
from voxmoe.files import sha256
from voxmoe.reproduction import run as module
from voxmoe.reproduction.run import Workshop, plans, reproduced
from voxmoe.reproduction.scale import Scale
from voxmoe.reproduction.table import footnote, header, lines, to_markdown


@pytest.fixture(scope="module")
def workshop(tiny_language: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    scale = Scale.model_validate(
        {
            "name": "pocket",
            "summary": "tiny",
            "models": {"experts-12": ["model.connector={kind: experts, modality_level: 1, token_level: 1}"]},
            "recipe": {
                "name": "tiny",
                "data": ".",
                "out": ".",
                "model": {
                    "vision": {
                        "kind": "vit",
                        "grid": [8, 16, 16],
                        "patch": [2, 4, 4],
                        "pool": [2, 2, 2],
                        "hidden": 16,
                        "layers": 1,
                        "heads": 2,
                        "mlp": 32,
                    },
                    "language": {"name": str(tiny_language), "lora": {"rank": 2, "alpha": 4}},
                },
                "eye": {"epochs": 1, "batch_size": 2},
                "fit": {"max_steps": 1, "batch_size": 2},
            },
        }
    )
    return Workshop(tmp_path_factory.mktemp("reproduction"), scale, {"gli": cohort})


def test_a_table_is_made_once_and_printed_beside_the_paper_s(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(run["there"] for run in plans(workshop, ["table14", "figure3"]))
    (table,) = reproduced(workshop, ["table14"])
    assert {run["model"]: run["there"] for run in plans(workshop, ["table14"])} == {"softmax": True, "mpllm": True}
    assert (workshop.out / "table14.json").is_file()
    assert header(table) == ["gate", "mean", "paper's mean"]
    printed = lines(table)
    assert [line[0] for line in printed] == ["softmax", "sigmoid", "majority class", "majority class of the label"]
    assert [line[2] for line in printed] == ["70.3", "70.4", "-", "-"]
    assert float(printed[0][1].split(" ")[0]) == pytest.approx(table["rows"][0]["measured"]["mean"]["value"], abs=0.05)
    assert to_markdown(table).count("\n") == 5
    assert "tiny" in footnote(table)
    monkeypatch.setattr(module, "train", None)
    monkeypatch.setattr(module, "evaluate", None)
    assert reproduced(workshop, ["table14"]) == [table]


def test_models_start_from_another_and_change_for_a_table(workshop: Workshop) -> None:
    scale = workshop.scale.model_copy(
        update={
            "start": "text-only",
            "tables": {"table14": ("fit.max_steps=2",)},
            "models": {"text-only": ("eye=null",)},
        }
    )
    starting = replace(workshop, out=workshop.out / "starting", scale=scale)
    assert [run["model"] for run in plans(starting, ["table14"])] == ["text-only", "softmax-table14", "mpllm-table14"]
    (table,) = reproduced(starting, ["table14"])
    assert [row["model"] for row in table["rows"]] == ["softmax-table14", "mpllm-table14"]
    manifest = json.loads((starting.out / "runs" / "gli" / "mpllm-table14" / "manifest.json").read_text())
    assert manifest["steps"] == 2
    assert manifest["start"] == sha256(starting.out / "runs" / "gli" / "text-only" / "model.safetensors")
    assert all(run["there"] for run in plans(starting, ["table14"]))


def test_figure_3_is_of_the_same_model(workshop: Workshop) -> None:
    (figure,) = reproduced(workshop, ["figure3"])
    assert len(figure["prompts"]) == 60
    assert len(figure["correlation"]) == 60


def test_an_unknown_table_is_refused_before_anything_is_made(workshop: Workshop) -> None:
    with pytest.raises(RecipeError, match=r"nothing is called 'table1'; there are table2, .*figure3, memory"):
        reproduced(workshop, ["table14", "table1"])


def test_segment_then_measure_stands_below_the_models_that_can_draw(workshop: Workshop) -> None:
    (table,) = reproduced(workshop, ["table14"])
    for row in table["rows"]:
        assert list(row["baselines"]) == [MAJORITY, LABEL_MAJORITY]  # this scale's eye has no decoder
        row["baselines"][MEASURED] = row["baselines"][MAJORITY]
    last = lines(table)[-1]
    assert last[0] == "segment, then measure"
    assert last[1] == lines(table)[-3][1]
