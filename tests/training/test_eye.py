"""Dense pretraining learns from studies, and modality dropout leaves something to see."""

from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
import torch
from changed_code import change_code
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from conftest import make_study
from voxmoe.imaging.grid import label_fractions, to_grid
from voxmoe.model import convolution, dcformer, features, vision
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.encoder import Encoder, EncoderSettings, make_encoder
from voxmoe.model.pyramid import PyramidSettings
from voxmoe.model.vision import VisionSettings
from voxmoe.training.eye import Sample, drop_modalities, graded, train_eye
from voxmoe.training.recipe import EyeSettings
from voxmoe.training.run import _kept_eye

VISION = VisionSettings(grid=(8, 8, 8), patch=(2, 2, 2), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)
DCFORMER = DCFormerSettings(grid=(16, 16, 16), channels=(8, 12, 16), blocks=(1, 1), kernels=(3, 3), layer_scale=0.1)


PYRAMID = PyramidSettings(grid=(16, 16, 16), channels=(8, 8, 16, 16), layers=1, heads=2)


@pytest.mark.parametrize(
    ("vision", "precision"), [(VISION, "fp32"), (DCFORMER, "fp32"), (PYRAMID, "fp32"), (PYRAMID, "bf16")]
)
def test_the_eye_learns_and_is_frozen(vision: EncoderSettings, precision: Literal["fp32", "bf16"]) -> None:
    torch.manual_seed(0)
    samples = []
    for seed in range(4):
        study = make_study(seed=seed)
        assert study.mask is not None
        gridded = to_grid(study, vision.grid)
        fractions = label_fractions(study.mask.data, {"ET": [3], "NETC": [1]}, gridded.box, vision.patches)
        samples.append(
            Sample(torch.from_numpy(gridded.images), torch.from_numpy(gridded.present), torch.from_numpy(fractions))
        )
    encoder = make_encoder(vision)
    settings = EyeSettings(epochs=15, batch_size=2, learning_rate=3e-3, precision=precision)
    losses = train_eye(encoder, samples, settings, seed=0)
    assert len(losses) == 30
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    least = _least(torch.stack([sample.fractions for sample in samples]), vision)
    assert np.mean(losses[-5:]) - least < 0.5 * (np.mean(losses[:5]) - least)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_an_eye_comes_out_the_same_whatever_was_drawn_before() -> None:
    generator = torch.Generator().manual_seed(1)
    images, fractions = (torch.rand(size, generator=generator) for size in ((4, 8, 8, 8), (2, *VISION.patches)))
    start = make_encoder(VISION).state_dict()
    losses = []
    for before in (1, 2):
        torch.manual_seed(before)
        encoder = make_encoder(VISION)
        encoder.load_state_dict(start)
        samples = [Sample(images, torch.ones(4, dtype=torch.bool), fractions)]
        losses.append(train_eye(encoder, samples, EyeSettings(epochs=3, batch_size=1, precision="fp32"), seed=0))
    assert losses[0] == losses[1]


def _least(fractions: Float[Tensor, "B L d h w"], vision: EncoderSettings) -> float:
    """The loss of one who knows all fractions: what they leave open themselves."""
    cells = functional.adaptive_avg_pool3d(fractions, vision.cells)
    whole = cells.mean(dim=(2, 3, 4), keepdim=True).expand_as(cells)
    tokens = graded(torch.cat([cells, whole], dim=1))
    return float(sum(functional.binary_cross_entropy(told, told) for told in (fractions, tokens)))


def test_the_graded_scale_counts_doublings_alike() -> None:
    fractions = torch.tensor([0.0, 0.001, 0.01, 0.02, 0.04, 0.5, 1.0])
    scale = graded(fractions)
    assert scale[0] == 0
    assert scale[-1] == 1
    assert scale[1:3].tolist() == pytest.approx([0.1, 0.347], abs=1e-3)
    for less, more in ((2, 3), (3, 4), (5, 6)):
        assert float(scale[more] - scale[less]) == pytest.approx(0.1, abs=0.01)


def test_dropout_keeps_at_least_one_modality_and_adds_none() -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.tensor([[True, True, True, True], [False, True, False, False]] * 500)
    kept = drop_modalities(present, 0.5, generator)
    assert kept.any(dim=1).all()
    assert not (kept & ~present).any()
    assert 0.4 < kept[::2].float().mean() < 0.65


def test_ten_steps_have_a_schedule() -> None:
    torch.manual_seed(0)
    encoder = make_encoder(VISION)
    sample = Sample(torch.rand(4, 8, 8, 8), torch.ones(4).bool(), torch.rand(2, 4, 4, 4))
    assert len(train_eye(encoder, [sample], EyeSettings(epochs=10), seed=0)) == 10


def drawn(settings: EncoderSettings) -> Encoder:
    torch.manual_seed(0)
    return make_encoder(settings)


def test_a_kept_eye_is_known_by_all_that_decides_it() -> None:
    """Heads and pool, of which no weight tells, and the grid of a DCFormer, too."""
    samples, eye = [Path("one.safetensors"), Path("two.safetensors")], EyeSettings()

    def key(
        settings: EncoderSettings = VISION, samples: list[Path] = samples, eye: EyeSettings = eye, s: int = 0
    ) -> str:
        return _kept_eye(drawn(settings), samples, eye, s).name

    others = [
        key(VISION.model_copy(update={"heads": 4})),
        key(VISION.model_copy(update={"pool": (1, 2, 2)})),
        key(VISION.model_copy(update={"layers": 2})),
        key(DCFORMER),
        key(DCFORMER.model_copy(update={"grid": (32, 16, 16)})),
        key(samples=[Path("one.safetensors"), Path("three.safetensors")]),
        key(samples=samples[::-1]),
        key(eye=EyeSettings(epochs=3)),
        key(s=1),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key(VISION.model_copy(update={"weights": "elsewhere", "fingerprint": "x"})) == key()
    alike = drawn(VISION.model_copy(update={"heads": 4})).state_dict()
    assert all(torch.equal(tensor, alike[name]) for name, tensor in drawn(VISION).state_dict().items())


@pytest.mark.parametrize(
    ("module", "settings"), [(vision, VISION), (features, VISION), (dcformer, DCFORMER), (convolution, DCFORMER)]
)
def test_a_kept_eye_is_known_by_the_code_of_its_encoder(
    module: ModuleType, settings: EncoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _kept_eye(drawn(settings), [], EyeSettings(), 0)
    change_code(module, tmp_path, monkeypatch)
    assert _kept_eye(drawn(settings), [], EyeSettings(), 0) != before
