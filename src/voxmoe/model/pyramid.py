"""An encoder for two CPU cores: a pyramid of 3D convolutions that finds, under a small transformer that relates.

The convolutions take the volume down by 16 in four stages; what is left becomes tokens, and attention among them and a
CLS token brings the whole volume into each. It needs about a hundredth of the multiplications of M3D-CLIP's ViT, and
unlike patches of 4 x 16 x 16 voxels its first stages see what is a few millimetres wide.

Shapes: B batch, C channel, D H W voxels of the model's grid (depth, height, width) or cells of a stage, S CLS and
tokens, T token (cell of the last stage), P patch (cell of the second stage), K width of the last stage, V width of what
is seen of a patch.
"""

from itertools import pairwise
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.convolution import Conv3d
from voxmoe.model.features import Encoded
from voxmoe.model.vision import Block, Triple
from voxmoe.model.weights import Pretrained

STEP = 16
"""Voxels of a token along each axis."""
_PATCH = 4
"""Voxels of a patch along each axis."""
GROUP = 8
"""Channels that are normalised together."""


class PyramidSettings(Pretrained):
    """Sizes of the encoder. On a brain the voxels of the default grid are about 2 mm wide."""

    kind: Literal["pyramid"] = "pyramid"
    grid: Triple = (64, 80, 64)
    channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (24, 48, 96, 192)
    """Of the four stages, whose cells are 2, 4, 8 and 16 voxels wide; multiples of 8."""
    layers: NonNegativeInt = 2
    """Of the transformer on the last stage's cells."""
    heads: PositiveInt = 3

    @model_validator(mode="after")
    def _divisible(self) -> "PyramidSettings":
        if any(size % STEP for size in self.grid):
            raise ValueError(f"grid {self.grid} is not a multiple of {STEP}")
        if any(width % GROUP for width in self.channels):
            raise ValueError(f"channels {self.channels} are not multiples of {GROUP}")
        if self.hidden % self.heads:
            raise ValueError(f"width {self.hidden} is not a multiple of heads {self.heads}")
        return self

    def _cells_of(self, step: int) -> Triple:
        depth, height, width = (size // step for size in self.grid)
        return depth, height, width

    @property
    def hidden(self) -> int:
        """Width of a token."""
        return self.channels[-1]

    @property
    def cells(self) -> Triple:
        """The grid of the tokens."""
        return self._cells_of(STEP)

    @property
    def tokens(self) -> int:
        """Vision tokens a modality, CLS not counted."""
        return prod(self.cells)

    @property
    def patches(self) -> Triple:
        """The grid on which the encoder is trained densely: the cells of the second stage."""
        return self._cells_of(_PATCH)

    @property
    def patch_width(self) -> int:
        """Width of what is seen of a patch: its cells in the second and third stage, and its token."""
        return sum(self.channels[1:])


class Residual(nn.Module):
    """Two convolutions, each on what is normalised in groups of channels, added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(width // GROUP, width), nn.GroupNorm(width // GROUP, width)
        self.conv1, self.conv2 = Conv3d(width, width, 3, padding=1), Conv3d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        inner = self.conv1(F.gelu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.gelu(self.norm2(inner)))
        return out


class PyramidEncoder(nn.Module):
    """Voxels [B, 1, D, H, W] in 0 to 1 -> the CLS token [B, K] and tokens [B, T, K] in the order depth, height,
    width."""

    landmark = "stages.0.0.weight"
    """The tensor by which the encoder is found in a file of weights."""

    def __init__(self, settings: PyramidSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = (1, *settings.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(Conv3d(before, after, 4 if before == 1 else 2, 2, int(before == 1)), Residual(after))
            for before, after in pairwise(widths)
        )
        self.position_embeddings = nn.Parameter(torch.zeros(1, settings.tokens, settings.hidden))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, settings.hidden))
        self.blocks = nn.ModuleList(
            Block(settings.hidden, settings.heads, 4 * settings.hidden) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.hidden)
        nn.init.trunc_normal_(self.position_embeddings, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def _relate(self, cells: Float[Tensor, "B K D H W"]) -> Float[Tensor, "B S K"]:
        """CLS and the tokens of all cells."""
        tokens = cells.flatten(2).transpose(1, 2) + self.position_embeddings
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        related: Tensor = self.norm(tokens)
        return related

    def see(self, x: Float[Tensor, "B 1 D H W"]) -> tuple[Encoded, list[Float[Tensor, "B ..."]]]:
        """What the encoder sees, and the cells of all stages, of the last as tokens which the transformer has
        related."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        related = self._relate(x)
        stages[-1] = related[:, 1:].transpose(1, 2).reshape(x.shape)
        return Encoded(related[:, 0], related[:, 1:]), stages

    def patch_features(self, x: Float[Tensor, "B 1 D H W"]) -> tuple[Encoded, Float[Tensor, "B P V"]]:
        """What the encoder sees, and for every patch its cell of the second stage and what covers it of the third and
        of the tokens."""
        seen, stages = self.see(x)
        fine = [F.interpolate(cells, self.settings.patches, mode="nearest") for cells in stages[1:]]
        return seen, torch.cat(fine, dim=1).flatten(2).transpose(1, 2)

    def forward(self, x: Float[Tensor, "B 1 D H W"]) -> Encoded:
        return self.see(x)[0]
