"""Med3DVLM's projector: an MLP-mixer for each of two streams, low-level and high-level, whose tokens then follow each
other.

As published (arXiv 2503.20047): a layer normalises, mixes the tokens by an MLP that also changes their number,
normalises again and mixes the channels by an MLP that also changes their width; nothing is added around it. Two layers
a stream bring 256 low-level tokens of 384 channels to 192 and then 128, and 32 high-level tokens of 768 to 64 and then
128, while the width goes to half the language model's and then to all of it: 256 tokens a modality. Names of
parameters are those of the published weights.

Shapes: B batch, T token, U low-level token, S token after mixing, K L width of the streams, O language-model width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class _MLP(nn.Module):
    """Linear layers with GELU between them; the first changes the width."""

    def __init__(self, width: int, out: int, depth: int) -> None:
        super().__init__()
        deeper = (nn.Sequential(nn.GELU(), nn.Linear(out, out)) for _ in range(depth - 1))
        self.mm_projector = nn.Sequential(nn.Linear(width, out), *deeper)

    def forward(self, x: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows J"]:
        out: Tensor = self.mm_projector(x)
        return out


class MixerLayer(nn.Module):
    """Tokens [B, T, K] -> [B, S, O]: the tokens are mixed, then the channels."""

    def __init__(self, tokens: int, width: int, out_tokens: int, out: int, mlp_depth: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.mlp1 = _MLP(tokens, out_tokens, mlp_depth)
        self.mlp2 = _MLP(width, out, mlp_depth)

    def forward(self, x: Float[Tensor, "B T K"]) -> Float[Tensor, "B S O"]:
        mixed = self.mlp1(self.ln1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.mlp2(self.ln2(mixed))
        return out


def _mixer(tokens: int, width: int, out_tokens: Sequence[int], out: int, mlp_depth: int) -> nn.ModuleList:
    """Layers whose width doubles up to `out`."""
    widths = [out // 2 ** (len(out_tokens) - 1 - layer) for layer in range(len(out_tokens))]
    return nn.ModuleList(
        MixerLayer(*sizes, mlp_depth)
        for sizes in zip((tokens, *out_tokens), (width, *widths), out_tokens, widths, strict=False)
    )


class DualStreamMixer(nn.Module):
    """High-level tokens [B, T, K] and low-level tokens [B, U, L] -> one sequence [B, S, O], the low-level ones
    first."""

    def __init__(
        self,
        high: tuple[int, int],
        low: tuple[int, int],
        high_tokens: Sequence[int],
        low_tokens: Sequence[int],
        out: int,
        mlp_depth: int,
    ) -> None:
        """`high` and `low` are number and width of the streams' tokens, `high_tokens` and `low_tokens` their number
        after every layer."""
        super().__init__()
        self.low_mixer = _mixer(*low, low_tokens, out, mlp_depth)
        self.high_mixer = _mixer(*high, high_tokens, out, mlp_depth)

    def forward(self, high: Float[Tensor, "B T K"], low: Float[Tensor, "B U L"]) -> Float[Tensor, "B S O"]:
        for layer in self.low_mixer:
            low = layer(low)
        for layer in self.high_mixer:
            high = layer(high)
        return torch.cat([low, high], dim=1)
