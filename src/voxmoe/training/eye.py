"""Dense pretraining of the vision encoder: what it sees tells which labels are where, and how much of each.

The features of all modalities at one place go through one linear map to the label fractions of that place: those of
patches, and those of tokens, which are what the language model will read and so tell of the whole volume, too.
Left-right flips and missing modalities are drawn anew for every sample. The linear maps are thrown away; the encoder is
frozen after this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import TrainingError
from voxmoe.model.encoder import Encoder
from voxmoe.model.features import spread
from voxmoe.training.recipe import EyeSettings

_RISE = 0.1001
"""Share of the steps in which the learning rate rises; with 0.1, OneCycleLR would divide by zero at ten steps."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A study on the encoder's grid, which modalities it has, and its labels' fractions on the grid of patches."""

    images: Float[Tensor, "M D H W"]
    present: Bool[Tensor, " M"]
    fractions: Float[Tensor, "L d h w"]


def drop_modalities(present: Bool[Tensor, "B M"], chance: float, generator: torch.Generator) -> Bool[Tensor, "B M"]:
    """Leave out each present modality with a chance; where all would go, the sample keeps what it has."""
    kept = present & (torch.rand(present.shape, generator=generator) >= chance)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)


class _Grounding(nn.Module):
    """The encoder with linear maps from all modalities to label fractions, as logits: of each patch; of each token's
    cell and, from each token, of the whole volume."""

    def __init__(self, encoder: Encoder, modalities: int, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.fine = nn.Linear(modalities * encoder.settings.patch_width, labels)
        self.coarse = nn.Linear(modalities * encoder.settings.hidden, 2 * labels)

    def forward(
        self, images: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "B L P"], Float[Tensor, "B LL T"]]:
        seen, patches = self.encoder.patch_features(images[present][:, None])
        return _together(self.fine, patches, present), _together(self.coarse, seen.tokens, present)

    def loss(
        self, view: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"], truth: Float[Tensor, "B L d h w"]
    ) -> Tensor:
        """Binary cross-entropy with the fractions of patches and of tokens."""
        fine, coarse = self(view, present)
        cells = F.adaptive_avg_pool3d(truth, self.encoder.settings.cells)
        whole = cells.mean(dim=(2, 3, 4), keepdim=True).expand_as(cells)
        targets = torch.cat([cells, whole], dim=1).flatten(2)
        return F.binary_cross_entropy_with_logits(fine, truth.flatten(2)) + F.binary_cross_entropy_with_logits(
            coarse, targets
        )


def _together(linear: nn.Linear, seen: Float[Tensor, "V S K"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B L S"]:
    """A linear map on what is seen of all modalities at one place; of those that are missing, zeros."""
    logits: Tensor = linear(spread(seen, present).permute(0, 2, 1, 3).flatten(2))
    return logits.transpose(1, 2)


def train_eye(
    encoder: Encoder,
    samples: Sequence[Sample],
    settings: EyeSettings,
    seed: int,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> list[float]:
    """Train the encoder in place, on the device where it is; returns the loss of every step."""
    device = next(encoder.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    modalities, labels = len(samples[0].present), len(samples[0].fractions)
    model = _Grounding(encoder, modalities, labels).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.05, fused=True)
    steps = settings.epochs * -(-len(samples) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=_RISE)
    losses: list[float] = []
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(samples), generator=generator), settings.batch_size):
            batch = [samples[int(row)] for row in rows]
            view, target = (
                torch.stack(part) for part in ([one.images for one in batch], [one.fractions for one in batch])
            )
            if torch.rand((), generator=generator) < 0.5:
                view, target = view.flip(-1), target.flip(-1)
            present = drop_modalities(torch.stack([one.present for one in batch]), 0.15, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                loss = model.loss(view.to(device), present.to(device), target.to(device))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the eye's loss became {loss.item()} at step {len(losses)}; lower eye.learning_rate"
                )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            progress(len(losses), steps, losses[-1])
    encoder.requires_grad_(False).eval()
    return losses
