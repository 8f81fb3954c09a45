"""Where the lesions are: a decoder from what the pyramid sees of all modalities to parts of lesions, voxel by voxel.

The cells of each stage are fused over the modalities by one linear map, in which those present stand in for those
missing; from the coarsest up, each stage's cells are added to what comes from below. It tells parts (`Part`), which
every profile's labels are made of, so one decoder serves all profiles.

Shapes: B batch, M modality, V volume (a modality of a study), C channel, D H W voxels of the model's grid, d h w cells
of a stage, T token, P part, Q = P + 1 with what is none first.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import LabelError, WeightsError
from voxmoe.imaging.parts import PART_KEYS, Part, part_labels
from voxmoe.model.features import Encoded, spread
from voxmoe.model.pyramid import GROUP, PyramidEncoder, PyramidSettings, Residual
from voxmoe.model.weights import Pretrained, digest, find_weights, load_module
from voxmoe.vocabulary import Modality, Profile


class GroundingSettings(Pretrained):
    """Sizes of the decoder, and the weights that it starts from: those of the encoder it was trained with."""

    channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 48, 96, 128)
    """Of the fused cells of the encoder's four stages, the finest first; multiples of 8."""

    @model_validator(mode="after")
    def _divisible(self) -> "GroundingSettings":
        if any(width % GROUP for width in self.channels):
            raise ValueError(f"channels {self.channels} are not multiples of {GROUP}")
        return self


class _Fuse(nn.Module):
    """One linear map on the cells of all modalities; scaled up where some are missing."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Conv3d(len(Modality) * width, out, 1)

    def forward(self, cells: Float[Tensor, "V C d h w"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B K d h w"]:
        scale = (present.shape[1] / present.sum(dim=1)).repeat_interleave(present.sum(dim=1))
        fused: Tensor = self.linear(
            spread(cells * scale.to(cells.dtype)[:, None, None, None, None], present).flatten(1, 2)
        )
        return fused


class Grounding(nn.Module):
    """The cells of the pyramid's stages -> for every voxel of the model's grid the logits of no part and of each."""

    landmark = "fuse.0.linear.weight"
    """The tensor by which the decoder is found in a file of weights."""

    def __init__(self, settings: GroundingSettings, vision: PyramidSettings) -> None:
        super().__init__()
        widths = settings.channels
        self.fuse = nn.ModuleList(_Fuse(*sizes) for sizes in zip(vision.channels, widths, strict=True))
        self.refine = nn.ModuleList(Residual(width) for width in widths)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.norm = nn.GroupNorm(widths[0] // GROUP, widths[0])
        self.voxels = nn.ConvTranspose3d(widths[0], len(Part) + 1, 2, 2)

    def forward(
        self, stages: Sequence[Float[Tensor, "V ..."]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B Q D H W"]:
        fused = [fuse(cells, present) for fuse, cells in zip(self.fuse, stages, strict=True)]
        x = self.refine[-1](fused[-1])
        for level in reversed(range(len(fused) - 1)):
            x = fused[level] + F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest")
            x = self.refine[level](x)
        logits: Tensor = self.voxels(F.gelu(self.norm(x)))
        return logits


def start_grounding(settings: GroundingSettings, vision: PyramidSettings) -> tuple[Grounding, GroundingSettings]:
    """The decoder with the weights that it starts from, and the settings with their fingerprint filled in.

    Raises `WeightsError` if they cannot be had or are not those of `settings.fingerprint`.
    """
    grounding = Grounding(settings, vision)
    if settings.weights is None:
        return grounding, settings
    load_module(grounding, find_weights(settings.weights), grounding.landmark)
    found = digest(grounding.state_dict())
    if settings.fingerprint not in (None, found):
        raise WeightsError(
            f"{settings.weights}: its decoder ({found}) is not the one that is asked for ({settings.fingerprint})"
        )
    return grounding, settings.model_copy(update={"fingerprint": found})


def find_parts(
    encoder: PyramidEncoder, grounding: Grounding, images: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"]
) -> tuple[Encoded, Float[Tensor, "B Q D H W"]]:
    """What the encoder sees of each volume, and the probability that each voxel of the model's grid is none of the
    parts, or each."""
    seen, stages = encoder.see(images[present][:, None])
    logits: Tensor = grounding(stages, present)
    return seen, logits.softmax(dim=1)


def grounding_loss(logits: Float[Tensor, "B Q D H W"], parts: Float[Tensor, "B P D H W"]) -> Float[Tensor, ""]:
    """Cross-entropy with how much of each voxel each part fills, and soft Dice of what users look for: any lesion, the
    tumour core, and each part, over the whole batch, so that a study without it counts too."""
    with torch.autocast(logits.device.type, enabled=False):  # the sums are over a million voxels
        truth = torch.cat([1 - parts.sum(dim=1, keepdim=True), parts], dim=1).clamp(0, 1)
        logs = F.log_softmax(logits.float(), dim=1)
        entropy = -(truth * logs).sum(dim=1).mean()
        # what two groups share is the sum of what their members share, so no group is ever spread out over voxels
        guessed, true = logs.exp().flatten(2), truth.flatten(2)
        groups = _groups().to(logits.device)

        def shared(one: Float[Tensor, "B Q N"], other: Float[Tensor, "B Q N"]) -> Float[Tensor, " G"]:
            members = (one @ other.mT).sum(dim=0)
            return (groups @ members * groups).sum(dim=1)

        total = shared(guessed, guessed) + shared(true, true)
        dice = (2 * shared(guessed, true) + 1) / (total + 1)
        return entropy + 1 - dice.mean()


def _groups() -> Float[Tensor, "G Q"]:
    """Which of no part and all parts belong to any lesion, to the tumour core, and to each part."""
    groups = torch.zeros(2 + len(Part), len(Part) + 1)
    groups[0, 1:] = 1
    groups[1, [Part.CORE, Part.CYST, Part.RIM]] = 1
    for row, part in enumerate(Part, 2):
        groups[row, part] = 1
    return groups


def check_drawable(profile: Profile) -> None:
    """Raises `LabelError` for a profile with a label that is made of no part, or whose labels overlap."""
    drawn = set(part_labels(profile).tolist())
    if unknown := [label.key for label in profile.labels if label.value not in drawn]:
        known = ", ".join(dict.fromkeys(key for keys in PART_KEYS.values() for key in keys))
        raise LabelError(
            f"profile {profile.name}: its label {', '.join(unknown)} is none that can be drawn (those are {known}); "
            "name another with --profile"
        )
    if overlapping := [label.key for label in profile.labels if label.also]:
        raise LabelError(
            f"profile {profile.name}: its label {', '.join(overlapping)} covers other labels' values; masks are drawn "
            "for labels that lie beside one another, so name another with --profile"
        )


def label_probabilities(parts: Float[Tensor, "Q *grid"], profile: Profile) -> dict[int, Float[Tensor, "*grid"]]:
    """The probability of each label value of a profile, 0 for none: the sum over the parts that it covers.

    Raises `LabelError` for a profile whose labels are not made of parts.
    """
    check_drawable(profile)
    values = part_labels(profile)
    return {
        value: parts[[number for number, label in enumerate(values) if label == value]].sum(dim=0)
        for value in (0, *(label.value for label in profile.labels))
    }
