"""The stages of a reader, one after the other, on CT phantoms: what changes, what is kept, and how a run goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from voxmoe.errors import DatasetError, RecipeError, WeightsError
from voxmoe.files import write_json
from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.torso import write_torsos
from voxmoe.imaging.volume import read_mask
from voxmoe.imaging.windows import PictureSettings, label_shares, to_pictures
from voxmoe.model.image_text import FreshBase, PretrainedBase
from voxmoe.model.reader import VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.training.any_recipe import load_any
from voxmoe.training.pictures import PictureCache, Scan
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.reader_run import train_reader
from voxmoe.training.record import is_finished, terms
from voxmoe.vqa.ct.collect import collect
from voxmoe.vqa.ct.dataset import open_ct_dataset, write_ct_dataset

LABELS = [2, 3, 5, 7]
NAMES = ["right lung", "left lung", "heart", "liver"]
BLIND = "stage={}\nmodel.blind=true\nmodel.experts={{blocks: 1}}\ndense=[]"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms and both datasets about them."""
    root = tmp_path_factory.mktemp("world")
    write_torsos(root / "cohort", 3, 5, shape=(48, 48, 32))
    for form, name in (("phantom", "volumes"), ("phantom-slices", "slices")):
        images, masks = root / "cohort" / "volumes", root / "cohort" / "masks"
        collect(form, [str(root / "cohort" / "truth.jsonl")], root / name, images, masks=masks)
    return root


@pytest.fixture(scope="module")
def recipes(world: Path, tiny_language: Path) -> dict[str, ReaderRecipe]:
    base = {
        "kind": "fresh",
        "language": {"name": str(tiny_language), "lora": None},
        **{"size": 16, "patch": 4, "hidden": 16, "layers": 3, "heads": 2, "merge": 4},
    }
    model = {"base": base, "labels": NAMES, "lora": {"rank": 4, "alpha": 8, "dropout": 0.0}}
    fit = {
        "max_steps": 4, "batch_size": 8, "accumulation": 1, "learning_rate": 0.01, "expert_learning_rate": 0.01,
        "save_steps": 2, "precision": "fp32",
    }  # fmt: skip
    volumes = {"pictures": {"size": 16, "depth": 4, "slab": "mean"}}
    flat = {"model": {**model, "adaptation": {"layers": "none"}, "pictures": {"size": 16, "depth": None}}}
    trees = {
        "tissues": {**flat, "dense": LABELS},
        "slices": {**flat, "dense": LABELS, "start": str(world / "tissues-run")},
        "shared": {"model": {**model, **volumes}, "start": str(world / "slices-run")},
        "experts": {
            "model": {**model, **volumes, "experts": {"blocks": 1, "experts": 2, "rank": 2}},
            "start": str(world / "shared-run"),
        },
    }
    return {
        stage: ReaderRecipe.model_validate(
            {
                "system": "tgh-moe",
                "name": stage,
                "stage": stage,
                "data": str(world / ("slices" if stage in ("tissues", "slices") else "volumes")),
                "out": str(world / f"{stage}-run"),
                "fit": fit,
                **tree,
            }
        )
        for stage, tree in trees.items()
    }


