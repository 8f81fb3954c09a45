"""Med3DVLM's projector: published sizes and names, an oracle of plain loops."""

import math

import torch

from voxmoe.model.concatenation import Med3DVLMSettings, med3dvlm
from voxmoe.model.dcformer import DCFormer, DCFormerSettings
from voxmoe.model.mixer import DualStreamMixer, MixerLayer


def test_published_sizes_and_names() -> None:
    vision = DCFormerSettings()
    with torch.device("meta"):
        mixer = med3dvlm(Med3DVLMSettings(), vision, 3584).projection
        encoder = DCFormer(vision)
        assert mixer(torch.empty(3, 32, 768), torch.empty(3, 256, 384)).shape == (3, 256, 3584)
    shapes = {name: tuple(p.shape) for name, p in mixer.state_dict().items()}
    assert shapes["low_mixer.0.ln1.weight"] == (384,)
    assert shapes["low_mixer.0.mlp1.mm_projector.0.weight"] == (192, 256)
    assert shapes["low_mixer.0.mlp1.mm_projector.1.1.weight"] == (192, 192)
    assert shapes["low_mixer.0.mlp2.mm_projector.0.weight"] == (1792, 384)
    assert shapes["low_mixer.1.mlp1.mm_projector.0.weight"] == (128, 192)
    assert shapes["high_mixer.0.mlp1.mm_projector.0.weight"] == (64, 32)
    assert shapes["high_mixer.1.ln2.bias"] == (1792,)
    assert shapes["high_mixer.1.mlp2.mm_projector.1.1.weight"] == (3584, 3584)
    assert len(shapes) == 2 * 2 * 12
    # A public log of a run of the published model counts 7,718,599,872 parameters. Take away Qwen2.5-7B with a
    # vocabulary of 151,666 and 40,370,176 of adapters, and encoder and projector remain.
    qwen = 7_615_616_512 - 2 * (152_064 - 151_666) * 3584
    ours = sum(p.numel() for part in (encoder, mixer) for p in part.parameters())
    assert ours == 7_718_599_872 - qwen - 40_370_176


def test_a_layer_mixes_tokens_then_channels() -> None:
    """Number by number, with nothing but sums."""
    torch.manual_seed(0)
    layer = MixerLayer(3, 4, 2, 5, mlp_depth=2).double()
    for norm in (layer.ln1, layer.ln2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    tokens = torch.randn(1, 3, 4, dtype=torch.float64)

    def normed(row: list[float], norm: torch.nn.LayerNorm) -> list[float]:
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / len(row) + norm.eps)
        return [
            (value - mean) / deviation * weight + bias
            for value, weight, bias in zip(row, norm.weight.tolist(), norm.bias.tolist(), strict=True)
        ]

    def linear(row: list[float], one: torch.nn.Linear) -> list[float]:
        return [
            sum(weight * value for weight, value in zip(weights, row, strict=True)) + bias
            for weights, bias in zip(one.weight.tolist(), one.bias.tolist(), strict=True)
        ]

    def mlp(row: list[float], one: torch.nn.Module) -> list[float]:
        first, (_, second) = one.mm_projector
        gelu = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in linear(row, first)]
        return linear(gelu, second)

    rows = [normed(row, layer.ln1) for row in tokens[0].tolist()]
    columns = [mlp([row[channel] for row in rows], layer.mlp1) for channel in range(4)]
    mixed = [[columns[channel][token] for channel in range(4)] for token in range(2)]
    expected = [mlp(normed(row, layer.ln2), layer.mlp2) for row in mixed]
    torch.testing.assert_close(layer(tokens)[0], torch.tensor(expected, dtype=torch.float64))


def test_streams_stay_apart_and_follow_each_other() -> None:
    torch.manual_seed(0)
    mixer = DualStreamMixer((3, 4), (6, 5), high_tokens=(4, 2), low_tokens=(5, 3), out=8, mlp_depth=2)
    high, low = torch.randn(2, 3, 4), torch.randn(2, 6, 5)
    both = mixer(high, low)
    assert both.shape == (2, 5, 8)
    other = mixer(high + 1, low)
    assert torch.equal(both[:, :3], other[:, :3])
    assert (both[:, 3:] - mixer(high[[1, 0]], low)[:, 3:]).abs().amin() > 0
    assert torch.equal(mixer(high, low + torch.randn_like(low))[:, 3:], both[:, 3:])
