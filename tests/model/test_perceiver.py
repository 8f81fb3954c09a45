"""The Perceiver resampler: published sizes and names, an oracle written out, order of tokens."""

import torch
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.concatenation import RadFMSettings, radfm
from voxmoe.model.perceiver import PerceiverResampler

B, T, K, R = 2, 6, 12, 4


def resampler(layers: int = 2) -> PerceiverResampler:
    torch.manual_seed(0)
    made = PerceiverResampler(K, latents=R, layers=layers, heads=3, head_width=5, expansion=2)
    for name, parameter in made.named_parameters():
        if "norm" in name or name.endswith("1.0.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


def test_published_sizes_and_names() -> None:
    with torch.device("meta"):
        made = radfm(RadFMSettings(), 768, 5120).projection
    shapes = {name: tuple(p.shape) for name, p in made.state_dict().items()}
    assert shapes["perceiver.latents"] == (32, 768)
    assert shapes["perceiver.layers.5.0.to_kv.weight"] == (1024, 768)
    assert shapes["perceiver.layers.5.0.norm_media.bias"] == (768,)
    assert shapes["perceiver.layers.0.1.1.weight"] == (3072, 768)
    assert shapes["perceiver.layers.0.1.3.weight"] == (768, 3072)
    assert shapes["fc.weight"] == (5120, 768)
    assert len(shapes) == 1 + 6 * 11 + 2 + 2
    layer = 3 * 2 * 768 + 4 * 512 * 768 + 2 * 768 * 3072
    assert sum(p.numel() for p in made.perceiver.parameters()) == 32 * 768 + 6 * layer + 2 * 768


def test_latents_read_tokens_and_each_other() -> None:
    """One head after another, one latent after another."""
    made = resampler(layers=1)
    tokens = torch.randn(1, T, K)
    (attend, feed_forward) = made.layers[0]
    with torch.no_grad():
        latents = made.latents
        normed = attend.norm_latents(latents)
        read = torch.cat([attend.norm_media(tokens[0]), normed])
        keys, values = (read @ part.T for part in attend.to_kv.weight.split(15))
        rows = []
        for latent in normed:
            query = attend.to_q(latent)
            heads = []
            for head in range(3):
                part = slice(5 * head, 5 * head + 5)
                weights = torch.stack([query[part] @ key[part] for key in keys]).div(5**0.5).softmax(dim=0)
                heads.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
            rows.append(torch.cat(heads) @ attend.to_out.weight.T)
        latents = latents + torch.stack(rows)
        normed = F.layer_norm(latents, (K,), feed_forward[0].weight, feed_forward[0].bias)
        latents = latents + F.gelu(normed @ feed_forward[1].weight.T) @ feed_forward[3].weight.T
        torch.testing.assert_close(made(tokens)[0], made.norm(latents))


def test_the_order_of_the_tokens_does_not_matter() -> None:
    made = resampler()
    tokens = torch.randn(B, T, K)
    torch.testing.assert_close(made(tokens), made(tokens[:, torch.randperm(T)]))


def test_any_number_of_tokens_becomes_the_latents() -> None:
    made = resampler()
    assert made(torch.randn(B, 3, K)).shape == made(torch.randn(B, 50, K)).shape == (B, R, K)
