"""Dense pretraining of the vision encoder: what it sees tells which labels are where, and how much of each.

On the masks of a dataset, the features of all modalities at one place go through one linear map to the label fractions
of that place: those of patches, and those of tokens, which are what the language model will read and so tell of the
whole volume, too. On phantoms, whose parts are known voxel by voxel, a decoder takes the place of the patches' map, and
is kept. Left-right flips are drawn anew for every batch, missing modalities for every sample. The linear maps are
thrown away; the encoder is frozen after this.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import TrainingError
from voxmoe.imaging.parts import Part
from voxmoe.model.coarse_map import graded
from voxmoe.model.encoder import Encoder, EncoderSettings
from voxmoe.model.features import spread
from voxmoe.model.grounding import Grounding, grounding_loss
from voxmoe.model.pyramid import PyramidEncoder
from voxmoe.training.recipe import DenseSettings, EyeSettings
from voxmoe.vocabulary import Modality

RISE = 0.1001
"""Share of the steps in which the learning rate rises; with 0.1, OneCycleLR would divide by zero at ten steps."""
_WEIGHT_DECAY = 0.05


@dataclass(frozen=True, eq=False)
class Sample:
    """A study on the encoder's grid, which modalities it has, and the fractions of its labels (or of parts) on the grid
    of patches (or of voxels)."""

    images: Float[Tensor, "M D H W"]
    present: Bool[Tensor, " M"]
    fractions: Float[Tensor, "L d h w"]


def drop_modalities(present: Bool[Tensor, "B M"], chance: float, generator: torch.Generator) -> Bool[Tensor, "B M"]:
    """Leave out each present modality with a chance; where all would go, the sample keeps what it has."""
    kept = present & (torch.rand(present.shape, generator=generator) >= chance)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)


class _Probe(nn.Module):
    """One linear map from what is seen of all modalities at a place to logits; zeros for those that are missing."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(len(Modality) * width, out)

    def forward(self, seen: Float[Tensor, "V S K"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B L S"]:
        logits: Tensor = self.linear(spread(seen, present).permute(0, 2, 1, 3).flatten(2))
        return logits.transpose(1, 2)


class _TokenProbe(nn.Module):
    """Each token tells the label fractions of its cell, and of the whole volume, as `graded`."""

    def __init__(self, vision: EncoderSettings, labels: int) -> None:
        super().__init__()
        self.cells = vision.cells
        self.probe = _Probe(vision.hidden, 2 * labels)

    def loss(
        self, tokens: Float[Tensor, "V T K"], present: Bool[Tensor, "B M"], truth: Float[Tensor, "B L d h w"]
    ) -> Float[Tensor, ""]:
        cells = F.adaptive_avg_pool3d(truth, self.cells)
        whole = cells.mean(dim=(2, 3, 4), keepdim=True).expand_as(cells)
        logits = self.probe(tokens, present)
        return F.binary_cross_entropy_with_logits(logits, graded(torch.cat([cells, whole], dim=1).flatten(2)))


class LinearSight(nn.Module):
    """An encoder that is trained through linear maps from its patches and tokens to label fractions."""

    def __init__(self, encoder: Encoder, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.patches = _Probe(encoder.settings.patch_width, labels)
        self.tokens = _TokenProbe(encoder.settings, labels)

    def loss(
        self, view: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"], truth: Float[Tensor, "B L d h w"]
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy with the fractions of patches and of tokens."""
        seen, patches = self.encoder.patch_features(view[present][:, None])
        fine = F.binary_cross_entropy_with_logits(self.patches(patches, present), truth.flatten(2))
        return fine + self.tokens.loss(seen.tokens, present, truth)


class GroundedSight(nn.Module):
    """A pyramid that is trained through a decoder, and linear maps from its tokens, to the parts of lesions."""

    def __init__(self, encoder: PyramidEncoder, grounding: Grounding) -> None:
        super().__init__()
        self.encoder, self.grounding = encoder, grounding
        self.tokens = _TokenProbe(encoder.settings, len(Part))

    def loss(
        self, view: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"], truth: Float[Tensor, "B P D H W"]
    ) -> Float[Tensor, ""]:
        """The decoder's loss, and binary cross-entropy with the fractions of tokens."""
        seen, stages = self.encoder.see(view[present][:, None])
        fine = grounding_loss(self.grounding(stages, present), truth)
        return fine + self.tokens.loss(seen.tokens, present, truth)


class Trainer:
    """Optimises a sight step by step, with a learning rate that rises and falls once."""

    def __init__(self, model: LinearSight | GroundedSight, settings: DenseSettings, steps: int) -> None:
        self.model = model.train()
        self.bf16 = settings.bf16
        self.dropout = settings.modality_dropout
        self.device = next(model.parameters()).device
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, settings.learning_rate, steps, pct_start=RISE
        )
        self.done = 0

    def go_on_from(self, step: int) -> None:
        """Bring the learning rate to where a run has left it, whose weights and optimiser are put back by others."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the schedule moves before the optimiser does
            for _ in range(step):
                self.schedule.step()
        self.done = step

    def step(self, samples: Sequence[Sample], generator: torch.Generator) -> float:
        """Learn from a batch, flipped or not and with modalities left out as the generator has it; returns the loss.

        Raises `TrainingError` if it is not finite.
        """
        view, target = torch.stack([one.images for one in samples]), torch.stack([one.fractions for one in samples])
        if torch.rand((), generator=generator) < 0.5:
            view, target = view.flip(-1), target.flip(-1)
        present = drop_modalities(torch.stack([one.present for one in samples]), self.dropout, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.model.loss(view.to(self.device), present.to(self.device), target.to(self.device))
        if not torch.isfinite(loss):
            raise TrainingError(f"the eye's loss became {loss.item()} at step {self.done}; lower its learning_rate")
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.done += 1
        return loss.item()


def _epochs(samples: Sequence[Sample], settings: EyeSettings, generator: torch.Generator) -> Iterator[list[Sample]]:
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(samples), generator=generator), settings.batch_size):
            yield [samples[int(row)] for row in rows]


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
    steps = settings.epochs * -(-len(samples) // settings.batch_size)
    with torch.random.fork_rng(devices=[]):  # what was drawn before, for other parts of a model, must not count
        torch.manual_seed(seed)
        sight = LinearSight(encoder, len(samples[0].fractions))
    trainer = Trainer(sight.to(device), settings, steps)
    losses: list[float] = []
    for batch in _epochs(samples, settings, generator):
        losses.append(trainer.step(batch, generator))
        progress(len(losses), steps, losses[-1])
    encoder.requires_grad_(False).eval()
    return losses
