"""A pretrained 2D image-text-to-text model made to read volumes, with all its weights (TGH-MoE, as read here).

The lower layers of its vision tower see every slice by itself; the upper ones span all slices of a volume, with the
same maps. Tokens of neighbouring slices may be averaged, then the model's own projector makes them ready for its
language model. No weight is added and none is renamed. Task experts (`voxmoe.model.task_experts`), where they are
wished for, are new, and work where a `Routing` says to which of them the volumes go.

Shapes: B volume, R volume as it is seen for a task, D slice, C H W its channels and pixels, G group of averaged slices,
T token of a group, O width of the language model, P width of a prompt's embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from voxmoe.errors import StudyError, WeightsError
from voxmoe.model.features import Fused, spread
from voxmoe.model.routing import Routing, TaskRouter
from voxmoe.model.slices import SliceSettings, Volumes, seeing, span_slices
from voxmoe.model.task_experts import (
    ExpertCost,
    TaskExperts,
    TaskExpertSettings,
    add_experts,
    expert_cost,
    mlp_shape,
)
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
    sizes: list[int]
    """How many slices make up each group that is there."""

    @property
    def fused(self) -> Fused:
        """One slice after the other, to be put into the language model's sequence."""
        return Fused(self.tokens.flatten(1, 2), self.present.repeat_interleave(self.tokens.shape[2], dim=1))


