"""Pretraining on phantoms: what is drawn, that it learns, and that an interrupted run ends with the same weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from voxmoe.errors import RecipeError, StudyError
from voxmoe.imaging.grid import to_grid
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms import draw_phantom, read_masks
from voxmoe.model.encoder import load_encoder, make_encoder
from voxmoe.training import pretraining
from voxmoe.training.pretraining import CHECKPOINT, is_pretrained, pretrain
from voxmoe.training.recipe import DenseFitSettings, EyeRecipe, SubjectSettings, load
from voxmoe.training.subjects import Subjects

pytest.importorskip("nilearn")
SUBJECTS = SubjectSettings(profiles={"gli-2024": 1}, spacing=4.0, kept=3, takes=2)
GRID = (32, 32, 32)


def recipe_of(out: Path, **fit: object) -> EyeRecipe:
    return EyeRecipe.model_validate(
        {
            "name": "tiny",
            "out": out,
            "vision": {"grid": GRID, "channels": (8, 8, 16, 16), "layers": 1, "heads": 2},
            "grounding": {"channels": (8, 8, 16, 16)},
            "subjects": SUBJECTS.model_dump(),
            "fit": {"steps": 6, "batch_size": 2, "save_steps": 2, "precision": "fp32", **fit},
            "held_out": 2,
        }
    )


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    one, other = Subjects(SUBJECTS, GRID, 5), Subjects(SUBJECTS, GRID, 5)
    for number in (0, 7, 3):
        sample = one[number]
        assert torch.equal(sample.images, other[number].images)
        assert sample.fractions.shape == (len(Part), *GRID)
        assert 0.5 < sample.fractions.sum(dim=0).max() <= 1.001
    assert not torch.equal(one[0].images, Subjects(SUBJECTS, GRID, 6)[0].images)


def test_a_subject_is_seen_by_several_scanners_and_then_no_more() -> None:
    subjects, drawn = Subjects(SUBJECTS, GRID, 5), []
    draw = subjects._subject.__wrapped__
    subjects._subject = lambda number: drawn.append(number) or draw(number)  # type: ignore[assignment, func-returns-value]
    seen = [subjects[number] for number in range(12)]
    assert all(number // 2 <= which < number // 2 + 3 for number, which in enumerate(drawn))
    again = [number for number in range(12) if drawn.count(drawn[number]) > 1]
    first, second = [number for number in again if drawn[number] == drawn[again[0]]][:2]
    assert torch.equal(seen[first].fractions, seen[second].fractions)
    assert not torch.equal(seen[first].images, seen[second].images)


def test_no_two_held_out_studies_are_one_and_no_cohort_has_any() -> None:
    subjects, drawn = Subjects(SUBJECTS, GRID, 0), [Subjects(SUBJECTS, GRID, 0).sample(number) for number in range(3)]
    assert not any(torch.equal(drawn[a].images, drawn[b].images) for a, b in ((0, 1), (0, 2), (1, 2)))
    cohort = to_grid(draw_phantom(profile_named("gli-2024"), 0, 0, 4.0).study, GRID)
    assert not torch.equal(subjects.sample(0).images, torch.from_numpy(cohort.images))


def test_what_an_image_shows_of_a_part_is_where_its_fractions_are() -> None:
    """On T1Gd the rim is brighter than most of the brain."""
    subjects = Subjects(SubjectSettings(profiles={"met-2024": 1}, kept=3), (48, 64, 48), 1)
    brighter = []
    for number in range(6):
        sample = subjects[number]
        rim = sample.fractions[Part.RIM - 1] > 0.8
        if rim.any():
            brighter.append(float(sample.images[1][rim].mean() / sample.images[1][sample.images[1] > 0].median()))
    assert np.mean(brighter) > 1.15


def test_a_run_learns_and_leaves_its_record(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "eye", steps=40, learning_rate=3e-3)
    assert not is_pretrained(recipe)
    pretrain(recipe)
    assert is_pretrained(recipe)
    assert not is_pretrained(recipe_of(tmp_path / "eye", steps=41))
    losses = [json.loads(line)["loss"] for line in (recipe.out / "training.jsonl").read_text().splitlines()]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    manifest = json.loads((recipe.out / "manifest.json").read_text())
    assert manifest["steps"] == 40
    assert 0 <= manifest["held_out"]["dice"]["lesion"] <= 1
    encoder = make_encoder(recipe.vision)
    load_encoder(encoder, str(recipe.out))
    assert load(EyeRecipe, recipe.out / "recipe.yaml") == recipe
    assert not (recipe.out / CHECKPOINT).exists()


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain(recipe_of(tmp_path / "whole"))
    step = pretraining.Trainer.step

    def until_the_fifth(trainer: pretraining.Trainer, *given: object) -> float:
        if trainer.done == 5:
            raise KeyboardInterrupt
        return step(trainer, *given)  # type: ignore[arg-type]

    broken = recipe_of(tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(pretraining.Trainer, "step", until_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            pretrain(broken)
    assert (broken.out / CHECKPOINT).is_file()
    pretrain(broken)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, broken.out))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (whole / "training.jsonl").read_text() == (broken.out / "training.jsonl").read_text()


def test_the_checkpoint_of_another_recipe_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(tmp_path / "eye")

    def fail(*given: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_finish", fail)
        with pytest.raises(OSError, match="full"):
            pretrain(recipe)
    assert (recipe.out / CHECKPOINT).is_file()
    steps: list[int] = []
    other = recipe_of(tmp_path / "eye", learning_rate=1e-4)
    pretrain(other, lambda stage, done, total: steps.append(done) if "training" in stage else None)
    assert steps == [1, 2, 3, 4, 5, 6]


def test_lesions_can_be_shaped_by_the_masks_of_a_cohort(cohort: Path, tmp_path: Path) -> None:
    settings = SUBJECTS.model_copy(update={"masks": cohort})
    shaped, grown = Subjects(settings, GRID, 5), Subjects(SUBJECTS, GRID, 5)
    again = Subjects(settings, GRID, 5, shaped.masks)
    sample = shaped.sample(1)
    assert torch.equal(sample.images, again.sample(1).images)
    assert torch.equal(sample.fractions, again.sample(1).fractions)
    assert sample.fractions.sum(dim=0).max() <= 1.001
    assert not torch.equal(sample.fractions, grown.sample(1).fractions)
    assert grown.masks is None
    placement = shaped._subject(1)[0].parameters.placement
    assert placement is not None
    assert shaped.masks is not None
    assert placement.mask in shaped.masks.by_digest


def test_a_run_counts_by_the_bytes_of_its_masks_and_tells_which_are_of_no_use(cohort: Path, tmp_path: Path) -> None:
    masks = sorted(cohort.rglob("*-seg.nii.gz"))
    (tmp_path / "masks").mkdir()
    shutil.copy(masks[0], tmp_path / "masks")
    (tmp_path / "masks" / "BraTS-GLI-09999-100-seg.nii.gz").write_bytes(b"no image")

    def recipe(folder: str | None) -> EyeRecipe:
        plain = recipe_of(tmp_path / "eye", steps=2)
        subjects = plain.subjects.model_copy(update={"masks": folder and tmp_path / folder})
        return plain.model_copy(update={"subjects": subjects})

    heard: list[str] = []
    pretrain(recipe("masks"), note=heard.append)
    (told,) = heard
    assert "BraTS-GLI-09999-100-seg.nii.gz" in told
    manifest = json.loads((tmp_path / "eye" / "manifest.json").read_text())
    assert manifest["masks"] == {"digest": read_masks(tmp_path / "masks").digest, "n": 1, "left_out": 1}
    assert is_pretrained(recipe("masks"))
    assert not is_pretrained(recipe(None))
    (tmp_path / "masks").rename(tmp_path / "moved")
    assert is_pretrained(recipe("moved"))
    shutil.copy(masks[1], tmp_path / "moved")
    assert not is_pretrained(recipe("moved"))
    with pytest.raises(StudyError, match="no such folder"):
        pretrain(recipe("masks"))
    with pytest.warns(UserWarning, match="09999"):
        pretrain(recipe("moved"))


def test_without_masks_the_terms_of_a_run_are_those_of_before(tmp_path: Path) -> None:
    terms = json.loads(pretraining._terms(recipe_of(tmp_path)))
    assert terms["subjects"].keys() == {"profiles", "spacing", "kept", "takes"}


def test_the_shipped_recipe_is_valid_and_wrong_ones_are_told(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "recipes" / "eye.yaml"
    assert isinstance(load(EyeRecipe, shipped).fit, DenseFitSettings)
    with pytest.raises(RecipeError, match="gli-2042"):
        load(EyeRecipe, shipped, ["subjects.profiles={gli-2042: 1}"])
    with pytest.raises(RecipeError, match="met-2042"):
        load(EyeRecipe, shipped, ["subjects.masks=runs", "subjects.masks_profile=met-2042"])