@pytest.fixture(scope="module")
def trained(recipes: dict[str, ReaderRecipe]) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that each stage left."""
    found = {}
    for stage, recipe in recipes.items():
        assert not is_finished(recipe)
        train_reader(recipe)
        assert is_finished(recipe)
        found[stage] = load_file(recipe.out / "model.safetensors")
    return found


def test_every_stage_changes_what_it_names(
    trained: dict[str, dict[str, torch.Tensor]], recipes: dict[str, ReaderRecipe]
) -> None:
    before: dict[str, torch.Tensor] = {}
    for stage, after in trained.items():
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        new = after.keys() - before.keys()
        if stage == "tissues":
            assert not any(tensor.any() for name, tensor in after.items() if ".lora_B." in name), "no text was read"
        if stage == "slices":
            assert new == set()
            assert any(".lora_B." in name for name in changed)
            assert any(".vision_model." in name for name in changed)
        if stage == "shared":
            assert new == set()
            assert changed
            assert all(".lora_" in name or "connector" in name or ".layers.2.self_attn." in name for name in changed)
        if stage == "experts":
            assert changed == set()
            assert new
            assert all(".experts." in name or ".task_router." in name for name in new)
        before = after
    lines = [json.loads(line) for line in (recipes["slices"].out / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    manifest = json.loads((recipes["experts"].out / "manifest.json").read_text())
    assert manifest["steps"] == 4
    added = manifest["experts_add"]["parameters"]
    learnt = [tensor for name, tensor in trained["experts"].items() if name in new and ".standardise." not in name]
    assert added == sum(tensor.numel() for tensor in learnt)
    assert manifest["experts_add"]["flops"] > 0
    assert manifest["trained_parameters"] >= added
    assert json.loads((recipes["shared"].out / "manifest.json").read_text())["experts_add"] is None


def test_a_run_is_known_by_what_lies_where_its_paths_lead(
    trained: dict[str, Any], recipes: dict[str, ReaderRecipe], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes["shared"]
    assert recipe.start is not None
    monkeypatch.chdir(world)
    near = {"data": (Path("volumes"),), "out": Path(recipe.out.name), "start": Path(recipe.start.name)}
    assert is_finished(recipe.model_copy(update=near))
    for changes in ({"data": (Path("slices"),)}, {"start": Path("experts-run")}, {"start": None}, {"seed": 5}):
        assert not is_finished(recipe.model_copy(update={**near, **changes})), changes


def test_a_run_is_known_by_the_bytes_of_its_base_model(
    recipes: dict[str, ReaderRecipe], tiny_language: Path, tmp_path: Path
) -> None:
    """A language model, or a whole 2D model."""
    folder = shutil.copytree(tiny_language, tmp_path / "language")
    recipe = recipes["slices"].model_copy(update={"start": None})
    fresh = recipe.model.base
    assert isinstance(fresh, FreshBase)
    language = fresh.language.model_copy(update={"name": str(folder)})
    for number, base in enumerate([fresh.model_copy(update={"language": language}), PretrainedBase(name=str(folder))]):
        model = recipe.model.model_copy(update={"base": base, "blind": True})
        own = recipe.model_copy(update={"model": model, "dense": (), "out": tmp_path / f"out{number}"})
        write_json(own.out / "manifest.json", terms(own))
        assert is_finished(own)
        kept = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(kept[:-1] + bytes([255 - kept[-1]]))
        assert not is_finished(own)
        (folder / "model.safetensors").write_bytes(kept)


def test_a_dataset_that_does_not_fit_the_recipe_is_refused_before_anything_is_drawn(
    recipes: dict[str, ReaderRecipe], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PictureCache, "of_all", None)
    sliced = recipes["shared"].model_copy(update={"data": (world / "slices",), "out": tmp_path / "out", "start": None})
    with pytest.raises(DatasetError, match=r"asks about slice .* set model\.pictures\.depth=null"):
        train_reader(sliced)
    assert not sliced.out.exists()
    monkeypatch.setattr("voxmoe.model.reading.MAX_PROMPT_TOKENS", 10)
    with pytest.raises(DatasetError, match="at most 10 are read"):
        train_reader(recipes["shared"].model_copy(update={"out": tmp_path / "out", "start": None}))


def test_a_slice_beyond_its_file_is_named_before_the_first_step(
    recipes: dict[str, ReaderRecipe], world: Path, tmp_path: Path
) -> None:
    dataset = open_ct_dataset(world / "slices")
    beyond = [replace(exchange, slice=32) for exchange in dataset.exchanges("train")]
    splits = {exchange.patient: "train" for exchange in beyond}
    write_ct_dataset(beyond, tmp_path / "beyond", dataset.images_root, splits=splits)
    recipe = recipes["slices"].model_copy(
        update={"data": (tmp_path / "beyond",), "out": tmp_path / "out", "start": None, "stage": "shared", "dense": ()}
    )
    with pytest.raises(DatasetError, match=r"asks about slice 32 of .*, which has 32, numbered from 0"):
        train_reader(recipe)


def test_a_reader_of_texts_learns_from_slices_and_volumes_alike(
    recipes: dict[str, ReaderRecipe], world: Path, tmp_path: Path
) -> None:
    base = recipes["shared"]
    recipe = base.model_copy(
        update={
            "model": base.model.model_copy(update={"blind": True}),
            "data": (world / "slices", world / "volumes"),
            "fit": base.fit.model_copy(update={"max_steps": 1}),
            "out": tmp_path / "texts",
            "start": None,
        }
    )
    train_reader(recipe)
    assert is_finished(recipe)


def test_a_trained_reader_answers(trained: dict[str, Any], recipes: dict[str, ReaderRecipe], world: Path) -> None:
    out = recipes["experts"].out
    reader, processor = VolumeReader.from_pretrained(out), ReaderProcessor.from_pretrained(out)
    volume = read_ct(next((world / "cohort" / "volumes").glob("*.nii.gz")))
    ids = reader.generate(**processor(["Is there a nodule?"], [volume]), max_new_tokens=3)
    assert isinstance(processor.decode_answers(ids)[0], str)


def test_an_interrupted_run_ends_with_the_same_weights(
    trained: dict[str, dict[str, torch.Tensor]], recipes: dict[str, ReaderRecipe], tmp_path: Path
) -> None:
    recipe = recipes["experts"].model_copy(update={"out": tmp_path / "again"})

    def cut(stage: str, done: int, total: int) -> None:
        if stage.startswith("fitting") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_reader(recipe, cut)
    assert not is_finished(recipe)
    train_reader(recipe)
    again = load_file(recipe.out / "model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in trained["experts"].items())


def test_groups_of_a_step_may_be_passed_one_by_one(
    trained: dict[str, dict[str, torch.Tensor]], recipes: dict[str, ReaderRecipe], tmp_path: Path
) -> None:
    losses = []
    for name, batch, passes in (("one", 8, 1), ("two", 4, 2)):
        fit = recipes["shared"].fit.model_copy(update={"batch_size": batch, "accumulation": passes, "max_steps": 2})
        out = tmp_path / name
        train_reader(recipes["shared"].model_copy(update={"fit": fit, "out": out}))
        losses.append([json.loads(line)["loss"] for line in (out / "training.jsonl").read_text().splitlines()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_blind_reader_learns_from_texts(recipes: dict[str, ReaderRecipe], tmp_path: Path) -> None:
    model = recipes["shared"].model.model_copy(update={"blind": True})
    recipe = recipes["shared"].model_copy(update={"model": model, "out": tmp_path / "blind", "start": None})
    train_reader(recipe)
    lines = [json.loads(line) for line in (recipe.out / "training.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"rank": 4, "alpha": 16}}, "model.lora.alpha 8 -> 16"),
        ({"adaptation": {"pool": 2}}, r"model\.adaptation\.pool \d+ -> 2"),
        ({"pictures": {"size": 16, "depth": 6, "slab": "mean"}}, "model.pictures.depth 4 -> 6"),
        ({"lettered": False}, "model.lettered true -> false"),
    ],
)
def test_the_second_stage_goes_on_with_the_first_s_function(
    changes: dict[str, Any],
    said: str,
    trained: dict[str, Any],
    recipes: dict[str, ReaderRecipe],
    tmp_path: Path,
) -> None:
    tree = recipes["experts"].model_dump(mode="json")
    tree = {**tree, "out": str(tmp_path / "out"), "model": {**tree["model"], **changes}}
    write_json(tmp_path / "out" / "manifest.json", {"of": "another run"})
    with pytest.raises(RecipeError, match=f"shared-run: stage experts goes on with what it computes.*{said}"):
        train_reader(ReaderRecipe.model_validate(tree))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == {"of": "another run"}


def test_a_start_that_is_not_there_is_named(recipes: dict[str, ReaderRecipe], tmp_path: Path) -> None:
    changes = {"start": tmp_path / "nowhere", "out": tmp_path / "out"}
    with pytest.raises(WeightsError, match="nowhere: no model here"):
        train_reader(recipes["shared"].model_copy(update=changes))


def test_no_stage_goes_on_with_another_language_model(
    trained: dict[str, Any], recipes: dict[str, ReaderRecipe], tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(recipes["slices"].out, start)
    config = json.loads((start / "config.json").read_text())
    config["settings"]["base"]["language"]["fingerprint"] = "0" * 16
    (start / "config.json").write_text(json.dumps(config))
    other = recipes["shared"].model_copy(update={"start": start, "out": tmp_path / "out"})
    with pytest.raises(RecipeError, match=r'model\.base\.language\.fingerprint "0{16}" -> '):
        train_reader(other)


def test_dense_training_needs_masks(recipes: dict[str, ReaderRecipe], world: Path, tmp_path: Path) -> None:
    cohort = world / "cohort"
    collect("phantom-slices", [str(cohort / "truth.jsonl")], tmp_path / "maskless", cohort / "volumes")
    recipe = recipes["slices"].model_copy(update={"data": (tmp_path / "maskless",), "out": tmp_path / "out"})
    with pytest.raises(DatasetError, match="has no mask of"):
        train_reader(recipe)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stage=experts", "set model.experts"),
        ("dense=[1]", "dense names 1 labels"),
        ("stage=tissues\ndense=[]", "stage tissues learns from masks alone"),
        ("model.blind=true", "a blind reader does not use"),
        (BLIND.format("experts"), "stage experts teaches .*no experts to teach: set stage=shared, model.experts=null"),
        (BLIND.format("together"), "stage together teaches .*no experts to teach"),
        ("model.base={kind: pretrained, name: x}", "dense teaches the tower of a fresh base"),
        ("model.experts={groups: 2}", "experts.groups is 2; a reader has one group for each of its 3 tasks"),
        ("shares={report: 0}", "shares are all 0"),
        ("system=other", "there are mpllm and tgh-moe"),
        ("model.base.size=20", "not a multiple of patch x merge"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(
    change: str, said: str, recipes: dict[str, ReaderRecipe], tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipes["slices"].model_dump(mode="json")))
    assert load_any(path)[0] == recipes["slices"]
    with pytest.raises(RecipeError, match=said):
        load_any(path, change.splitlines())


def test_pictures_are_drawn_once(world: Path, tmp_path: Path) -> None:
    image = next((world / "cohort" / "volumes").glob("*.nii.gz"))
    mask = world / "cohort" / "masks" / image.name
    settings = PictureSettings(size=16, depth=4)
    cache = PictureCache(settings, LABELS, 4)
    kept = cache.of_all({"it": Scan(image, mask=mask)}, lambda stage, done, total: None)
    assert torch.equal(kept.pixels("it"), torch.from_numpy(to_pictures(read_ct(image), settings)))
    assert torch.equal(kept.pixels("it", 2), kept.pixels("it")[2:3])
    shares = torch.from_numpy(label_shares(read_mask(mask), LABELS, settings, 4)).flatten(2)
    torch.testing.assert_close(kept.shares("it"), shares, atol=1e-3, rtol=0)
    path = cache.of(Scan(image, mask=mask))
    changed = path.stat().st_ino
    assert cache.of(Scan(image, mask=mask)).stat().st_ino == changed
    path.write_bytes(path.read_bytes()[:-8])
    assert torch.equal(cache.of_all({"it": Scan(image, mask=mask)}, lambda *_: None).pixels("it"), kept.pixels("it"))
    assert PictureCache(PictureSettings(size=16, depth=5), LABELS, 4).of(Scan(image, mask=mask)) != path


def test_shares_lie_where_the_labels_are(world: Path) -> None:
    """Right of the patient is left in a picture; where all is one label, its shares are the body of the square."""
    mask = read_mask(next((world / "cohort" / "masks").glob("*.nii.gz")))
    right, left = label_shares(mask, [2, 3], PictureSettings(size=16, depth=None), 4).sum(axis=(0, 2)).swapaxes(0, 1).T
    assert right[:2].sum() > right[2:].sum()
    assert left[:2].sum() < left[2:].sum()
