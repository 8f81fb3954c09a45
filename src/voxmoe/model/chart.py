"""What the decoder finds, as the language model reads it: a chart of the parts of lesions, token by token.

The tokens of the encoder see one modality each; what only their comparison tells, such as a rim that enhances, the
decoder has found already (`voxmoe.model.grounding`). A chart keeps of it how much each part fills of cells of 4 voxels,
which a small network adds to the vision token that covers them; another makes one more token of the whole chart. This
is the project's own: mpLLM has no decoder.

Shapes: B batch, Q no part and all parts, P part, D H W voxels of the model's grid, T vision token, F cells of a token
for each part, S vision token in the language model's sequence, O language-model width.
"""

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.imaging.parts import Part
from voxmoe.model.features import Fused
from voxmoe.model.pyramid import STEP
from voxmoe.settings import Settings

_CELL = 4
"""Voxels of a cell along each axis."""
_CELLS = (STEP // _CELL) ** 3
"""Cells of a token."""
_LEAST = 1e-5
"""Share of the grid that is told from nothing; one voxel of the default grid is 3e-6."""


class ChartSettings(Settings):
    """How the chart is read."""

    hidden: PositiveInt = 256
    """Width of the networks that read it."""


def chart_of(parts: Float[Tensor, "B Q D H W"]) -> Float[Tensor, "B T F"]:
    """How much of each cell is filled by each part, those of a token side by side: parts first, then cells, both in the
    order depth, height, width."""
    cells, along = F.avg_pool3d(parts[:, 1:], _CELL), STEP // _CELL
    depth, height, width = (size // along for size in cells.shape[2:])
    split = cells.reshape(len(cells), len(Part), depth, along, height, along, width, along)
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)


class ChartReader(nn.Module):
    """Adds the chart's cells to the vision tokens that cover them, and puts a token of the whole chart before them."""

    def __init__(self, settings: ChartSettings, tokens: int, out: int) -> None:
        super().__init__()
        self.places = _network(len(Part) * _CELLS, settings.hidden, out)
        self.whole = _network(len(Part) * (tokens + 1), settings.hidden, out)

    def forward(self, chart: Float[Tensor, "B T F"], fused: Fused) -> Fused:
        # Roots, and a logarithm for the sum, because what is small counts too: volumes span four orders of magnitude.
        filled = chart.view(*chart.shape[:2], len(Part), _CELLS).mean(dim=3)
        amount = (filled.mean(dim=1) + _LEAST).log10() / 5 + 1
        whole = self.whole(torch.cat([filled.sqrt().flatten(1), amount], dim=1))
        tokens = torch.cat([whole[:, None], fused.tokens + self.places(chart.sqrt())], dim=1)
        return Fused(tokens, torch.cat([fused.mask[:, :1], fused.mask], dim=1), fused.weights)


def _network(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
