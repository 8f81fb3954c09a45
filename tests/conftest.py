"""Fixtures that several rooms need: tiny random language models, tiny studies, and the real data where it is named.

Shape annotations are checked at run time in voxmoe while the tests run.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

_ROOMS = (
    "imaging",
    "vqa.audit",
    "vqa.components",
    "vqa.ct",
    "vqa.ct.asking",
    "vqa.ct.slices",
    "vqa.dataset",
    "vqa.encoding",
    "vqa.findings",
    "vqa.measure",
    "vqa.members",
    "vqa.records",
    "vqa.type_weights",
    "model.vision",
    "model.adaptation",
    "model.concatenation",
    "model.connector",
    "model.dcformer",
    "model.encoder",
    "model.experts",
    "model.features",
    "model.gaze",
    "model.chart",
    "model.grounding",
    "model.heads",
    "model.mixer",
    "model.mpllm",
    "model.perceiver",
    "model.products",
    "model.pyramid",
    "model.reader",
    "model.routing",
    "model.slices",
    "model.task_experts",
    "model.towers",
    "model.weights",
    "training",
    "evaluation",
    "bench",
    "reproduction",
    "evidence",
    "reporting",
    "scan_answering",
    "segmenting",
)
# The words of questions are left out: they have no shapes, and tests draw them by the ten thousand.
# model.processing is left out: transformers reads the argument names of a processor's __init__ from its bytecode.
install_import_hook([f"voxmoe.{room}" for room in _ROOMS], "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from voxmoe.imaging.study import Study  # noqa: E402
from voxmoe.imaging.volume import Volume  # noqa: E402
from voxmoe.vocabulary import Modality  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing in a test touches the user's cache; what is fetched or computed is kept for the tests of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXMOE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; tests that need it are skipped where VOXMOE_REAL_DATA does not name it."""
    named = os.environ.get("VOXMOE_REAL_DATA")
    if not named:
        pytest.skip("VOXMOE_REAL_DATA is not set")
    return Path(named)


@pytest.fixture(scope="session")
def tiny_language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a byte-level tokenizer, saved as a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<unk>", "<s>", "</s>"]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate([*specials, *alphabet])}, [], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(specials) + len(alphabet),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )
    folder = tmp_path_factory.mktemp("language")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_study(
    shape: tuple[int, int, int] = (24, 28, 20),
    seed: int = 0,
    modalities: Any = tuple(Modality),
    id: str = "study",
) -> Study:
    """A study of noise inside an ellipsoid "brain", 1 mm, with one mask of values 0 to 3."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, size) for size in shape), indexing="ij")
    brain = sum(axis**2 for axis in axes) < 1
    images = {
        modality: Volume(
            np.asfortranarray(np.where(brain, generator.uniform(50, 900, shape), 0).astype(np.float32)),
            np.eye(4),
            f"{id}-{modality}",
        )
        for modality in modalities
    }
    mask = np.zeros(shape, np.uint8, order="F")
    middle = tuple(slice(size // 2 - 3, size // 2 + 2) for size in shape)
    mask[middle] = generator.integers(0, 4, mask[middle].shape)
    return Study(id, images, Volume(mask, np.eye(4), f"{id}-seg"))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantom studies in the post-treatment glioma layout."""
    from voxmoe.imaging.layouts import profile_named
    from voxmoe.imaging.phantoms import write_cohort

    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 4, profile_named("gli"), seed=1, jobs=1, progress=None)
    return folder


@pytest.fixture(scope="session")
def dataset(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of the four phantom studies: 96 questions."""
    from voxmoe.vqa.dataset import build_dataset
    from voxmoe.vqa.protocol import PAPER_V2

    folder = tmp_path_factory.mktemp("dataset")
    build_dataset(cohort, folder, PAPER_V2)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(dataset: Path, tiny_language: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains a tiny model on the phantom dataset in seconds."""
    import yaml

    recipe = {
        "name": "tiny",
        "data": str(dataset),
        "out": str(tmp_path_factory.mktemp("run") / "model"),
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
            "connector": {"kind": "experts", "modality_level": 2, "token_level": 2, "router_hidden": 8},
            "language": {"name": str(tiny_language), "lora": {"rank": 2, "alpha": 4}},
        },
        "eye": {"epochs": 2, "batch_size": 2},
        "fit": {"max_steps": 6, "batch_size": 4, "accumulation": 2, "modality_dropout": 0.2},
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_recipe: Path) -> Path:
    """The folder of the tiny model, trained."""
    from voxmoe.training.recipe import load_recipe
    from voxmoe.training.run import train

    return train(load_recipe(tiny_recipe))


