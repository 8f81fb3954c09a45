"""DCFormer: published sizes and names, what a decomposed convolution computes, order and reach of the two streams."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.dcformer import DCFormer, DCFormerSettings, DecomposedConv

SMALL = DCFormerSettings(grid=(16, 24, 32), channels=(4, 6, 8), blocks=(1, 2), kernels=(5, 3), layer_scale=0.5)


def encoder(settings: DCFormerSettings = SMALL) -> DCFormer:
    """With statistics that are not those of a fresh model."""
    torch.manual_seed(0)
    made = DCFormer(settings).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return made


def test_default_sizes_and_names_are_those_published() -> None:
    settings = DCFormerSettings()
    assert (settings.tokens, settings.hidden) == (32, 768)
    assert (settings.low_tokens, settings.low_hidden) == (256, 384)
    with torch.device("meta"):
        made = DCFormer(settings)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    assert shapes["encoder.s0.0.0.c1.0.weight"] == (64, 1, 7, 1, 1)
    assert shapes["encoder.s0.0.3.c3.0.weight"] == (64, 64, 1, 1, 3)
    assert shapes["encoder.s1.0.proj.weight"] == (96, 64, 1, 1, 1)
    assert shapes["encoder.s1.0.dwconv.c2.0.weight"] == (96, 1, 1, 13, 1)
    assert shapes["encoder.s3.5.scale"] == (384,)
    assert shapes["encoder.s4.1.dwconv.c1.1.running_var"] == (768,)
    assert shapes["encoder.s4.1.mlp.mlp.3.weight"] == (768, 3072)
    assert "encoder.s1.1.proj.weight" not in shapes
    convolutions = 4 + 2 + 3 + 6 + 2
    assert len(shapes) == 3 * 7 * convolutions + 5 * (convolutions - 4) + 4


def test_number_of_parameters() -> None:
    """Counted by hand for every layer, and with the projector as the published model (see test_mixer)."""
    with torch.device("meta"):
        made = DCFormer(DCFormerSettings())

    def conv(channels: int, out: int, kernel: int) -> int:
        return 3 * (channels * out * kernel + 3 * out)  # weights, bias, and two of the normalisation

    expected = conv(1, 64, 7) + 3 * conv(64, 64, 3)
    before = 64
    for width, blocks, kernel in ((96, 2, 13), (192, 3, 11), (384, 6, 9), (768, 2, 7)):
        block = conv(1, width, kernel) + 8 * width * width + 5 * width + width
        expected, before = expected + before * width + blocks * block, width
    assert sum(p.numel() for p in made.parameters()) == expected == 18_244_800


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (6, 1), (1, 2)])
def test_a_decomposed_convolution_is_a_dense_one_with_a_cross_for_a_kernel(groups: int, stride: int) -> None:
    """What is outside the three axes through the kernel's middle is 0; the middle has all three weights."""
    torch.manual_seed(0)
    decomposed = DecomposedConv(6, 6, 5, stride, groups).eval()
    dense = nn.Conv3d(6, 6, 5, stride, 2, groups=groups)
    with torch.no_grad():
        dense.weight.zero_()
        dense.bias.zero_()
        for line, place in (
            (decomposed.c1, (slice(None), 2, 2)),
            (decomposed.c2, (2, slice(None), 2)),
            (decomposed.c3, (2, 2, slice(None))),
        ):
            conv, norm = line
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.normal_(norm.running_mean)
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            dense.weight[:, :, *place] += gain[:, None, None] * conv.weight.flatten(2)
            dense.bias += gain * (conv.bias - norm.running_mean) + norm.bias
        volume = torch.randn(2, 6, 7, 8, 9)
        torch.testing.assert_close(decomposed(volume), dense(volume), atol=1e-5, rtol=1e-5)


def test_a_block_adds_to_the_halved_volume() -> None:
    made = encoder()
    first, second = made.encoder["s2"]
    volume = torch.randn(1, 6, 3, 4, 2)
    with torch.no_grad():
        halved = F.conv3d(F.max_pool3d(volume, 3, 2, 1), first.proj.weight)
        assert halved.shape == (1, 8, 2, 2, 1)
        one, _, _, three = first.mlp.mlp
        mixed = three(F.gelu(one(first.dwconv(halved).permute(0, 2, 3, 4, 1)))).permute(0, 4, 1, 2, 3)
        torch.testing.assert_close(first(volume), halved + 0.5 * mixed)
        second.scale.zero_()
        assert torch.equal(second(halved), halved)


def test_streams_and_their_order() -> None:
    made = encoder()
    assert (SMALL.patches, SMALL.low_tokens, SMALL.tokens) == ((2, 3, 4), 24, 4)
    volume = torch.rand(2, 1, 16, 24, 32)
    with torch.no_grad():
        seen = made(volume)
        (cls, _, _), patches = made.patch_features(volume)
    assert seen.tokens.shape == (2, SMALL.tokens, SMALL.hidden)
    assert seen.low.shape == (2, SMALL.low_tokens, SMALL.low_hidden)
    torch.testing.assert_close(seen.cls, seen.tokens.mean(dim=1))
    torch.testing.assert_close(cls, seen.cls)
    assert patches.shape == (2, 24, SMALL.patch_width)
    grid = patches.reshape(2, 2, 3, 4, 14)
    torch.testing.assert_close(grid[..., :6], seen.low.reshape(2, 2, 3, 4, 6))
    high = seen.tokens.reshape(2, 1, 2, 2, 8)  # depth, height, width
    torch.testing.assert_close(grid[:, 1, 0, 3, 6:], high[:, 0, 0, 1])
    torch.testing.assert_close(grid[:, 0, 2, 0, 6:], high[:, 0, 1, 0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_far_along_an_axis_is_seen_there(axis: int) -> None:
    """A change in the last eighth of an axis moves the low-level cells there most."""
    made = encoder(SMALL.model_copy(update={"grid": (64, 64, 64)}))
    volume = torch.rand(1, 1, 64, 64, 64)
    other = volume.clone()
    other.narrow(2 + axis, 56, 8).add_(1)
    with torch.no_grad():
        moved = (made(volume).low - made(other).low).abs().sum(dim=-1).reshape(8, 8, 8)
    along = moved.sum(dim=tuple(other for other in range(3) if other != axis))
    assert along.argmax() == 7
    assert along[0] < 1e-3 * along[7]


def test_frozen_it_keeps_its_statistics_when_what_is_built_on_it_is_trained() -> None:
    made = encoder()
    around = nn.Sequential(made)
    assert around.train()[0].training
    made.requires_grad_(False)
    around.train()
    assert around.training
    assert not any(module.training for module in made.modules())
    volume = torch.rand(2, 1, 16, 24, 32)
    torch.testing.assert_close(made(volume).low[:1], made(volume[:1]).low)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": (1,)}, "3 channels, 1 blocks and 2 kernels"),
        ({"channels": (4, 6), "blocks": (1,), "kernels": (3,)}, "two at least"),
        ({"kernels": (4, 3)}, "not all odd"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DCFormerSettings(**{**SMALL.model_dump(), **wrong})
