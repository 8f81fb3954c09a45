"""RadFM's projection: a Perceiver resampler that reads an image into a few learned latents, and one linear layer.

As published (arXiv 2308.02463): 32 latents, six layers of cross-attention with eight heads of 64 and a feed-forward of
four times the width, keys and values from the image's tokens and the latents together, no positions. Names of
parameters are those of its published weights.

This project's reading: what is read are the encoder's pooled tokens of one modality (`model.vision.pool: [1, 1, 1]`
gives all of them).

Shapes: B batch, T vision token, R latent, K vision width, O language-model width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class _Attention(nn.Module):
    """Latents look at the image's tokens and at each other."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: Float[Tensor, "B T K"], latents: Float[Tensor, "B R K"]) -> Float[Tensor, "B R K"]:
        latents = self.norm_latents(latents)
        read = torch.cat([self.norm_media(tokens), latents], dim=1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(latents), *self.to_kv(read).chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(attended)
        return out


def _feed_forward(width: int, expansion: int) -> nn.Sequential:
    inner = expansion * width
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
    )


class _Layer(nn.ModuleList):
    """Cross-attention and feed-forward, each added to the latents."""

    def __init__(self, width: int, heads: int, head_width: int, expansion: int) -> None:
        super().__init__([_Attention(width, heads, head_width), _feed_forward(width, expansion)])

    def forward(self, tokens: Float[Tensor, "B T K"], latents: Float[Tensor, "B R K"]) -> Float[Tensor, "B R K"]:
        attend, feed_forward = self
        latents = latents + attend(tokens, latents)
        out: Tensor = latents + feed_forward(latents)
        return out


class PerceiverResampler(nn.Module):
    """Any number of tokens [B, T, K] -> a fixed number of latents [B, R, K]; the tokens' order does not matter."""

    def __init__(self, width: int, latents: int, layers: int, heads: int, head_width: int, expansion: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(_Layer(width, heads, head_width, expansion) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "B T K"]) -> Float[Tensor, "B R K"]:
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(tokens, latents)
        out: Tensor = self.norm(latents)
        return out


class PerceiverProjection(nn.Module):
    """The resampler, then one linear layer to the language model's width."""

    def __init__(self, perceiver: PerceiverResampler, width: int, out: int) -> None:
        super().__init__()
        self.perceiver = perceiver
        self.fc = nn.Linear(width, out)

    def forward(self, tokens: Float[Tensor, "B T K"]) -> Float[Tensor, "B R O"]:
        projected: Tensor = self.fc(self.perceiver(tokens))
        return projected
