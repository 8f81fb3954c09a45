"""Experts for each task in the last blocks of a vision tower (TGH-MoE, as read here).

    mlp(x)  ->  mlp(x) + gate * expert(x)

A volume goes to the group of experts that the task router chose by its prompt (`voxmoe.model.routing`). Within it,
every token goes to the expert that the block's token router finds most probable; that probability is the gate. What
experts add is zero at the start. The pretrained maps keep their names and values; without a routing, a block is the
pretrained one.

Tokens are sorted by group and expert, so that each expert computes one contiguous piece.

Shapes: S slice of all volumes, N token of a slice, T token of all slices, K width of the tower, R token in one of its
groups, G group, A group that a slice goes to, E expert of a group.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from voxmoe.errors import WeightsError
from voxmoe.model.routing import Passed, at_least_single
from voxmoe.model.slices import Volumes, attend_alike, keep_volumes, see_alike, volumes_seen
from voxmoe.model.towers import TOWERS, Tower, entry_of, part
from voxmoe.settings import Settings
from voxmoe.vocabulary import CTTask


class TaskExpertSettings(Settings):
    """How many experts there are, of what kind, and how tokens get to them."""

    blocks: PositiveInt = 4
    """How many of the last layers from which features are read have experts."""
    groups: PositiveInt = len(CTTask)
    """One for each task, in the order of `CTTask`."""
    experts: PositiveInt = 4
    """Of each group, in each block."""
    kind: Literal["low-rank", "copy"] = "low-rank"
    """Two maps with the tower's activation between, or a copy of the block's MLP with a new last map. Either way the
    last map is zero at the start."""
    rank: PositiveInt = 16
    """Width between the two maps of a low-rank expert."""
    soft: bool = False
    """The ablation: every volume goes to all groups, weighted by the task router's probabilities."""
    teacher: bool = True
    """In training a volume goes to the group of its true task, not to that of the task router's choice; without effect
    where the choice is soft."""
    balance: NonNegativeFloat = 0.01
    """Weight of the load-balance loss."""

    def places(self, read: int) -> range:
        """Which of the `read` layers have experts; raises `WeightsError` if there are not so many."""
        if self.blocks > read:
            raise WeightsError(f"{self.blocks} blocks are to have experts, but features come from {read} layers")
        return range(read - self.blocks, read)


# ---------------------------------------------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class MlpShape:
    """The MLP of a tower's block: maps between its width and an inner width, the last of them back, all with biases."""

    width: int
    inner: int
    maps: int


@dataclass(frozen=True)
class ExpertCost:
    """What task experts add to a model."""

    parameters: int
    flops: int
    """Of a forward pass for one volume: two for each multiplication and addition, of matrix products alone."""


def expert_cost(settings: TaskExpertSettings, mlp: MlpShape, prompt: int, tokens: int) -> ExpertCost:
    """With prompts' embeddings of width `prompt` and `tokens` of a volume in the tower, those of all its slices."""
    if settings.kind == "low-rank":
        weights, biases = 2 * mlp.width * settings.rank, 0
    else:
        weights, biases = mlp.maps * mlp.width * mlp.inner, (mlp.maps - 1) * mlp.inner + mlp.width
    count, routes = settings.groups * settings.experts, settings.groups if settings.soft else 1
    block = count * (weights + biases + mlp.width)
    token = 2 * routes * (weights + settings.experts * mlp.width)
    return ExpertCost(
        parameters=settings.blocks * block + settings.groups * (prompt + 1),
        flops=settings.blocks * tokens * token + 2 * settings.groups * prompt,
    )


# ------------------------------------------------------------------------------------------------------------- experts


