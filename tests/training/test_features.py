"""Features: computed once, known by all that decides them, read from disk when they are needed."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from changed_code import change_code

from conftest import make_study
from voxmoe.errors import CacheError
from voxmoe.imaging import study as study_module
from voxmoe.imaging.grid import to_grid
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.imaging.volume import write_volume
from voxmoe.model.language import LanguageSettings
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.vision import VisionSettings
from voxmoe.training import features as features_module
from voxmoe.training.augment import AugmentSettings, apply_view, draw_views
from voxmoe.training.features import FeatureCache, ImageCache, stack
from voxmoe.training.processes import Processes
from voxmoe.training.studies import cell_mm
from voxmoe.vocabulary import Modality

VISION = VisionSettings(grid=(4, 8, 8), patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def model(tiny_language: Path) -> MpLLM:
    torch.manual_seed(0)
    settings = ModelSettings(vision=VISION, language=LanguageSettings(name=str(tiny_language)))
    return MpLLM(MpLLMConfig.of(settings)).eval()


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))


def on_disk(folder: Path, study: Study) -> StudyFiles:
    paths = {modality: folder / f"{study.id}-{modality}.nii" for modality in study.images}
    for modality, path in paths.items():
        write_volume(study.images[modality], path)
    return StudyFiles(study.id, study.id, paths)


@pytest.fixture
def studies(tmp_path: Path) -> dict[str, StudyFiles]:
    (tmp_path / "cohort").mkdir()
    two = (Modality.T1, Modality.FLAIR)
    made = [make_study(seed=1, id="a"), make_study(seed=2, id="b", modalities=two), make_study(seed=3, id="c")]
    return {study.id: on_disk(tmp_path / "cohort", study) for study in made}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_images_are_kept_in_every_view_for_an_encoder_that_learns(studies: dict[str, StudyFiles]) -> None:
    augment, grid = AugmentSettings(variants=2), VISION.grid
    kept = ImageCache(grid, "float32").of_all(studies, quiet, augment, 3)
    for name, files in studies.items():
        study = load_study(files)
        gridded = to_grid(study, grid)
        for number, view in enumerate(draw_views(augment, 3, files.id)):
            seen, shown = kept.view(name, number), apply_view(gridded, cell_mm(study, gridded, grid), view)
            assert seen.keys() == {"images", "present"}
            assert torch.equal(seen["images"], torch.from_numpy(shown.images))
            assert torch.equal(seen["present"], torch.from_numpy(shown.present))
    other = ImageCache((8, 8, 8), "float32").of_all(studies, quiet, augment, 3)
    assert not {*map(tuple, kept.paths.values())} & {*map(tuple, other.paths.values())}


def test_kept_in_full_precision_they_are_what_the_encoder_gives(model: MpLLM, studies: dict[str, StudyFiles]) -> None:
    kept = FeatureCache(model, "float32").of_all(studies, quiet)
    assert list(kept) == ["a", "b", "c"]
    for name, files in studies.items():
        seen = to_grid(load_study(files), VISION.grid)
        with torch.no_grad():
            direct = model.encode_images(torch.from_numpy(seen.images)[None], torch.from_numpy(seen.present)[None])
        assert equal(stack([kept[name]]), direct.inputs())
    assert kept["b"]["present"].tolist() == [True, False, False, True]
    assert not kept["b"]["tokens"][1].any()


@pytest.mark.parametrize(("precision", "error"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_rounded_they_are_off_by_half_a_step(model: MpLLM, precision: Any, error: float) -> None:
    study = make_study()
    exact = stack([FeatureCache(model, "float32").of(study)])
    rounded = stack([FeatureCache(model, precision).of(study)])
    assert rounded["tokens"].dtype == torch.float32
    torch.testing.assert_close(rounded["tokens"], exact["tokens"], rtol=error, atol=1e-6)
    assert not torch.equal(rounded["tokens"], exact["tokens"])


def test_first_time_and_later_give_the_same(model: MpLLM) -> None:
    study = make_study()
    assert equal(FeatureCache(model).of(study), FeatureCache(model).of(study))


@dataclass
class Counted:
    """How often studies were read and encoded."""

    read: int = 0
    encoded: int = 0


@pytest.fixture
def counted(model: MpLLM, monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    encode = model.encode_images

    def counting_read(*arguments: Any, **named: Any) -> Study:
        counted.read += 1
        return load_study(*arguments, **named)

    def counting_encode(*arguments: Any) -> Any:
        counted.encoded += 1
        return encode(*arguments)

    monkeypatch.setattr(features_module, "load_study", counting_read)
    monkeypatch.setattr(model, "encode_images", counting_encode)
    return counted


def test_nothing_is_read_or_encoded_twice(
    model: MpLLM, studies: dict[str, StudyFiles], counted: Counted, tmp_path: Path
) -> None:
    FeatureCache(model).of_all(studies, quiet)
    assert (counted.read, counted.encoded) == (3, 3)
    FeatureCache(model).of_all(studies, quiet)
    assert (counted.read, counted.encoded) == (3, 3)
    FeatureCache(model).of(load_study(studies["a"]))
    assert counted.encoded == 3, "a study in memory is known by its voxels"
    shutil.copytree(tmp_path / "cohort", tmp_path / "copy")
    copied = {modality: tmp_path / "copy" / path.name for modality, path in studies["a"].images.items()}
    FeatureCache(model).of_all({"again": StudyFiles("again", "again", copied)}, quiet)
    assert (counted.read, counted.encoded) == (4, 3), "a copy is read once and known"


def test_a_changed_image_is_encoded_again(model: MpLLM, studies: dict[str, StudyFiles], counted: Counted) -> None:
    before = FeatureCache(model).of_all(studies, quiet)["a"]
    changed = studies["a"].images[Modality.T2]
    write_volume(make_study(seed=9).images[Modality.T2], changed)
    after = FeatureCache(model).of_all(studies, quiet)["a"]
    assert counted.encoded == 4
    assert torch.equal(before["tokens"][0], after["tokens"][0])
    assert not torch.equal(before["tokens"][2], after["tokens"][2])


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-3]), Path.unlink])
def test_what_is_damaged_or_gone_is_computed_again(
    model: MpLLM, studies: dict[str, StudyFiles], counted: Counted, damage: Callable[[Path], Any]
) -> None:
    before = FeatureCache(model).of_all(studies, quiet)
    kept = stack([before["b"]])
    damage(before.paths["b"][0])
    after = FeatureCache(model).of_all(studies, quiet)
    assert counted.encoded == 4
    assert equal(stack([after["b"]]), kept)


def test_what_is_removed_while_it_is_in_use_is_told(model: MpLLM, studies: dict[str, StudyFiles]) -> None:
    kept = FeatureCache(model).of_all(studies, quiet)
    name = next(iter(kept))
    kept.paths[name][0].unlink()
    with pytest.raises(CacheError, match=f"what is seen of {name} was removed"):
        kept[name]


@pytest.mark.parametrize("left", [0, 40])
def test_what_is_damaged_while_it_is_in_use_is_told(model: MpLLM, studies: dict[str, StudyFiles], left: int) -> None:
    kept = FeatureCache(model).of_all(studies, quiet)
    path = kept.paths["b"][0]
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        CacheError, match=rf"{path}: what is seen of b was damaged .*the same command computes it again"
    ):
        kept["b"]


def test_the_key_is_all_that_decides(model: MpLLM, tiny_language: Path) -> None:
    def key(
        changed: MpLLM | None = None, study: Study | None = None, view: Any = None, precision: Any = "float16"
    ) -> str:
        digests = features_module.study_digests(study or make_study())
        return FeatureCache(changed or model, precision).path(digests, view).name

    def other(vision: VisionSettings) -> MpLLM:
        torch.manual_seed(0)
        language = LanguageSettings(name=str(tiny_language))
        return MpLLM(MpLLMConfig.of(ModelSettings(vision=vision, language=language))).eval()

    same = other(VISION)
    assert key(same) == key()
    with torch.no_grad():
        next(same.connector.parameters()).add_(1)
    assert key(same) == key(), "the connector does not see images"
    with torch.no_grad():
        same.vision.norm.bias[3] += 1e-6
    view = draw_views(AugmentSettings(), 0, "study")[1]
    others = [
        key(same),
        key(other(VISION.model_copy(update={"pool": (1, 2, 2)}))),
        key(study=make_study(seed=1)),
        key(study=make_study(modalities=(Modality.T1, Modality.T2))),
        key(view=view),
        key(view=draw_views(AugmentSettings(), 1, "study")[1]),
        key(precision="float32"),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_the_code_that_finds_the_foreground_is_in_the_key(
    model: MpLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paths() -> set[Path]:
        digests = features_module.study_digests(make_study())
        return {FeatureCache(model).path(digests), ImageCache(VISION.grid).path(digests)}

    before = paths()
    change_code(study_module, tmp_path, monkeypatch)
    assert not before & paths()


def test_views_are_kept_side_by_side(model: MpLLM, studies: dict[str, StudyFiles], counted: Counted) -> None:
    augment = AugmentSettings(variants=3)
    kept = FeatureCache(model).of_all(studies, quiet, augment, seed=5)
    assert (counted.read, counted.encoded) == (3, 9)
    plain = FeatureCache(model).of_all(studies, quiet)
    assert (counted.read, counted.encoded) == (3, 9), "the first view is the scan as it is"
    assert equal(kept.view("a", 0), plain["a"])
    assert not torch.equal(kept.view("a", 1)["tokens"], kept.view("a", 2)["tokens"])
    drawn = [view is not None and view.flip for view in draw_views(augment, 5, studies["a"].id)]
    assert [kept.is_flipped("a", number) for number in range(3)] == drawn
    FeatureCache(model).of_all(studies, quiet, AugmentSettings(variants=4), seed=5)
    assert counted.encoded == 12, "one more view a study"


class Two(Processes):
    """One of two processes, which meet nowhere."""

    def __init__(self, rank: int) -> None:
        self.number = rank

    @property
    def rank(self) -> int:
        return self.number

    @property
    def count(self) -> int:
        return 2

    def wait(self) -> None:
        """The other one is not there."""


def test_processes_share_the_work(model: MpLLM, studies: dict[str, StudyFiles], counted: Counted) -> None:
    encoded: list[tuple[str, int, int]] = []
    first = FeatureCache(model).of_all(studies, lambda *told: encoded.append(told), processes=Two(0))
    assert encoded[:2] == [("encoding studies", 1, 2), ("encoding studies", 2, 2)], "a and c"
    assert counted.encoded == 3, "what the other has not made is made here"
    second = FeatureCache(model).of_all(studies, quiet, processes=Two(1))
    assert counted.encoded == 3
    assert first.paths == second.paths
    assert list(first) == ["a", "b", "c"]


def test_only_what_is_asked_for_is_in_memory(model: MpLLM, studies: dict[str, StudyFiles]) -> None:
    kept = FeatureCache(model).of_all(studies, quiet)
    assert vars(kept) == {"paths": kept.paths, "flips": {name: [False] for name in "abc"}}
    batch = stack([kept["a"], kept["b"], kept["a"]])
    assert batch["tokens"].shape == (3, 4, 8, 16)
    assert batch["cls"].shape == (3, 4, 16)
    assert torch.equal(batch["tokens"][0], batch["tokens"][2])


def test_one_study_under_two_names_is_one_entry(model: MpLLM, studies: dict[str, StudyFiles], counted: Counted) -> None:
    twice = {"a": studies["a"], "z": replace(studies["a"], id="z")}
    kept = FeatureCache(model).of_all(twice, quiet)
    assert kept.paths["a"] == kept.paths["z"]
