"""The router: correlations against NumPy, entropies against SciPy, prompts in their blocks, the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from voxmoe.errors import DatasetError, WeightsError
from voxmoe.evaluation.heatmap import draw_correlations
from voxmoe.evaluation.router import correlation, entropy, study_router, usage
from voxmoe.evaluation.tables import router as router_tables
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import train
from voxmoe.vocabulary import TASK_COMBINATIONS


@pytest.fixture(scope="module")
def record(tiny_model: Path, dataset: Path) -> dict:
    return study_router(tiny_model, dataset=dataset, split="train")


def drawn_weights(prompts: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(16), prompts).astype(np.float32)


def test_correlation_against_numpy() -> None:
    weights = drawn_weights(20)
    np.testing.assert_allclose(correlation(weights), np.corrcoef(weights), atol=1e-5)


def test_a_prompt_with_all_weights_equal_correlates_with_nothing() -> None:
    found = correlation(np.vstack([drawn_weights(2), np.full((1, 16), 1 / 16, np.float32)]))
    assert np.isnan(found[2]).all()
    assert not np.isnan(found[:2, :2]).any()


def test_entropy_against_scipy() -> None:
    weights = drawn_weights(30)
    np.testing.assert_allclose(entropy(weights.astype(float)), stats.entropy(weights, axis=1), rtol=1e-5)
    assert entropy(np.eye(4)[:1]).tolist() == [0]
    assert entropy(np.full((1, 16), 1 / 16)) == pytest.approx(np.log(16))


def test_usage_by_group() -> None:
    weights = np.vstack([np.eye(4)[[0, 0]], np.full((2, 4), 0.25)]).astype(np.float32)
    found = usage(weights, {"by_kind": ["in-scope", "in-scope", "out-of-scope", "out-of-scope"]})
    assert found["load"] == pytest.approx([0.625, 0.125, 0.125, 0.125])
    assert sum(found["load"]) == pytest.approx(1)
    assert found["entropy"]["maximum"] == pytest.approx(np.log(4))
    assert found["load_by"]["by_kind"]["in-scope"] == pytest.approx([1, 0, 0, 0])
    assert found["load_by"]["by_kind"]["out-of-scope"] == pytest.approx([0.25] * 4)
    kinds = found["entropy"]["by_kind"]
    assert kinds["in-scope"]["effective_experts"] == pytest.approx(1)
    assert kinds["out-of-scope"]["effective_experts"] == pytest.approx(4)


def test_sixty_template_prompts_by_label(record: dict) -> None:
    prompts = record["prompts"]
    assert len(prompts) == 60
    assert [prompt["label"] for prompt in prompts[::15]] == ["NETC", "SNFH", "ET", "RC"]
    assert prompts[15]["text"].endswith("covered by Surrounding Non-enhancing FLAIR hyperintensity?")
    assert len({prompt["text"] for prompt in prompts}) == 60
    assert [prompt["type"] for prompt in prompts[:15]] == [" + ".join(tasks) for tasks in TASK_COMBINATIONS]
    weights = np.array(record["weights"])
    assert weights.shape == (60, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(record["correlation"], np.corrcoef(weights), atol=1e-3)


def test_means_within_and_between(record: dict) -> None:
    matrix = np.corrcoef(record["weights"])
    for key in ("label", "type"):
        values = [prompt[key] for prompt in record["prompts"]]
        pairs = [(one, other) for one in range(60) for other in range(one)]
        within = [matrix[pair] for pair in pairs if values[pair[0]] == values[pair[1]]]
        between = [matrix[pair] for pair in pairs if values[pair[0]] != values[pair[1]]]
        assert record[key]["within"] == pytest.approx(np.mean(within), abs=1e-3)
        assert record[key]["between"] == pytest.approx(np.mean(between), abs=1e-3)


def test_means_between_each_two_labels(record: dict) -> None:
    matrix = np.corrcoef(record["weights"])
    blocks = {label: slice(15 * place, 15 * place + 15) for place, label in enumerate(record["labels"])}
    for one, others in record["labels"].items():
        for other, value in others.items():
            block = matrix[blocks[one], blocks[other]]
            pairs = block[~np.eye(15, dtype=bool)] if one == other else block
            assert value == pytest.approx(pairs.mean(), abs=1e-3)
    table = next(table for table in router_tables(record) if "by what they ask about" in table.title)
    assert [row[0] for row in table.rows] == list(table.columns) == ["NETC", "SNFH", "ET", "RC"]


def test_questions_of_a_dataset_by_kind(record: dict) -> None:
    kinds = record["questions"]["entropy"]["by_kind"]
    assert {kind: one["questions"] for kind, one in kinds.items()} == {
        "in-scope": 32,
        "partially-out-of-scope": 8,
        "out-of-scope": 8,
    }
    assert json.loads(json.dumps(record, allow_nan=False))["version"] == 1


def test_without_experts_there_is_no_router(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["model.connector={kind: llava-med}", "eye=null", "fit.max_steps=1", f"out={tmp_path}"]
    with pytest.raises(WeightsError, match="no experts"):
        study_router(train(load_recipe(tiny_recipe, changes)))


def test_an_empty_split_is_named(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["questions"] = dict.fromkeys(manifest["questions"], 0)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="split test is empty"):
        study_router(tiny_model, dataset=tmp_path)


def test_the_picture_is_drawn_and_the_same_again(record: dict, tmp_path: Path) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    draw_correlations(first, record)
    draw_correlations(again, record)
    assert first.read_bytes().startswith(b"\x89PNG")
    assert first.read_bytes() == again.read_bytes()
