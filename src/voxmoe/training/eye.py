"""Dense pretraining of the vision encoder: every patch learns which labels it holds and how much of each.

The patches of all modalities at one place go through one linear map to the label fractions of that place. Left-right
flips and missing modalities are drawn anew for every sample. The linear map is thrown away; the encoder is frozen
after this.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import TrainingError
from voxmoe.imaging.grid import GriddedStudy
from voxmoe.model.encoder import Encoder
from voxmoe.training.recipe import EyeSettings

Sample = tuple[GriddedStudy, Float32[np.ndarray, "L D H W"]]


def drop_modalities(present: Bool[Tensor, "B M"], chance: float, generator: torch.Generator) -> Bool[Tensor, "B M"]:
    """Leave out each present modality with a chance; where all would go, the sample keeps what it has."""
    kept = present & (torch.rand(present.shape, generator=generator) >= chance)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)


class _Grounding(nn.Module):
    """The encoder with a linear map from all modalities' patches at one place to label fractions (logits)."""

    def __init__(self, encoder: Encoder, modalities: int, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(modalities * encoder.settings.patch_width, labels)

    def forward(self, images: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B L P"]:
        _, patches = self.encoder.patch_features(images[present][:, None])
        tokens = patches.new_zeros(*present.shape, *patches.shape[1:])
        tokens[present] = patches
        logits: Tensor = self.linear(tokens.permute(0, 2, 1, 3).flatten(2))
        return logits.transpose(1, 2)


def train_eye(
    encoder: Encoder,
    samples: Sequence[Sample],
    settings: EyeSettings,
    seed: int,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> list[float]:
    """Train the encoder in place; returns the loss of every step.

    Each sample is a study on the encoder's grid with its labels' fractions on the grid of patches.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(np.stack([study.images for study, _ in samples]))
    present = torch.from_numpy(np.stack([study.present for study, _ in samples]))
    fractions = torch.from_numpy(np.stack([fraction for _, fraction in samples]))
    model = _Grounding(encoder, images.shape[1], fractions.shape[1]).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.05)
    steps = settings.epochs * -(-len(samples) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=0.1)
    losses: list[float] = []
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(samples), generator=generator), settings.batch_size):
            flip = torch.rand((), generator=generator) < 0.5
            view, target = (part[rows].flip(-1) if flip else part[rows] for part in (images, fractions))
            logits = model(view, drop_modalities(present[rows], 0.15, generator))
            loss = F.binary_cross_entropy_with_logits(logits, target.flatten(2))
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
