"""A table made from nothing at a tiny size: resumable, and with the paper's figures beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from voxmoe import __version__
from voxmoe.bench.memory import arithmetic
from voxmoe.cli.main import app
from voxmoe.errors import RecipeError
from voxmoe.evaluation.methods import LABEL_MAJORITY, MAJORITY, MEASURED, PRIOR, TEXT_ONLY
from voxmoe.files import sha256
from voxmoe.reproduction import run as module
from voxmoe.reproduction.experiments import EXPERIMENTS, LLAVA_MED, M3D, MPLLM
from voxmoe.reproduction.experiments import TEXT_ONLY as TEXT_ONLY_MODEL
from voxmoe.reproduction.run import Report, Workshop, plans, reproduce, reproduced
from voxmoe.reproduction.scale import Phantoms, Scale
from voxmoe.reproduction.table import footnote, header, lines, margins, to_markdown
from voxmoe.training.recipe import Recipe

TEXT_ONLY_TINY = ("eye=null",)


@pytest.fixture(scope="module")
def workshop(tiny_language: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    scale = Scale.model_validate(
        {
            "name": "pocket",
            "summary": "tiny",
            "models": {
                "text-only": TEXT_ONLY_TINY,
                "experts-12": ["model.connector={kind: experts, modality_level: 1, token_level: 1}"],
            },
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
    runs = {run["model"]: run["there"] for run in plans(workshop, ["table14"])}
    assert runs == {"text-only": True, "softmax": True, "mpllm": True}
    assert (workshop.out / "table14.json").is_file()
    assert header(table) == ["gate", "mean", "paper's mean"]
    printed = lines(table)
    assert [line[0] for line in printed] == ["softmax", "sigmoid", PRIOR, MAJORITY, LABEL_MAJORITY, TEXT_ONLY]
    assert [line[2] for line in printed] == ["70.3", "70.4", "-", "-", "-", "-"]
    assert float(printed[0][1].split(" ")[0]) == pytest.approx(table["rows"][0]["measured"]["mean"]["value"], abs=0.05)
    assert to_markdown(table).count("\n") == 7
    assert "tiny" in footnote(table)
    monkeypatch.setattr(module, "train", None)
    monkeypatch.setattr(module, "evaluate", None)
    assert reproduced(workshop, ["table14"]) == [table]


def test_models_start_from_another_and_change_for_a_table(workshop: Workshop) -> None:
    scale = workshop.scale.model_copy(
        update={
            "start": "text-only",
            "tables": {"table14": ("fit.max_steps=2",)},
            "models": {"text-only": TEXT_ONLY_TINY},
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


def test_an_interrupted_table_goes_on_where_it_was(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reproduced(workshop, ["table14"])
    again = replace(workshop, out=workshop.out / "again")
    names: list[str] = []

    def train(recipe: Recipe, report: Report) -> Path:
        names.append(recipe.out.name)
        if names == ["softmax", "mpllm"]:
            raise KeyboardInterrupt
        return alone(recipe, report)

    alone = module.train
    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt):
        reproduced(again, ["table14"])
    assert not (again.out / "table14.json").exists(), "no table of half its rows"
    assert reproduced(again, ["table14"]) == whole
    assert names == ["softmax", "mpllm", "mpllm", "text-only"], "what had ended is not trained twice"


def test_figure_3_is_of_the_same_model(workshop: Workshop) -> None:
    (figure,) = reproduced(workshop, ["figure3"])
    assert len(figure["prompts"]) == 60
    assert len(figure["correlation"]) == 60
    assert (workshop.out / "figure3.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_without_heads_is_measured_by_its_text(workshop: Workshop) -> None:
    (table,) = reproduced(workshop, ["table4"])
    without, with_heads = table["rows"]
    assert without["measured"] == without["from_text"]
    assert with_heads["measured"] != with_heads["from_text"]
    assert header(table) == ["method", "mean", "paper's mean", "mean, from text"]
    first, second = lines(table)[:2]
    assert first[1] == first[3]
    assert [first[2], second[2]] == ["67.4", "70.4"]


def test_a_changed_recipe_is_trained_and_evaluated_again(workshop: Workshop) -> None:
    (first,) = reproduced(workshop, ["table14"])
    recipe = workshop.scale.recipe | {"fit": workshop.scale.recipe["fit"] | {"learning_rate": 0.05, "max_steps": 4}}
    changed = replace(workshop, scale=workshop.scale.model_copy(update={"recipe": recipe}))
    (second,) = reproduced(changed, ["table14"])
    for one, other in zip(first["rows"], second["rows"], strict=True):
        assert one["measured"] != other["measured"]
    assert reproduced(workshop, ["table14"]) == [first]


def test_an_evaluation_of_another_version_is_made_again(tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    kept.write_text(json.dumps({"version": 0}))
    assert not module._is_of(kept, [], tmp_path, measure=False)


def test_other_studies_than_those_asked_for_are_refused(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("write_cohort", "build_dataset"):  # in this process: three studies need no others
        alone = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, alone=alone, **named: alone(*given, **{**named, "jobs": 1}))
    workshop.dataset("gli")
    elsewhere = replace(workshop, cohorts={"gli": tmp_path})
    with pytest.raises(RecipeError, match=r"datasets/gli: was made of .*, and .* is asked for; .*--out"):
        elsewhere.dataset("gli")
    scale = workshop.scale.model_copy(update={"phantoms": {"gli": Phantoms(studies=3, seed=4)}})
    drawn = Workshop(tmp_path / "drawn", scale, {})
    place = drawn.dataset("gli")
    assert drawn.dataset("gli") == place
    other = replace(drawn, scale=scale.model_copy(update={"phantoms": {"gli": Phantoms(studies=3, seed=5)}}))
    with pytest.raises(RecipeError, match="was made of 3 phantoms of seed 4, and 3 of seed 5 are asked for"):
        other.dataset("gli")


def test_memory_is_measured_once_and_printed_beside_the_paper_s(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = {f"{name}_bytes": 1_000_000 for name in ("step", "saved", "fixed", "total")}
    system |= {f"mpllm_share_of_{name}": 0.25 for name in ("step", "saved", "total")} | {"image_tokens": 1_024}
    found = {"name": "memory", "ratio": 4.0, "ratio_range": [3.0, 5.0], "data": "random tensors"}
    found |= {"by_case": {"batch 1": {"m3d": system | {"seconds": 1.5}}}}
    found |= {"phi3": {name: arithmetic(1_024, 7_000_000) for name in ("m3d", "radfm")}}
    measured = []

    def bench() -> dict[str, object]:
        measured.append(True)
        return found

    monkeypatch.setattr(module, "bench_memory", bench)
    workshop.out.joinpath("memory.json").unlink(missing_ok=True)
    assert reproduced(workshop, ["memory"]) == reproduced(workshop, ["memory"]) == [{"voxmoe": __version__, **found}]
    assert len(measured) == 1
    workshop.out.joinpath("memory.json").write_text(json.dumps({**found, "voxmoe": "0"}))
    assert reproduced(workshop, ["memory"])[0]["voxmoe"] == __version__
    assert len(measured) == 2, "of another version"
    printed = CliRunner().invoke(app, ["reproduce", "memory", "--markdown", "--out", str(workshop.out)])
    assert printed.exit_code == 0, printed.output
    lines = printed.output.splitlines()
    assert "| m3d | 1024 | 1 (25%) | 1 (25%) | 1 | 1 (25%) | 1.5 |" in lines
    assert [line.rsplit("| ", 1)[1] for line in lines if line.startswith(("| m3d | 1084", "| radfm"))] == [
        "more than 40 |",
        "- |",
    ]


def test_an_unknown_table_is_refused_before_anything_is_made(workshop: Workshop) -> None:
    with pytest.raises(RecipeError, match=r"nothing is called 'table1'; there are table2, .*figure3, memory"):
        reproduced(workshop, ["table14", "table1"])


def test_segment_then_measure_stands_below_the_models_that_can_draw(workshop: Workshop) -> None:
    (table,) = reproduced(workshop, ["table14"])
    for row in table["rows"]:
        others = [TEXT_ONLY] if row["model"] == "mpllm" else []
        assert list(row["baselines"]) == [PRIOR, MAJORITY, LABEL_MAJORITY, *others]  # this scale's eye has no decoder
        if others:
            row["baselines"][MEASURED] = row["baselines"][MAJORITY]
    last = lines(table)[-1]
    assert last[0] == "segment, then measure"
    assert last[1] == next(line[1] for line in lines(table) if line[0] == MAJORITY)


def test_a_table_that_is_not_the_paper_s_has_no_columns_for_it(workshop: Workshop) -> None:
    (table,) = reproduced(workshop, ["table14"])
    for row in table["rows"]:
        row["printed"] = {}
    assert header(table) == ["gate", "mean"]
    assert {len(line) for line in lines(table)} == {2}
    assert "paper" not in to_markdown(table) + footnote(table)


SOME = (MPLLM, M3D, LLAVA_MED, TEXT_ONLY_MODEL)


def test_systems_are_compared_with_mpllm_question_by_question(workshop: Workshop) -> None:
    rows = [row for row in EXPERIMENTS["table2"].rows if row.dataset == "gli" and row.model in SOME]
    small = replace(EXPERIMENTS["table2"], rows=tuple(rows))
    table = reproduce(workshop, small)
    by_method = {row["cells"][1]: row for row in table["rows"]}
    compared = margins(table)
    assert compared is not None
    assert [line[:2] for line in compared.rows] == [["GLI", "M3D"], ["GLI", "LLaVA-Med"]]
    assert [line[4] for line in compared.rows] == ["9.0", "8.8"]  # 70.9 - 61.9, 70.9 - 62.1
    for name in ("M3D", "LLaVA-Med"):
        means = [by_method[one]["measured"]["mean"]["value"] for one in ("mpLLM", name)]
        assert by_method["mpLLM"]["better_than"][name]["value"] == pytest.approx(means[0] - means[1])
    assert {len(line) for line in compared.rows} == {len(compared.columns) + 1}
    assert margins(reproduced(workshop, ["table14"])[0]) is None
    assert [line[1] for line in lines(table)] == [
        "M3D",
        "LLaVA-Med",
        "text-only",
        "mpLLM",
        PRIOR,
        MAJORITY,
        LABEL_MAJORITY,
    ]
