"""The encoder: names of parameters, order of patches, pooling."""

import pytest
import torch

from voxmoe.model.vision import VisionEncoder, VisionSettings

SMALL = VisionSettings(grid=(4, 8, 16), patch=(2, 2, 4), pool=(1, 2, 2), hidden=12, layers=2, heads=3, mlp=24)


def test_default_sizes_are_those_of_m3d_clip() -> None:
    settings = VisionSettings()
    assert settings.patches == (8, 16, 16)
    assert settings.tokens == 256
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in VisionEncoder(settings).state_dict().items()}
    assert shapes["patch_embedding.position_embeddings"] == (1, 2048, 768)
    assert shapes["patch_embedding.patch_embeddings.1.weight"] == (768, 1024)
    assert shapes["cls_token"] == (1, 1, 768)
    assert shapes["blocks.11.attn.qkv.weight"] == (2304, 768)
    assert "blocks.0.attn.qkv.bias" not in shapes
    assert shapes["blocks.0.attn.out_proj.weight"] == (768, 768)
    assert shapes["blocks.0.mlp.linear1.weight"] == (3072, 768)
    assert shapes["norm.weight"] == (768,)
    assert len(shapes) == 4 + 2 + 12 * 11


def test_patches_are_cut_depth_height_width_one_after_the_other() -> None:
    encoder = VisionEncoder(SMALL)
    volume = torch.arange(4 * 8 * 16, dtype=torch.float).reshape(1, 1, 4, 8, 16)
    patches = encoder.patch_embedding.patch_embeddings[0](volume)
    assert patches.shape == (1, 2 * 4 * 4, 16)
    d, h, w = 1, 2, 3
    cut = volume[0, 0, 2 * d : 2 * d + 2, 2 * h : 2 * h + 2, 4 * w : 4 * w + 4]
    assert torch.equal(patches[0, d * 16 + h * 4 + w], cut.flatten())


def test_pooling_averages_neighbours() -> None:
    encoder = VisionEncoder(SMALL)
    patches = torch.randn(2, 32, 12)
    pooled = encoder.pool(patches)
    cells = patches.reshape(2, 2, 4, 4, 12)
    assert pooled.shape == (2, SMALL.tokens, 12)
    torch.testing.assert_close(pooled[:, 3], cells[:, 0, 2:, 2:].mean(dim=(1, 2)))


def test_a_change_in_one_corner_reaches_every_token() -> None:
    encoder = VisionEncoder(SMALL).eval()
    volume = torch.rand(1, 1, 4, 8, 16)
    other = volume.clone()
    other[..., 0, 0, 0] += 1
    with torch.no_grad():
        changed = (encoder(volume)[1] - encoder(other)[1]).abs().amax(dim=-1)
    assert (changed > 0).all()


@pytest.mark.parametrize("wrong", [{"grid": (5, 8, 16)}, {"pool": (1, 3, 2)}, {"heads": 5}])
def test_sizes_that_do_not_divide_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="multiple"):
        VisionSettings(**{**SMALL.model_dump(), **wrong})
