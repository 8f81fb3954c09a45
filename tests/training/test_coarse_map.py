"""A coarse map on the fused tokens: what it shows, what it learns from, and that the experts learn through it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from voxmoe.errors import CacheError, RecipeError
from voxmoe.imaging.grid import Box, GriddedStudy, part_fractions
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.parts import Part
from voxmoe.model.coarse_map import CoarseMap, filled_cells, graded, label_maps, ungraded
from voxmoe.model.mpllm import ModelSettings, MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.augment import AugmentSettings, apply_view, draw_views
from voxmoe.training.features import FeatureCache, stack
from voxmoe.training.recipe import load_recipe
from voxmoe.training.run import train
from voxmoe.training.samples import targets
from voxmoe.training.studies import study_files
from voxmoe.vqa.dataset import open_dataset

GLI = profile_named("gli-2024")


def test_a_grade_tells_its_fraction() -> None:
    fractions = torch.tensor([0.0, 1e-3, 1e-2, 0.5, 1.0])
    torch.testing.assert_close(ungraded(graded(fractions)), fractions)
    assert graded(torch.tensor(1e-2)) == pytest.approx(0.347, abs=1e-3)


def test_cells_hold_means_in_the_order_of_the_tokens() -> None:
    parts = torch.rand(len(Part), 4, 6, 4, generator=torch.Generator().manual_seed(0))
    filled = filled_cells(parts, (2, 3, 2))
    assert filled.shape == (12, len(Part))
    token = 1 * 6 + 2 * 2 + 1  # depth 1, height 2, width 1
    torch.testing.assert_close(filled[token], parts[:, 2:, 4:, 2:].mean(dim=(1, 2, 3)))


def test_a_label_s_map_is_that_of_its_parts() -> None:
    filled = torch.zeros(2, len(Part))
    filled[0, Part.CORE - 1], filled[0, Part.CYST - 1], filled[1, Part.CAVITY - 1] = 0.2, 0.3, 1.0
    maps = label_maps(filled, GLI, (2, 1, 1))
    np.testing.assert_allclose(maps["NETC"].ravel(), [0.5, 0])
    np.testing.assert_allclose(maps["RC"].ravel(), [0, 1])
    assert maps["ET"].shape == (2, 1, 1)


def test_masks_are_read_by_their_profile() -> None:
    mask = np.zeros((4, 4, 4), dtype=np.uint8)
    mask[:2] = next(label.value for label in GLI.labels if label.key == "ET")
    parts = part_fractions(mask, GLI, Box((0, 0, 0), (4, 4, 4)), (4, 4, 4))
    assert parts.shape == (len(Part), 4, 4, 4)
    np.testing.assert_array_equal(parts[Part.RIM - 1], (mask > 0).transpose(2, 1, 0))
    assert parts.sum() == 32


def test_a_view_moves_parts_as_it_moves_images() -> None:
    ball = (np.linalg.norm(np.indices((16, 16, 16)) - 7.0, axis=0) < 6).astype(np.float32)
    ball[:, :, 9:] *= 0.5
    views = draw_views(AugmentSettings(variants=4, intensity=0.0), 3, "study")[1:]
    study = GriddedStudy(ball[None].repeat(4, 0), np.ones(4, dtype=bool), Box((0, 0, 0), (16, 16, 16)), ball[None])
    assert any(view is not None and view.flip for view in views)
    for view in views:
        seen = apply_view(study, (1.0, 1.0, 1.0), view)
        assert seen.parts is not None
        np.testing.assert_allclose(seen.parts[0], seen.images[0], atol=1e-6)
        assert not np.allclose(seen.parts[0], ball, atol=1e-2)


def test_the_loss_is_a_cross_entropy_with_grades_of_the_tokens_that_stand_for_places() -> None:
    torch.manual_seed(0)
    head = CoarseMap(6, tokens=3)
    fused, filled = torch.randn(2, 4, 6), torch.rand(2, 3, len(Part))
    chance = head.linear(fused[:, 1:]).sigmoid()
    grade = graded(filled)
    expected = -(grade * chance.log() + (1 - grade) * (1 - chance).log()).sum(dim=2).mean()
    torch.testing.assert_close(head.loss(fused, filled), expected)
    torch.testing.assert_close(head(fused), ungraded(chance))
    assert head(fused).shape == (2, 3, len(Part))


@pytest.fixture(scope="module")
def mapped(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mapped")
    changes = ["model.loss.coarse_map=2", "fit.max_steps=2", "augment={variants: 2, affine: {rotation: 3, margin: 2}}"]
    return train(load_recipe(tiny_recipe, [*changes, f"out={out}"]))


def test_the_experts_learn_through_it(mapped: Path, dataset: Path) -> None:
    assert "coarse_map.linear.weight" in load_file(mapped / "model.safetensors")
    model, processor = MpLLM.from_pretrained(mapped), MpLLMProcessor.from_pretrained(mapped)
    opened = open_dataset(dataset)
    files = study_files(opened, opened.rows("train"), with_masks=True)
    name, study = next(iter(files.items()))
    kept = FeatureCache(model, with_parts=True).of_all({name: replace(study, profile=GLI)}, lambda *_: None)[name]
    batch = dict(processor(["Where is the Enhancing Tissue?"])) | stack([kept])
    found = model.eval()(**batch, heads_alone=True).told
    assert found.shape == batch["filled"].shape == (1, model.settings.vision.tokens, len(Part))
    assert float(batch["filled"].sum()) > 0, "the phantom has lesions"
    model.connector.requires_grad_(True)
    wanted = targets(opened.rows("train")[:1])
    output = model(**batch, targets=wanted)
    without = sum(loss for name, loss in output.losses.items() if name != "coarse_map")
    torch.testing.assert_close(output.loss, without + 2 * output.losses["coarse_map"])
    output.losses["coarse_map"].backward()
    assert all(p.grad is not None for p in model.connector.parameters())
    del batch["filled"]
    with pytest.raises(ValueError, match="give `filled`"):
        model(**batch, targets=wanted)


def test_what_is_kept_with_masks_is_kept_apart(mapped: Path, dataset: Path) -> None:
    model = MpLLM.from_pretrained(mapped)
    opened = open_dataset(dataset)
    files = study_files(opened, opened.rows("train"), with_masks=True)
    name = next(iter(files))
    one, other = (
        FeatureCache(model, with_parts=wanted).of_all({name: replace(files[name], profile=GLI)}, lambda *_: None)
        for wanted in (True, False)
    )
    assert one.paths[name] != other.paths[name]
    labels = tuple(replace(label, key={"ET": "NETC", "NETC": "ET"}.get(label.key, label.key)) for label in GLI.labels)
    meant = replace(files[name], profile=replace(GLI, labels=labels))
    swapped = FeatureCache(model, with_parts=True).of_all({name: meant}, lambda *_: None)
    assert swapped.paths[name] != one.paths[name], "by what the values mean"
    with pytest.raises(CacheError, match="what the values of its mask mean is not known"):
        FeatureCache(model, with_parts=True).of_all({name: files[name]}, lambda *_: None)
    assert one[name].keys() - other[name].keys() == {"filled"}
    assert torch.equal(one[name]["tokens"], other[name]["tokens"])


def test_a_warm_up_teaches_it_too(tiny_recipe: Path, tmp_path: Path) -> None:
    gaze = ["model.gaze={heads: 2, width: 8, hidden: 16}", "fit.warm_up={epochs: 2, studies: 1}", "fit.max_steps=1"]
    with_map = load_recipe(tiny_recipe, [*gaze, "model.loss.coarse_map=1", f"out={tmp_path / 'map'}"])
    without = load_recipe(tiny_recipe, [*gaze, f"out={tmp_path / 'none'}"])
    first, second = (
        [json.loads(line) for line in (train(one) / "training.jsonl").read_text().splitlines()]
        for one in (with_map, without)
    )
    warm = [[line["loss"] for line in lines if line["stage"] == "warm-up"] for lines in (first, second)]
    assert warm[0][0] > warm[1][0], "the map's loss is on top"


def test_where_it_cannot_be(tiny_recipe: Path) -> None:
    with pytest.raises(ValidationError, match=r"loss\.coarse_map takes one token a place, which the connector m3d"):
        ModelSettings.model_validate({"loss": {"coarse_map": 1}, "connector": {"kind": "m3d"}})
    changes = ["model.loss.coarse_map=1", "fit.tune_encoder=true", "eye=null"]
    with pytest.raises(RecipeError, match=r"coarse_map is learnt beside features that are kept"):
        load_recipe(tiny_recipe, changes)
    assert not ModelSettings.model_validate(
        {"vision": None, "loss": {"coarse_map": 1}, "connector": {"kind": "m3d"}}
    ).mapped