class _LowRank(nn.Module):
    """K -> rank -> K, without biases; zero at the start."""

    def __init__(self, width: int, rank: int, activation: Any, like: Tensor) -> None:
        super().__init__()
        kind: Any = {"dtype": like.dtype, "device": like.device, "bias": False}
        self.down = nn.Linear(width, rank, **kind)
        self.activation = activation
        self.up = nn.Linear(rank, width, **kind)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Float[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        out: Tensor = self.up(self.activation(self.down(x)))
        return out


def _copied(mlp: nn.Module, last: str) -> nn.Module:
    """With the last map zero."""
    expert = copy.deepcopy(mlp)
    for parameter in expert.get_submodule(last).parameters():
        nn.init.zeros_(parameter)
    return expert


def _expert(mlp: nn.Module, place: Tower, settings: TaskExpertSettings) -> nn.Module:
    if settings.kind == "copy":
        return _copied(mlp, place.last)
    last: Any = mlp.get_submodule(place.last)
    return _LowRank(last.out_features, settings.rank, getattr(mlp, place.activation), last.weight)


class TaskExperts(nn.Module):
    """Level 2: the token routers of one block, and their experts by group."""

    def __init__(self, mlp: nn.Module, place: Tower, settings: TaskExpertSettings, layer: int) -> None:
        super().__init__()
        last: Any = mlp.get_submodule(place.last)
        self.layer = layer
        self.router = nn.Parameter(last.weight.new_empty(settings.groups, settings.experts, last.out_features))
        # Small, so that the probabilities are nearly even at first.
        nn.init.normal_(self.router, std=(0.1 / last.out_features) ** 0.5)
        self.groups = nn.ModuleList(
            nn.ModuleList(_expert(mlp, place, settings) for _ in range(settings.experts))
            for _ in range(settings.groups)
        )

    @property
    def _experts(self) -> Iterator[nn.Module]:
        for group in self.groups:
            yield from group.children()

    def forward(self, x: Float[Tensor, "S N K"], volumes: Volumes) -> Float[Tensor, "S N K"]:
        """What the experts add; it is put down in the volumes' routing."""
        assert volumes.routing is not None
        groups, weights = volumes.by_slice(volumes.routing.groups), volumes.by_slice(volumes.routing.weights)
        probabilities = self._probabilities(x, groups)
        gates, chosen = probabilities.max(dim=-1)
        keys = (groups[:, None] * self.router.shape[1] + chosen).flatten()
        counts = keys.bincount(minlength=self.router[..., 0].numel())
        passed = Passed(counts.view(self.router.shape[:2]), self._by_group(probabilities, groups))
        volumes.routing.passed.setdefault(self.layer, passed)
        added = self._dispatch(x.flatten(0, 1), keys, counts.tolist())
        scaled = added * (gates * weights[:, None]).reshape(-1, 1).to(added.dtype)
        return scaled.view(*chosen.shape, -1).sum(dim=2)

    def _probabilities(self, x: Float[Tensor, "S N K"], groups: Int[Tensor, "S A"]) -> Float[Tensor, "S N A E"]:
        """Of the experts of each slice's groups."""
        with torch.autocast(x.device.type, enabled=False):
            read = at_least_single(x)
            maps = self.router.to(read.dtype)[groups].flatten(1, 2)
            logits = torch.bmm(read, maps.transpose(1, 2))
            return logits.view(*x.shape[:2], groups.shape[1], -1).softmax(dim=-1)

    def _by_group(self, x: Float[Tensor, "S N A E"], groups: Int[Tensor, "S A"]) -> Float[Tensor, "G E"]:
        """The sums over the tokens of each group."""
        member = groups[..., None] == torch.arange(len(self.router), device=groups.device)
        return (x.sum(dim=1)[:, :, None] * member[..., None]).sum(dim=(0, 1))

    def _dispatch(self, x: Float[Tensor, "T K"], keys: Int[Tensor, " R"], counts: list[int]) -> Float[Tensor, "R K"]:
        """Each token through the experts that its keys name. Experts without tokens compute none, so that their weights
        have gradients, of zero, in every process."""
        order = keys.argsort(stable=True)
        pieces = torch.split(x[order // (len(keys) // len(x))], counts)
        out = torch.cat([expert(piece) for expert, piece in zip(self._experts, pieces, strict=True)])
        return out[order.argsort()]


# -------------------------------------------------------------------------------------------------------------- blocks


class _Guided(nn.Module):
    """Mixed into the class of an MLP."""

    experts: TaskExperts

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        out: Tensor = super().forward(x)
        volumes = volumes_seen()
        if volumes is None or volumes.routing is None:
            return out
        added = self.experts(x.reshape(len(volumes.indices), -1, x.shape[-1]), volumes)
        guided: Tensor = out + added.view_as(out).to(out.dtype)
        return guided


def _guide(layer: nn.Module, mlp: Any, experts: TaskExperts) -> None:
    keep_volumes(layer)
    kind = type(mlp)
    mlp.__class__ = type(kind.__name__, (_Guided, kind), {})
    mlp.experts = experts


def add_experts(tower: Any, settings: TaskExpertSettings, read: int | None = None) -> tuple[TaskExperts, ...]:
    """Give the last of the `read` layers of a vision tower experts, in place; they are returned. What comes before them
    sees a volume once that goes to several groups.

    Raises `WeightsError` if the kind of tower is not known, not as it is known, has experts or too few layers.
    """
    kind, place = entry_of(tower, TOWERS)
    layers = list(part(tower, place.layers, kind).children())
    found = []
    places = settings.places(len(layers) if read is None else read)
    for number in places:
        mlp = part(layers[number], place.mlp, kind)
        if isinstance(mlp, _Guided):
            raise WeightsError(f"{kind}: layer {number} has experts already: adapt a model once, freshly loaded")
        part(mlp, place.last, kind)
        found.append(TaskExperts(mlp, place, settings, number))
        _guide(layers[number], mlp, found[-1])
    for layer in layers[: places.start]:
        see_alike(layer)
    attend_alike(part(layers[places.start], place.attention, kind))
    return tuple(found)


def mlp_shape(tower: Any) -> MlpShape:
    """That of every block of a vision tower, before or after experts were added."""
    kind, place = entry_of(tower, TOWERS)
    mlp = part(part(tower, place.layers, kind).get_submodule("0"), place.mlp, kind)
    last: Any = part(mlp, place.last, kind)
    own = [module for name, module in mlp.named_modules() if not name.startswith("experts")]
    return MlpShape(last.out_features, last.in_features, sum(isinstance(module, nn.Linear) for module in own))
