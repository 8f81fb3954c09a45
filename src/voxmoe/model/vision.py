"""The 3D vision transformer that sees one modality at a time (mpLLM, sections 3 and 4.2).

Names of parameters and order of patches are those of the published M3D-CLIP encoder, so that its weights fit key by
key. That takes tensors [B, 1, 32, 256, 256] in patches of 4 x 16 x 16: the axis that it calls height is our depth.

Shapes: B batch, C channel, D H W voxels of the model's grid (depth, height, width), P patch, T pooled token, K hidden
width.
"""

from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.features import Encoded
from voxmoe.model.weights import Pretrained

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


class VisionSettings(Pretrained):
    """Sizes of the encoder. Triples are depth, height, width in voxels of the model's grid; the defaults are
    M3D-CLIP's, whose weights are `GoodBaiBai88/M3D-CLIP` on the hub."""

    kind: Literal["vit"] = "vit"
    grid: Triple = (32, 256, 256)
    patch: Triple = (4, 16, 16)
    pool: Triple = (2, 2, 2)
    """How many patches along each axis are averaged into one token."""
    hidden: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    mlp: PositiveInt = 3072

    @model_validator(mode="after")
    def _divisible(self) -> "VisionSettings":
        for grid, patch, pool in zip(self.grid, self.patch, self.pool, strict=True):
            if grid % (patch * pool):
                raise ValueError(f"grid {self.grid} is not a multiple of patch {self.patch} times pool {self.pool}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        return self

    @property
    def patches(self) -> Triple:
        depth, height, width = (grid // patch for grid, patch in zip(self.grid, self.patch, strict=True))
        return depth, height, width

    @property
    def cells(self) -> Triple:
        """The grid of the tokens."""
        depth, height, width = (patches // pool for patches, pool in zip(self.patches, self.pool, strict=True))
        return depth, height, width

    @property
    def patch_width(self) -> int:
        """Width of what is seen of a patch."""
        return self.hidden

    @property
    def tokens(self) -> int:
        """Vision tokens a modality after pooling, CLS not counted."""
        return prod(self.cells)


class _Patchify(nn.Module):
    def __init__(self, patch: Triple) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B P V"]:
        batch, channels, *grid = x.shape
        (d, p), (h, q), (w, r) = ((size // step, step) for size, step in zip(grid, self.patch, strict=True))
        cells = x.reshape(batch, channels, d, p, h, q, w, r)
        return cells.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, d * h * w, p * q * r * channels)


class _PatchEmbedding(nn.Module):
    def __init__(self, settings: VisionSettings) -> None:
        super().__init__()
        self.patch_embeddings = nn.Sequential(
            _Patchify(settings.patch), nn.Linear(prod(settings.patch), settings.hidden)
        )
        self.position_embeddings = nn.Parameter(torch.zeros(1, prod(settings.patches), settings.hidden))

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B P K"]:
        embedded: Tensor = self.patch_embeddings(x)
        return embedded + self.position_embeddings


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B S K"]) -> Float[Tensor, "B S K"]:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        projected: Tensor = self.out_proj(attended)
        return projected


class _MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "B S K"]) -> Float[Tensor, "B S K"]:
        out: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return out


class Block(nn.Module):
    """Attention among all tokens, then an MLP on each, both added to what comes in."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _MLP(width, inner)

    def forward(self, x: Float[Tensor, "B S K"]) -> Float[Tensor, "B S K"]:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionEncoder(nn.Module):
    """Voxels [B, 1, D, H, W] in 0 to 1 -> the CLS token [B, K] and pooled tokens [B, T, K] in the order depth,
    height, width."""

    landmark = "patch_embedding.position_embeddings"
    """The tensor by which the encoder is found in a file of weights."""

    def __init__(self, settings: VisionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.patch_embedding = _PatchEmbedding(settings)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, settings.hidden))
        self.blocks = nn.ModuleList(
            Block(settings.hidden, settings.heads, settings.mlp) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.hidden)
        nn.init.trunc_normal_(self.patch_embedding.position_embeddings, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def patch_features(self, x: Float[Tensor, "B C D H W"]) -> tuple[Encoded, Float[Tensor, "B P K"]]:
        """What the encoder sees, and the token of every patch before pooling."""
        x = self.patch_embedding(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return Encoded(x[:, 0], self.pool(x[:, 1:])), x[:, 1:]

    def pool(self, patches: Float[Tensor, "B P K"]) -> Float[Tensor, "B T K"]:
        """Average neighbouring patches into one token each (the spatial pooling of M3D)."""
        batch, _, width = patches.shape
        cells = patches.transpose(1, 2).reshape(batch, width, *self.settings.patches)
        return F.avg_pool3d(cells, self.settings.pool).flatten(2).transpose(1, 2)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Encoded:
        return self.patch_features(x)[0]
