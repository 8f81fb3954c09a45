"""A pretrained 2D image-text-to-text model made to read volumes, with all its weights (TGH-MoE, stage 1, as read here).

The lower layers of its vision tower see every slice by itself; the upper ones span all slices of a volume, with the
same maps. Tokens of neighbouring slices may be averaged, then the model's own projector makes them ready for its
language model. No weight is added and none is renamed.

Shapes: B volume, D slice, C H W its channels and pixels, G group of averaged slices, T token of a group, O width of the
language model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from voxmoe.errors import StudyError, WeightsError
from voxmoe.model.features import Fused, spread
from voxmoe.model.slices import SliceSettings, Volumes, seeing, span_slices
from voxmoe.model.towers import FAMILIES, TOWERS, Family, entry_of, part


class AdaptationSettings(SliceSettings):
    """Which layers of the tower span slices, how, and how many slices become one."""

    layers: Literal["none", "last-third", "all"] | tuple[NonNegativeInt, ...] = "last-third"
    """Of the layers from which features are read, or by number from the first, 0, on."""
    pool: PositiveInt = 1
    """How many neighbouring slices are averaged into one before the projector."""

    def spanning(self, count: int) -> tuple[int, ...]:
        """Which of `count` layers span slices; raises `WeightsError` if there are not so many."""
        if not isinstance(self.layers, str):
            if self.layers and max(self.layers) >= count:
                raise WeightsError(
                    f"layers {list(self.layers)} are to span slices, but features come from layers 0 to {count - 1}"
                )
            return tuple(sorted(set(self.layers)))
        first = {"none": count, "last-third": count - -(-count // 3), "all": 0}[self.layers]
        return tuple(range(first, count))


@dataclass(frozen=True)
class VolumeFeatures:
    """Volumes as the language model takes them: the tokens of every group of slices, and which groups are there (those
    of the shallower volumes of a batch are filled up with zeros at the end)."""

    tokens: Float[Tensor, "B G T O"]
    present: Bool[Tensor, "B G"]
    slices: Float[Tensor, "S N K"]
    """What the tower sees of every slice that is there, before slices are averaged and projected."""

    @property
    def fused(self) -> Fused:
        """One slice after the other, to be put into the language model's sequence."""
        return Fused(self.tokens.flatten(1, 2), self.present.repeat_interleave(self.tokens.shape[2], dim=1))


def adapt_tower(tower: Any, settings: AdaptationSettings, read: int | None = None) -> tuple[nn.Module, ...]:
    """Let layers of a vision tower span slices, in place; their attention modules are returned.

    `read` layers have a part in what is read of the tower; None: all. The tower is then called within `seeing`. Raises
    `WeightsError` if the kind of tower is not known, not as it is known, adapted already or has too few layers.
    """
    kind, place = entry_of(tower, TOWERS)
    layers = list(part(tower, place.layers, kind).children())
    spanning = [layers[number] for number in settings.spanning(len(layers) if read is None else read)]
    attentions = tuple(part(layer, place.attention, kind) for layer in spanning)
    for layer, attention in zip(spanning, attentions, strict=True):
        span_slices(layer, attention, settings, place.arrange)
    return attentions


@dataclass(frozen=True)
class Adaptation:
    """A model that reads volumes, and its parts that adaptation deals with."""

    model: Any
    """The whole model of transformers, as it was given."""
    family: Family
    settings: AdaptationSettings
    tower: Any
    projector: nn.Module
    attentions: tuple[nn.Module, ...]
    """Those that span slices."""

    def features(
        self,
        pixels: Float[Tensor, "B D C H W"],
        indices: Shaped[Tensor, "B D"] | None = None,
        present: Bool[Tensor, "B D"] | None = None,
    ) -> VolumeFeatures:
        """What the language model gets of volumes, whose slices are images as the tower takes them: of its size,
        normalised as by the model's own processor, not cut into tiles.

        `indices` are the places of the slices along the volume, 0, 1, .. if not given; only their differences matter.
        Slices that are not `present` are left out before the tower. Raises `StudyError` if a volume has none.
        """
        if present is None:
            present = torch.ones(pixels.shape[:2], dtype=torch.bool, device=pixels.device)
        if indices is None:
            indices = torch.arange(pixels.shape[1], device=pixels.device).expand(present.shape)
        depths = present.sum(dim=1).tolist()
        if 0 in depths:
            raise StudyError(f"volume {depths.index(0)} of a batch of {len(depths)} has no slices")
        inner = self.model.base_model
        with seeing(Volumes(depths, indices[present].float())):
            tokens = self.family.see(inner, self.tower, pixels[present].to(self.tower.dtype))
        groups = [torch.split(volume, self.settings.pool) for volume in torch.split(tokens, depths)]
        pooled = torch.stack([group.mean(dim=0) for volume in groups for group in volume])
        counts = torch.tensor([len(volume) for volume in groups], device=pixels.device)
        there = torch.arange(int(counts.max()), device=pixels.device) < counts[:, None]
        return VolumeFeatures(spread(self.family.project(inner, self.projector, pooled), there), there, tokens)

    def learn_shared(self) -> list[str]:
        """Stage 1: attention across slices, projector and adapters (LoRA) learn, nothing else; the names of what
        learns."""
        self.model.requires_grad_(False)
        for module in (*self.attentions, self.projector):
            module.requires_grad_(True)
        for name, parameter in self.model.named_parameters():
            if ".lora_" in name:
                parameter.requires_grad_(True)
        return [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]


def adapt(model: Any, settings: AdaptationSettings | None = None) -> Adaptation:
    """Make a model of a known family read volumes, in place: it stays the model it was for single images.

    Raises `WeightsError` if family or tower are not known, not as they are known, or adapted already.
    """
    settings = settings or AdaptationSettings()
    kind, family = entry_of(model, FAMILIES)
    inner = model.base_model
    tower, projector = part(inner, family.tower, kind), part(inner, family.projector, kind)
    read = family.layers_read(inner.config, inner.config.vision_config.num_hidden_layers)
    return Adaptation(model, family, settings, tower, projector, adapt_tower(tower, settings, read))
