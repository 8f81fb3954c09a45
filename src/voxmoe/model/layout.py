"""Where the tokens of a prompt with a volume stand, and which of them see one another both ways, as each family has it.

In most families all tokens stand one after the other and see what came before. Gemma 3 lets the tokens of a picture see
one another, here those of a slice (of a group of averaged ones). PaliGemma lets all of a prompt do so. Qwen2.5-VL gives
a picture's tokens places of their own along depth, height and width; a volume's slices follow one another in depth, and
the text goes on after the farthest place. With one slice that is the family's layout of a picture.

Shapes: B prompt, P prefix token, G group of slices, T token of a group, Q prompt token, R token that follows, S token
of all, X axis (1, or 3: depth, height, width), O width of the language model.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Mutual = Literal["nothing", "slices", "prompts"]
"""Whose tokens see one another both ways."""
_CAUSAL = -1


@dataclass(frozen=True)
class Layout:
    """The tokens so far, those that are not there included."""

    mask: Int[Tensor, "B S"]
    positions: Int[Tensor, "X B S"]
    shift: Int[Tensor, " B"]
    """How much farther text stands behind the volume than the number of tokens before it."""
    blocks: Int[Tensor, "B S"] | None
    """Tokens of one number see one another both ways, those of -1 what came before; None: all of them do that."""

    def followed_by(self, mask: Int[Tensor, "B R"]) -> "Layout":
        """With more text behind."""
        counted = self.mask.sum(dim=1, keepdim=True) + mask.cumsum(dim=1) - 1
        places = (counted + self.shift[:, None]).clamp(min=0)
        return Layout(
            torch.cat([self.mask, mask], dim=1),
            torch.cat([self.positions, places.expand(len(self.positions), -1, -1)], dim=2),
            self.shift,
            None if self.blocks is None else F.pad(self.blocks, (0, mask.shape[1]), value=_CAUSAL),
        )

    def of(self, rows: Int[Tensor, " W"]) -> "Layout":
        """The layouts of these prompts."""
        blocks = None if self.blocks is None else self.blocks[rows]
        return Layout(self.mask[rows], self.positions[:, rows], self.shift[rows], blocks)


def _text(mask: Int[Tensor, "B S"], axes: int, mutual: Mutual) -> Layout:
    places = (mask.cumsum(dim=1) - 1).clamp(min=0).expand(axes, -1, -1)
    blocks = torch.full_like(mask, _CAUSAL) if mutual == "slices" else None
    return Layout(mask, places, mask.new_zeros(len(mask)), blocks)


def _placed(layout: Layout, prefix: int, present: Bool[Tensor, "B G"], side: int) -> Layout:
    """With each token of a volume behind a prefix at its own depth, height and width, of which slices have `side`."""
    grid = torch.stack(torch.meshgrid(*map(torch.arange, (present.shape[1], side, side)), indexing="ij")).flatten(1)
    positions = layout.positions.clone()
    positions[:, :, prefix:] = prefix + grid.to(positions)[:, None]
    slices = present.sum(dim=1)
    return replace(layout, positions=positions, shift=(slices.clamp(min=side) - slices * side**2).to(layout.shift))


def lay_out(
    prefix_mask: Int[Tensor, "B P"],
    prompt_mask: Int[Tensor, "B Q"],
    present: Bool[Tensor, "B G"] | None,
    tokens: int,
    mutual: Mutual = "nothing",
    placed: bool = False,
) -> Layout:
    """A prefix, a volume and the rest of a prompt; without a volume where `present` is None.

    Groups of slices have so many `tokens` each, and the last groups can be missing. `placed` gives each token, of which
    there are as many rows as columns, a place along three axes.
    """
    axes = 3 if placed else 1
    if present is None:
        layout = _text(prefix_mask, axes, mutual)
    else:
        there = present.repeat_interleave(tokens, dim=1).to(prefix_mask)
        layout = _text(torch.cat([prefix_mask, there], dim=1), axes, mutual)
        prefix = prefix_mask.shape[1]
        if placed:
            layout = _placed(layout, prefix, present, isqrt(tokens))
        if layout.blocks is not None:
            layout.blocks[:, prefix:] = torch.arange(present.shape[1]).repeat_interleave(tokens).to(there)
    layout = layout.followed_by(prompt_mask)
    if mutual == "prompts":
        layout = replace(layout, blocks=torch.zeros_like(layout.mask))
    return layout


def gathered(layout: Layout, embeds: Float[Tensor, "B S O"]) -> tuple[Layout, Float[Tensor, "B S O"]]:
    """With what is not there in front of all else, so that a window of so many tokens holds so many that are there."""
    order = layout.mask.argsort(dim=1, stable=True)
    blocks = None if layout.blocks is None else layout.blocks.gather(1, order)
    return (
        Layout(
            layout.mask.gather(1, order),
            layout.positions.gather(2, order.expand_as(layout.positions)),
            layout.shift,
            blocks,
        ),
        embeds.gather(1, order[:, :, None].expand_as(embeds)),
    )
