"""DCFormer, the encoder of Med3DVLM: a pyramid of stages whose 3D convolutions are decomposed into three 1D ones.

As published (arXiv 2502.05091, 2503.20047): a decomposed convolution is the sum of one convolution along each axis,
each with its own batch normalisation, so that k^3 weights become 3k. The stem takes the volume down by 4; every stage
after it halves the grid by max-pooling and widens the channels, then adds blocks of a depthwise decomposed convolution
and a pointwise MLP. The defaults are those of the encoder of Med3DVLM ("small"), and names of parameters and order of
axes are those of its published weights, which fit key by key.

This project's reading: the last stage's cells are the tokens, the last but one's the low-level stream, and their
counterpart of a CLS token is the mean of the tokens, which the published contrastive head reads.

Shapes: B batch, D H W voxels of the model's grid or cells of a stage, T token (cell of the last stage), U low-level
token (cell of the stage before), K width of the last stage, L width of the stage before, C channel.
"""

from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.convolution import Conv3d
from voxmoe.model.features import Encoded
from voxmoe.model.weights import Pretrained

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


class DCFormerSettings(Pretrained):
    """Sizes of the encoder. Triples are depth, height, width."""

    kind: Literal["dcformer"] = "dcformer"
    grid: Triple = (128, 256, 256)
    channels: tuple[PositiveInt, ...] = (64, 96, 192, 384, 768)
    """Of the stem and of every stage after it."""
    blocks: tuple[PositiveInt, ...] = (2, 3, 6, 2)
    """Of every stage after the stem."""
    kernels: tuple[PositiveInt, ...] = (13, 11, 9, 7)
    """Length of the convolutions in every stage after the stem."""
    expansion: PositiveInt = 4
    """How much wider the inner layer of a block's MLP is."""
    layer_scale: PositiveFloat = 1e-6
    """What the blocks' outputs are multiplied by at first."""

    @model_validator(mode="after")
    def _consistent(self) -> "DCFormerSettings":
        stages = len(self.channels) - 1
        if stages < 2 or len(self.blocks) != stages or len(self.kernels) != stages:
            raise ValueError(
                f"{len(self.channels)} channels, {len(self.blocks)} blocks and {len(self.kernels)} kernels: blocks and "
                "kernels are given for every stage, of which there are two at least; channels also for the stem"
            )
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels {self.kernels} are not all odd")
        return self

    def _cells_of(self, stage: int) -> Triple:
        """Cells of a stage; the stem is stage 0."""
        step = 4 * 2**stage
        depth, height, width = (-(-size // step) for size in self.grid)
        return depth, height, width

    @property
    def hidden(self) -> int:
        """Width of a token."""
        return self.channels[-1]

    @property
    def cells(self) -> Triple:
        """The grid of the tokens."""
        return self._cells_of(len(self.blocks))

    @property
    def tokens(self) -> int:
        """Vision tokens a modality."""
        return prod(self.cells)

    @property
    def low_hidden(self) -> int:
        """Width of a low-level token."""
        return self.channels[-2]

    @property
    def low_tokens(self) -> int:
        """Low-level tokens a modality."""
        return prod(self.patches)

    @property
    def patches(self) -> Triple:
        """The grid on which the encoder is trained densely: the cells of the low-level stream."""
        return self._cells_of(len(self.blocks) - 1)

    @property
    def patch_width(self) -> int:
        """Width of what is seen of a patch: both streams."""
        return self.low_hidden + self.hidden


class DecomposedConv(nn.Module):
    """The sum of three convolutions, one along each axis, each normalised over the batch."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()

        def conv(*size: int) -> nn.Sequential:
            a, b, c = size
            padding = (a // 2, b // 2, c // 2)
            return nn.Sequential(Conv3d(channels, out, (a, b, c), stride, padding, groups=groups), nn.BatchNorm3d(out))

        self.c1, self.c2, self.c3 = conv(kernel, 1, 1), conv(1, kernel, 1), conv(1, 1, kernel)

    def forward(self, x: Float[Tensor, "B C H W D"]) -> Float[Tensor, "B C2 H2 W2 D2"]:
        summed: Tensor = self.c1(x) + self.c2(x) + self.c3(x)
        return summed


class _StemConv(DecomposedConv):
    """A decomposed convolution and GELU."""

    def forward(self, x: Float[Tensor, "B C H W D"]) -> Float[Tensor, "B C2 H2 W2 D2"]:
        return F.gelu(super().forward(x))


class _MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        # Layer 2 is a dropout of 0 in the published model: it keeps the number of layer 3.
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, width))

    def forward(self, x: Float[Tensor, "*cells C"]) -> Float[Tensor, "*cells C"]:
        out: Tensor = self.mlp(x)
        return out


class _Block(nn.Module):
    """Spatial mixing by a depthwise decomposed convolution, channel mixing by an MLP, added to what comes in.

    The first block of a stage first halves the grid and changes the channels.
    """

    def __init__(self, channels: int | None, width: int, kernel: int, settings: DCFormerSettings) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, 1, bias=False) if channels is not None else None
        self.dwconv = DecomposedConv(width, width, kernel, groups=width)
        self.mlp = _MLP(width, settings.expansion * width)
        self.scale = nn.Parameter(torch.full((width,), settings.layer_scale))

    def forward(self, x: Float[Tensor, "B C H W D"]) -> Float[Tensor, "B C2 H2 W2 D2"]:
        if self.proj is not None:
            x = self.proj(F.max_pool3d(x, 3, 2, 1))
        mixed = self.scale * self.mlp(self.dwconv(x).movedim(1, -1))
        out: Tensor = x + mixed.movedim(-1, 1)
        return out


def _stage(channels: int, width: int, blocks: int, kernel: int, settings: DCFormerSettings) -> nn.Sequential:
    return nn.Sequential(
        *(_Block(channels if number == 0 else None, width, kernel, settings) for number in range(blocks))
    )


class DCFormer(nn.Module):
    """Voxels [B, 1, D, H, W] in 0 to 1 -> global token, tokens and low-level tokens in the order depth, height,
    width."""

    landmark = "encoder.s0.0.0.c1.0.weight"
    """The tensor by which the encoder is found in a file of weights."""

    def __init__(self, settings: DCFormerSettings) -> None:
        super().__init__()
        self.settings = settings
        first = settings.channels[0]
        stem = nn.Sequential(_StemConv(1, first, 7, stride=4), *(_StemConv(first, first, 3) for _ in range(3)))
        stages = [
            _stage(channels, width, blocks, kernel, settings)
            for channels, width, blocks, kernel in zip(
                settings.channels, settings.channels[1:], settings.blocks, settings.kernels, strict=False
            )
        ]
        self.encoder = nn.ModuleDict(
            {f"s{number}": stage for number, stage in enumerate((nn.Sequential(stem), *stages))}
        )

    def train(self, mode: bool = True) -> "DCFormer":
        """Frozen, it keeps the statistics of its batch normalisations, also while what is built on it is trained."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def _streams(
        self, x: Float[Tensor, "B 1 D H W"]
    ) -> tuple[Float[Tensor, "B L D1 H1 W1"], Float[Tensor, "B K D2 H2 W2"]]:
        """The last two stages: low and high."""
        x = x.permute(0, 1, 3, 4, 2)  # the published weights have the depth last
        last = [x, x]
        for stage in self.encoder.values():
            last = [last[1], stage(last[1])]
        low, high = (cells.permute(0, 1, 4, 2, 3) for cells in last)
        return low, high

    def patch_features(self, x: Float[Tensor, "B 1 D H W"]) -> tuple[Encoded, Float[Tensor, "B U LK"]]:
        """What the encoder sees, and for every cell of the low-level stream that cell and the cell of the last stage
        that covers it."""
        low, high = self._streams(x)
        covering = F.interpolate(high, low.shape[2:], mode="nearest")
        return _encoded(low, high), _sequence(torch.cat([low, covering], dim=1))

    def forward(self, x: Float[Tensor, "B 1 D H W"]) -> Encoded:
        return _encoded(*self._streams(x))


def _encoded(low: Float[Tensor, "B L D1 H1 W1"], high: Float[Tensor, "B K D2 H2 W2"]) -> Encoded:
    return Encoded(high.mean(dim=(2, 3, 4)), _sequence(high), _sequence(low))


def _sequence(cells: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B S C"]:
    return cells.flatten(2).transpose(1, 2)
