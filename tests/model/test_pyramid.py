"""The pyramid: sizes, what is where, and what may not change what is seen."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from voxmoe.model.encoder import load_encoder, make_encoder
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings
from voxmoe.model.vision import VisionSettings

SMALL = PyramidSettings(grid=(16, 32, 48), channels=(8, 8, 16, 24), layers=1, heads=2)


@pytest.fixture(scope="module")
def encoder() -> PyramidEncoder:
    torch.manual_seed(0)
    return PyramidEncoder(SMALL).eval()


def test_default_sizes() -> None:
    settings = PyramidSettings()
    assert settings.cells == (4, 5, 4)
    assert (settings.tokens, settings.hidden) == (80, 192)
    assert settings.patches == (16, 20, 16)
    assert settings.patch_width == 48 + 96 + 192


@pytest.mark.parametrize(("settings", "gflop"), [(PyramidSettings(), 21), (VisionSettings(), 2024)])
def test_a_study_of_four_modalities_costs_what_the_docs_say(
    settings: PyramidSettings | VisionSettings, gflop: int
) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        encoder = make_encoder(settings)
        encoder(torch.rand(4, 1, *settings.grid))
    assert round(counter.get_total_flops() / 1e9) == gflop
    if isinstance(settings, PyramidSettings):
        assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(3.7e6, rel=0.02)


def test_what_is_seen_of_a_patch_is_its_cell_and_what_covers_it(encoder: PyramidEncoder) -> None:
    volume = torch.rand(2, 1, *SMALL.grid)
    with torch.no_grad():
        seen, patches = encoder.patch_features(volume)
        second = encoder.stages[1](encoder.stages[0](volume))
        third = encoder.stages[2](second)
    assert seen.cls.shape == (2, 24)
    assert seen.tokens.shape == (2, 1 * 2 * 3, 24)
    assert patches.shape == (2, 4 * 8 * 12, SMALL.patch_width)
    d, h, w = 3, 5, 10
    patch = patches[1, (d * 8 + h) * 12 + w]
    torch.testing.assert_close(patch[:8], second[1, :, d, h, w])
    torch.testing.assert_close(patch[8:24], third[1, :, d // 2, h // 2, w // 2])
    torch.testing.assert_close(patch[24:], seen.tokens[1, (h // 4) * 3 + w // 4])


def test_a_change_in_one_corner_reaches_every_token(encoder: PyramidEncoder) -> None:
    volume = torch.rand(1, 1, *SMALL.grid)
    other = volume.clone()
    other[..., :4, :4, :4] += 1
    with torch.no_grad():
        changed = (encoder(volume).tokens - encoder(other).tokens).abs().amax(dim=-1)
    assert (changed > 0).all()


def test_a_volume_does_not_depend_on_those_beside_it(encoder: PyramidEncoder) -> None:
    volumes = torch.rand(3, 1, *SMALL.grid)
    with torch.no_grad():
        torch.testing.assert_close(encoder(volumes).tokens[1:2], encoder(volumes[1:2]).tokens, atol=1e-5, rtol=1e-5)


def test_weights_go_to_a_file_and_back(encoder: PyramidEncoder, tmp_path: Path) -> None:
    save_file(encoder.state_dict(), tmp_path / "eye.safetensors")
    other = make_encoder(SMALL)
    load_encoder(other, str(tmp_path / "eye.safetensors"))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


@pytest.mark.parametrize("wrong", [{"grid": (16, 24, 16)}, {"channels": (8, 8, 16, 20)}, {"heads": 5}])
def test_sizes_that_do_not_divide_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="multiple"):
        PyramidSettings(**{**SMALL.model_dump(), **wrong})