@pytest.fixture(scope="session")
def tiny_eye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny eye, pretrained for a few steps on coarse phantoms."""
    from voxmoe.training.pretraining import pretrain
    from voxmoe.training.recipe import EyeRecipe

    recipe = {
        "name": "tiny-eye",
        "out": tmp_path_factory.mktemp("eye"),
        "vision": {"grid": [32, 32, 32], "channels": [8, 8, 16, 16], "layers": 1, "heads": 2},
        "grounding": {"channels": [8, 8, 16, 16]},
        "subjects": {"profiles": {"gli-2024": 1}, "spacing": 4.0, "kept": 3, "takes": 2},
        "fit": {"steps": 30, "batch_size": 2, "learning_rate": 3e-3, "precision": "fp32"},
        "held_out": 2,
    }
    return pretrain(EyeRecipe.model_validate(recipe))


@pytest.fixture(scope="session")
def seeing_recipe(tiny_recipe: Path, tiny_eye: Path) -> list[str]:
    """Changes to the tiny recipe that give it the tiny eye and its decoder."""
    vision = (
        f"{{kind: pyramid, grid: [32, 32, 32], channels: [8, 8, 16, 16], layers: 1, heads: 2, weights: {tiny_eye}}}"
    )
    grounding = f"{{channels: [8, 8, 16, 16], weights: {tiny_eye}}}"
    return [f"model.vision={vision}", f"model.grounding={grounding}", "eye=null", "fit.max_steps=2"]


@pytest.fixture(scope="session")
def seeing_model(tiny_recipe: Path, seeing_recipe: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with an eye that can show where things are."""
    from voxmoe.training.recipe import load_recipe
    from voxmoe.training.run import train

    return train(load_recipe(tiny_recipe, [*seeing_recipe, f"out={tmp_path_factory.mktemp('seeing')}"]))


@pytest.fixture(scope="session")
def charting_model(tiny_recipe: Path, seeing_recipe: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads the chart of what its decoder finds."""
    from voxmoe.training.recipe import load_recipe
    from voxmoe.training.run import train

    changes = ["model.chart={hidden: 8}", "fit.modality_dropout=0", "augment={variants: 2, modality_dropout: 0.5}"]
    return train(load_recipe(tiny_recipe, [*seeing_recipe, *changes, f"out={tmp_path_factory.mktemp('charting')}"]))


@pytest.fixture(scope="session")
def torsos() -> Any:
    """CT phantoms on a grid of voxels twice as long as usual."""
    from voxmoe.imaging.torso import draw_torso

    return [draw_torso(9, index, (64, 64, 32)) for index in range(24)]


@pytest.fixture(scope="session")
def tiny_reader(tiny_language: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CT model with random task experts whose router tells prompts apart."""
    import torch

    from voxmoe.imaging.windows import PictureSettings
    from voxmoe.model.image_text import FreshBase
    from voxmoe.model.language import LanguageSettings, LoraSettings
    from voxmoe.model.reader import ReaderConfig, ReaderSettings, VolumeReader
    from voxmoe.model.reading import ReaderProcessor
    from voxmoe.model.task_experts import TaskExpertSettings

    language = LanguageSettings(name=str(tiny_language), lora=None)
    base = FreshBase(language=language, size=16, patch=4, hidden=16, layers=3, heads=2, merge=2, seed=1)
    settings = ReaderSettings(
        base=base,
        pictures=PictureSettings(size=16, depth=4),
        lora=LoraSettings(rank=2, alpha=4, dropout=0.0),
        experts=TaskExpertSettings(blocks=2, experts=2, rank=4),
    )
    reader = VolumeReader(ReaderConfig.of(settings)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in reader.named_parameters():
            if ".experts." in name or ".task_router." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    processor = ReaderProcessor.of(reader)
    reader.calibrate([dict(processor(["where?", "how many are there in the left lung?", "is it large?", "describe"]))])
    folder = tmp_path_factory.mktemp("reader")
    reader.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def voxmoe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, standard output, standard error."""
    from voxmoe.cli.main import run

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["voxmoe", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