def most_of(slices: Float[Tensor, "S *rest"], sizes: list[int]) -> Float[Tensor, "G *rest"]:
    """The elementwise maximum over the slices of each group, which are so many, one group after the other."""
    return torch.stack([group.amax(dim=0) for group in torch.split(slices, sizes)])


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
    expert_settings: TaskExpertSettings | None = None
    blocks: tuple[TaskExperts, ...] = ()
    """The task experts of each block that has them."""

    @property
    def task_router(self) -> TaskRouter:
        """It lies in the model, as `task_router`; raises `WeightsError` if there are no task experts."""
        self._needed()
        router: TaskRouter = self.model.task_router
        return router

    def _needed(self) -> TaskExpertSettings:
        if self.expert_settings is None:
            raise WeightsError("this model has no task experts: adapt it with TaskExpertSettings")
        return self.expert_settings

    def route(self, prompt: Float[Tensor, "B P"], tasks: Int[Tensor, " B"] | None = None) -> Routing:
        """To which groups of experts volumes go in one forward pass, by the embeddings of their prompts (the mean of
        the language model's input embeddings) and, in training, by their true tasks, numbered as the groups are.

        Raises `WeightsError` if there are no task experts, `ValueError` if true tasks are needed or make no sense.
        """
        settings, router = self._needed(), self.task_router
        if settings.soft:
            return router.blend(prompt, tasks)
        if not (settings.teacher and self.model.training):
            return router.choose(prompt, tasks)
        if tasks is None:
            raise ValueError(
                "in training, volumes go to the experts of their true tasks: give them, or set teacher=False"
            )
        return router.teach(prompt, tasks)

    def routing_loss(self, routing: Routing) -> Float[Tensor, ""]:
        """After the forward pass: the task router's cross-entropy and the weighted load-balance loss.

        Raises `ValueError` if token routers would not learn from it, as their gradients were lost on the way.
        """
        balance = routing.balance
        learning = self.model.training and torch.is_grad_enabled() and self.blocks[0].router.requires_grad
        if learning and not balance.requires_grad:
            raise ValueError("no gradient comes from the blocks with experts: checkpoint with use_reentrant=False")
        return routing.task_loss + self._needed().balance * balance

    def expert_cost(self, tokens: int) -> ExpertCost:
        """What the task experts add, with so many tokens of a volume in the tower, those of all its slices."""
        settings, prompt = self._needed(), self.task_router.linear.in_features
        return expert_cost(settings, mlp_shape(self.tower), prompt, tokens)

    def features(
        self,
        pixels: Float[Tensor, "B D C H W"],
        indices: Shaped[Tensor, "B D"] | None = None,
        present: Bool[Tensor, "B D"] | None = None,
        routing: Routing | None = None,
        volume: Int[Tensor, " R"] | None = None,
    ) -> VolumeFeatures:
        """What the language model gets of volumes, whose slices are images as the tower takes them: of its size,
        normalised as by the model's own processor, not cut into tiles.

        `indices` are the places of the slices along the volume, 0, 1, .. if not given; only their differences matter.
        Slices that are not `present` are left out before the tower. With a `routing` (of this call alone), task experts
        take part. With `volume`, features are those of these out of the B, each as often as it is named: what comes
        before the task experts is computed once. Raises `StudyError` if a volume has no slices, `ValueError` if the
        routing is not one for it.
        """
        if routing is not None:
            self._check(routing, len(pixels) if volume is None else len(volume))
        if present is None:
            present = torch.ones(pixels.shape[:2], dtype=torch.bool, device=pixels.device)
        if indices is None:
            indices = torch.arange(pixels.shape[1], device=pixels.device).expand(present.shape)
        depths = present.sum(dim=1).tolist()
        if 0 in depths:
            raise StudyError(f"volume {depths.index(0)} of a batch of {len(depths)} has no slices")
        same = None
        if volume is not None:
            pixels, indices, present = pixels[volume], indices[volume], present[volume]
            depths = [depths[number] for number in volume.tolist()]
            same = _same(volume)
        inner = self.model.base_model
        with seeing(Volumes(depths, indices[present].float(), routing=routing, same=same)):
            tokens = self.family.see(inner, self.tower, pixels[present].to(self.tower.dtype))
        sizes, there = self._groups(depths)
        pooled = torch.stack([group.mean(dim=0) for group in torch.split(tokens, sizes)])
        there = there.to(pooled.device)
        return VolumeFeatures(spread(self.family.project(inner, self.projector, pooled), there), there, tokens, sizes)

    def _groups(self, depths: Sequence[int]) -> tuple[list[int], Bool[Tensor, "B G"]]:
        """How many slices of volumes of such depths become one, group after group, and which groups each volume has."""
        pool = self.settings.pool
        sizes = [min(pool, depth - start) for depth in depths for start in range(0, depth, pool)]
        counts = torch.tensor([-(-depth // pool) for depth in depths])
        return sizes, torch.arange(int(counts.max())) < counts[:, None]

    def _check(self, routing: Routing, volumes: int) -> None:
        self._needed()
        if len(routing.groups) != volumes:
            raise ValueError(f"the routing is one of {len(routing.groups)} volumes, the batch has {volumes}")
        if routing.passed:
            raise ValueError("this routing was used already: `route` again for every forward pass")

    def learn_shared(self) -> list[str]:
        """Stage 1: attention across slices, projector and adapters (LoRA) learn, nothing else; the names of what
        learns."""
        return self._learn(*self.attentions, self.projector, adapters=True)

    def learn_experts(self) -> list[str]:
        """Stage 2: task experts and routers learn, nothing else; the names of what learns."""
        return self._learn(*self.blocks, self.task_router, adapters=False)

    def learn_together(self) -> list[str]:
        """Both stages in one, the ablation; the names of what learns."""
        return self._learn(*self.attentions, self.projector, *self.blocks, self.task_router, adapters=True)

    def _learn(self, *modules: nn.Module, adapters: bool) -> list[str]:
        self.model.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        for name, parameter in self.model.named_parameters():
            if adapters and ".lora_" in name:
                parameter.requires_grad_(True)
        return [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]


def _same(volume: Int[Tensor, " R"]) -> list[int] | None:
    """As `Volumes` says which are the same."""
    found, same = torch.unique(volume, return_inverse=True)
    return same.tolist() if len(found) < len(volume) else None


def _add_task_router(model: Any, groups: int) -> None:
    embedding = model.get_input_embeddings().weight
    # In float32, whatever the embeddings are held as: it learns.
    model.task_router = TaskRouter(embedding.shape[1], groups).to(embedding.device)


def adapt(
    model: Any, settings: AdaptationSettings | None = None, experts: TaskExpertSettings | None = None
) -> Adaptation:
    """Make a model of a known family read volumes, in place: it stays the model it was for single images.

    With `experts`, its tower gets task experts and the model a `task_router`; their weights are new, drawn by PyTorch's
    generator. Raises `WeightsError` if family or tower are not known, not as they are known, or adapted already.
    """
    settings = settings or AdaptationSettings()
    kind, family = entry_of(model, FAMILIES)
    inner = model.base_model
    tower, projector = part(inner, family.tower, kind), part(inner, family.projector, kind)
    read = family.layers_read(inner.config, inner.config.vision_config.num_hidden_layers)
    if experts is not None:
        experts.places(read)  # before anything is changed
    attentions = adapt_tower(tower, settings, read)
    if experts is None:
        return Adaptation(model, family, settings, tower, projector, attentions)
    blocks = add_experts(tower, experts, read)
    _add_task_router(model, experts.groups)
    return Adaptation(model, family, settings, tower, projector, attentions, experts, blocks)
