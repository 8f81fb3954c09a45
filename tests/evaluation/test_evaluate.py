"""Whole evaluations: the record, its baselines, what is refused, and every number recomputed from the predictions."""

import json
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as oracle

from voxmoe.errors import DatasetError, ResultsError, WeightsError
from voxmoe.evaluation import results as files
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.text_answers import read_answer
from voxmoe.files import sha256
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.model.mpllm import MpLLM
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import train
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, REGIONS
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import PAPER_V2

Results = dict[str, Any]


@pytest.fixture(scope="module")
def blind(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blind")
    return train(load_recipe(tiny_recipe, ["model.vision=null", "eye=null", "fit.max_steps=2", f"out={out}"]))


@pytest.fixture(scope="module")
def whole(
    tiny_model: Path, blind: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, list[dict[str, Any]], Path]:
    """Everything that can be asked for: results, lines of predictions and their file. Texts are short, to be quick."""
    path = tmp_path_factory.mktemp("evaluation") / "predictions.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MpLLM, "generate", partialmethod(MpLLM.generate, max_new_tokens=8))
        found = evaluate(
            tiny_model, dataset, text_only=blind, split="train", text=True, modality_subsets=True, predictions=path
        )
    return found, pq.read_table(path).to_pylist(), path


def copy_of(dataset: Path, out: Path, **changes: Any) -> Path:
    """The dataset with another manifest."""
    (out / "data").mkdir(parents=True)
    for split in (dataset / "data").iterdir():
        (out / "data" / split.name).write_bytes(split.read_bytes())
    manifest = json.loads((dataset / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return out


def test_the_model_stands_beside_its_baselines(whole: tuple[Results, Any, Any]) -> None:
    found = whole[0]
    assert list(found["methods"]) == [
        "random, uniform",
        "random, training prior",
        "majority class",
        "majority class of the label",
        "text-only",
        "text-only (text)",
        "mpLLM",
        "mpLLM (text)",
    ]
    assert found["method"] == "mpLLM"
    assert (found["studies"], found["patients"], found["questions"]) == (2, 2, 48)
    assert found["modalities"] == {"T1+T1Gd+T2+FLAIR": 2}
    for record in found["methods"].values():
        assert list(record["tasks"]) == ["volume", "region", "shape", "spread", "mean"]
        assert list(record["by_label"]) == ["NETC", "SNFH", "ET", "RC"]
        assert list(record["by_kind"]) == ["in-scope", "partially-out-of-scope", "out-of-scope"]
        assert all(value is None for value in record["by_kind"]["out-of-scope"]["tasks"].values())
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


def test_groups_add_up_to_the_whole(whole: tuple[Results, Any, Any]) -> None:
    for record in whole[0]["methods"].values():
        for group in ("by_label", "by_kind"):
            for task, estimate in record["tasks"].items():
                parts = [part["tasks"][task] for part in record[group].values() if part["tasks"][task] is not None]
                if task != "mean":
                    total = sum(part["value"] * part["questions"] for part in parts)
                    assert total / estimate["questions"] == pytest.approx(estimate["value"])


def test_differences_are_paired(whole: tuple[Results, Any, Any]) -> None:
    found, lines, _ = whole
    both = {
        name: [line["shape"] == line["true_shape"] for line in lines if line["method"] == name]
        for name in ("mpLLM", "text-only")
    }
    asked = ["shape" in line["tasks"] for line in lines if line["method"] == "mpLLM"]
    gain = np.subtract(both["mpLLM"], both["text-only"], dtype=float)[asked]
    told = found["differences"]["text-only"]["shape"]
    assert told["value"] == pytest.approx(100 * gain.mean())
    assert told["sd_by_question"] == pytest.approx(100 * gain.std() / len(gain) ** 0.5, rel=0.2)
    for name, record in found["differences"].items():
        for task in ("volume", "region", "mean"):
            values = [found["methods"][one]["tasks"][task]["value"] for one in ("mpLLM", name)]
            assert record[task]["value"] == pytest.approx(values[0] - values[1])


def test_a_model_beside_that_learnt_no_text_is_asked_for_none(
    tiny_model: Path, tiny_recipe: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MpLLM, "generate", partialmethod(MpLLM.generate, max_new_tokens=4))
    changes = ["model.vision=null", "eye=null", "model.loss={text: 0}", "fit.max_steps=1", f"out={tmp_path}"]
    silent = train(load_recipe(tiny_recipe, changes))
    found = evaluate(tiny_model, dataset, text_only=silent, split="train", text=True)
    assert [name for name in found["methods"] if name.endswith("(text)")] == ["mpLLM (text)"]
    with pytest.raises(WeightsError, match="learnt no text"):
        evaluate(silent, dataset, split="train", text=True)


def test_models_are_compared_question_by_question(
    tiny_model: Path, blind: Path, tiny_recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    changes = ["model.connector={kind: llava-med}", "fit.max_steps=2", f"out={tmp_path}"]
    other = train(load_recipe(tiny_recipe, changes))
    found = evaluate(tiny_model, dataset, text_only=blind, beside=[other], split="train")
    assert list(found["methods"])[-3:] == ["text-only", "LLaVA-Med", "mpLLM"]
    assert (
        found["methods"]["LLaVA-Med"]["tasks"]
        == evaluate(other, dataset, split="train")["methods"]["LLaVA-Med"]["tasks"]
    )
    assert set(found["manifest"]["models"]) == {"text-only", "LLaVA-Med", "mpLLM"}
    means = [found["methods"][name]["tasks"]["mean"]["value"] for name in ("mpLLM", "LLaVA-Med")]
    assert found["differences"]["LLaVA-Med"]["mean"]["value"] == pytest.approx(means[0] - means[1])
    twin = f"mpLLM ({tiny_model.name})"
    found = evaluate(tiny_model, dataset, beside=[tiny_model], split="train")
    assert list(found["methods"])[-2:] == [twin, "mpLLM"]
    assert found["differences"][twin]["mean"]["value"] == 0
    with pytest.raises(WeightsError, match="is the second model here that tables call mpLLM"):
        evaluate(tiny_model, dataset, beside=[tiny_model, tiny_model], split="train")


def test_every_number_can_be_recomputed_from_the_predictions(whole: tuple[Results, Any, Any]) -> None:
    found, lines, path = whole
    assert found["manifest"]["predictions"] == {"file": path.name, "sha256": sha256(path)}
    for name in ("majority class", "majority class of the label", "text-only", "mpLLM", "mpLLM (text)"):
        record = found["methods"][name]
        own = [line for line in lines if line["method"] == name]
        assert len(own) == found["questions"]
        for task in EXCLUSIVE_TASKS:
            asked = [line for line in own if task in line["tasks"]]
            right = [line[task] == line[f"true_{task}"] for line in asked]
            assert record["tasks"][task]["value"] == pytest.approx(100 * np.mean(right))
            et = [r for r, line in zip(right, asked, strict=True) if line["label"] == "ET"]
            assert record["by_label"]["ET"]["tasks"][task]["value"] == pytest.approx(100 * np.mean(et))
        asked = [line for line in own if "region" in line["tasks"]]
        shares = [
            0
            if line["region"] is None
            else np.mean([(region in line["region"]) == (region in line["true_region"]) for region in REGIONS])
            for line in asked
        ]
        assert record["tasks"]["region"]["value"] == pytest.approx(100 * np.mean(shares))
        true = np.array([[region in line["true_region"] for region in REGIONS] for line in asked])
        said = np.array([[region in (line["region"] or ()) for region in REGIONS] for line in asked])
        assert record["region"]["f1_micro"] == pytest.approx(
            100 * oracle.f1_score(true, said, average="micro", zero_division=0)
        )
        scope = record["out_of_scope"]
        outside = [line["true_out_of_scope"] for line in own]
        chance = np.array([line["out_of_scope"] for line in own])
        assert scope["accuracy"]["value"] == pytest.approx(100 * oracle.accuracy_score(outside, chance >= 0.5))
        assert scope["balanced_accuracy"] == pytest.approx(100 * oracle.balanced_accuracy_score(outside, chance >= 0.5))
        assert scope["auroc"] == pytest.approx(100 * oracle.roc_auc_score(outside, chance))


def test_what_the_heads_decide_is_in_the_file(whole: tuple[Results, Any, Any]) -> None:
    found, lines, _ = whole
    own = [line for line in lines if line["method"] == "mpLLM"]
    for line in own:
        for task in EXCLUSIVE_TASKS:
            assert CLASSES[task][int(np.argmax(line[f"{task}_chances"]))] == line[task]
        assert sum(line["experts"]) == pytest.approx(1, abs=1e-5)
        assert line["modalities"] == ["T1", "T1Gd", "T2", "FLAIR"]
    load = np.mean([line["experts"] for line in own], axis=0)
    assert found["methods"]["mpLLM"]["router"]["load"] == pytest.approx(load.tolist(), abs=1e-5)
    blind = [line for line in lines if line["method"] == "text-only"]
    assert all(line["modalities"] == [] and line["experts"] is None for line in blind)


def test_texts_are_read(whole: tuple[Results, Any, Any], dataset: Path) -> None:
    found, lines, _ = whole
    names = {row["id"]: row["label_name"] for row in pq.read_table(dataset / "data" / "train.parquet").to_pylist()}
    own = [line for line in lines if line["method"] == "mpLLM (text)"]
    silent = dict.fromkeys(("volume", "region", "shape", "spread"), 0)
    for line in own:
        terms = read_answer(line["text"], names[line["id"]]).terms
        for task in silent:
            silent[task] += task in line["tasks"] and task not in terms
            assert (line[task] is None) == (task not in terms)
    unparsed = found["methods"]["mpLLM (text)"]["unparsed"]
    assert unparsed == {task: pytest.approx(100 * count / found["asked"][task]) for task, count in silent.items()}


def test_subsets_stand_in_one_table_that_ends_with_the_whole(whole: tuple[Results, Any, Any]) -> None:
    found, lines, _ = whole
    subsets = found["modality_subsets"]
    assert [subset["questions"] for subset in subsets] == [48] * 15
    assert subsets[0]["modalities"] == ["T1"]
    assert subsets[-1]["tasks"] == found["methods"]["mpLLM"]["tasks"]
    t1 = [line for line in lines if line["method"] == "mpLLM, T1"]
    assert all(line["modalities"] == ["T1"] for line in t1)
    right = [line["shape"] == line["true_shape"] for line in t1 if "shape" in line["tasks"]]
    assert subsets[0]["tasks"]["shape"]["value"] == pytest.approx(100 * np.mean(right))


def test_a_model_that_learnt_no_text_is_evaluated_by_its_heads_alone(
    tiny_recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    silent = train(load_recipe(tiny_recipe, ["model.loss.text=0", "fit.max_steps=1", f"out={tmp_path}"]))
    with pytest.raises(WeightsError, match=r"learnt no text \(its loss.text is 0\)"):
        evaluate(silent, dataset, text=True)
    assert "mpLLM" in evaluate(silent, dataset)["methods"]


def test_the_same_evaluation_gives_the_same_record(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    first, again = (evaluate(tiny_model, dataset) for _ in range(2))
    assert first == again
    files.save(tmp_path / "results.json", first)
    assert files.load(tmp_path / "results.json") == json.loads(json.dumps(first))
    assert first["manifest"]["models"]["mpLLM"]["sha256"]["model.safetensors"] == sha256(
        tiny_model / "model.safetensors"
    )
    assert first["manifest"]["models"]["mpLLM"]["trained_on"] == [first["manifest"]["dataset"]["sha256"]]


def test_what_was_seen_once_is_not_encoded_again(
    tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(tiny_model, dataset)

    def look(model: MpLLM, *images: Any) -> None:
        raise AssertionError("what the encoder sees is in the cache")

    monkeypatch.setattr(MpLLM, "encode_images", look)
    assert evaluate(tiny_model, dataset) == first


def test_a_model_is_asked_about_another_dataset(tiny_model: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", 3, profile_named("met-2024"), seed=5, jobs=1)
    build_dataset(tmp_path / "cohort", tmp_path / "met", PAPER_V2, profile="met-2024", jobs=1)
    found = evaluate(tiny_model, tmp_path / "met", cross=True, split="all")
    assert (found["studies"], found["questions"]) == (3, 54)
    assert found["cross"]["asked_about"] == ["met-2024"]
    for name in ("majority class", "mpLLM"):
        assert list(found["methods"][name]["by_label"]) == ["NETC", "SNFH", "ET"]
        assert 0 <= found["methods"][name]["tasks"]["mean"]["value"] <= 100


def test_another_profile_is_refused_unless_that_is_wanted(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    other = copy_of(dataset, tmp_path / "other", profiles=["goat-2024"])
    with pytest.raises(DatasetError, match=r"goat-2024.*gli-2024.*--cross"):
        evaluate(tiny_model, other)
    found = evaluate(tiny_model, other, cross=True)
    assert found["cross"] == {
        "trained_on": ["gli-2024"],
        "asked_about": ["goat-2024"],
        "labels_known": [],
        "labels_new": ["Necrosis", "Edema/Invaded Tissue", "Enhancing Tumor"],
    }
    assert found["manifest"]["settings"]["cross"]
    fewer = evaluate(tiny_model, copy_of(dataset, tmp_path / "met", profiles=["met-2024"]), cross=True)
    assert fewer["cross"]["labels_new"] == []
    assert evaluate(tiny_model, dataset, cross=True)["cross"] is None


def test_images_that_are_gone_are_named(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    moved = copy_of(dataset, tmp_path / "moved", images=str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"nowhere.*is gone"):
        evaluate(tiny_model, moved)


def test_a_folder_without_a_model_says_so(dataset: Path, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WeightsError, match=r"no model here; train one"):
            evaluate(place, dataset)


def test_only_one_of_the_two_models_sees(tiny_model: Path, blind: Path, dataset: Path) -> None:
    with pytest.raises(WeightsError, match=r"sees images; --text-only takes"):
        evaluate(tiny_model, dataset, text_only=tiny_model)
    with pytest.raises(WeightsError, match=r"is a text-only model too"):
        evaluate(blind, dataset, text_only=blind)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("{"), "not JSON"),
        (lambda path: path.write_text("[]"), "no results"),
        (lambda path: path.write_text('{"version": 1, "methods": {}}'), "version 1.*version 2; evaluate again"),
    ],
)
def test_a_file_that_holds_no_results_says_so(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    path = tmp_path / "results.json"
    write(path)
    with pytest.raises(ResultsError, match=message):
        files.load(path)
