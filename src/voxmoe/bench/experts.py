"""The experts' equation by its algebra against the ordinary way: one `nn.Linear` a map, the sum term by term.

Both have the same weights, and outputs and gradients have to be equal before anything is timed. Features come from a
frozen encoder, so no gradient flows into them; all modalities are present.

Shapes: B batch, M modality, T vision token, N expert, K vision width, O language-model width.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxmoe.bench.timing import summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.model.experts import ExpertConnector, ExpertProjector, ExpertSettings
from voxmoe.model.features import VisionFeatures
from voxmoe.settings import Settings

_TOLERANCE = 1e-4
"""Of the largest difference beside the largest value, in float32."""


class Sizes(Settings):
    """The paper's: 4 modalities, 256 tokens, M3D-CLIP to Phi-3-Mini, 8 + 8 experts, batch 1."""

    experts: ExpertSettings = ExpertSettings()
    batch: int = 1
    modalities: int = 4
    tokens: int = 256
    width: int = 768
    out: int = 3072


class _Expert(nn.Module):
    """One expert: a low-level router, a linear map a modality, and one that all share."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden = sizes.experts.router_hidden
        self.inner = nn.Linear(sizes.modalities * sizes.width, hidden)
        self.outer = nn.Linear(hidden, sizes.modalities)
        self.own = nn.ModuleList(nn.Linear(sizes.width, sizes.out) for _ in range(sizes.modalities))
        self.shared = nn.Linear(sizes.width, sizes.out)

    def forward(self, tokens: Float[Tensor, "B M T K"], routed: Float[Tensor, "B S MK"]) -> Float[Tensor, "B T O"]:
        gates = torch.sigmoid(self.outer(torch.relu(self.inner(routed))))
        out = torch.zeros(())
        for m, linear in enumerate(self.own):
            gate = gates[..., m, None]
            out = out + gate * linear(tokens[:, m]) + (1 - gate) * self.shared(tokens[:, m])
        return out


class TermByTerm(nn.Module):
    """Equation (1) as printed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.experts = nn.ModuleList(_Expert(sizes) for _ in range(sizes.experts.count))
        self.modality_level = sizes.experts.modality_level

    def forward(self, features: VisionFeatures, weights: Float[Tensor, "B N"]) -> Float[Tensor, "B T O"]:
        by_study, by_token = features.cls.flatten(1)[:, None], features.tokens.transpose(1, 2).flatten(2)
        out = torch.zeros(())
        for n, expert in enumerate(self.experts):
            routed = by_study if n < self.modality_level else by_token
            out = out + weights[:, n, None, None] * expert(features.tokens, routed)
        return out


View = Callable[[Tensor], Tensor]


def _part(index: Any) -> View:
    return lambda whole: whole[index]


def _turned(index: Any) -> View:
    return lambda whole: whole[index].T


def _pairs(ours: ExpertProjector, reference: TermByTerm) -> Iterator[tuple[Tensor, View, Tensor]]:
    """A parameter of ours, how to see in it a parameter of the reference, and that parameter."""
    experts = iter(cast(Iterable[_Expert], reference.experts))
    for level in ours.levels.values():
        gates = level.gates
        hidden = gates.outer.shape[1]
        for n in range(len(level.maps)):
            expert = next(experts)
            inner, outer = expert.inner, expert.outer
            rows = slice(n * hidden, (n + 1) * hidden)
            yield gates.inner.weight, _part(rows), inner.weight
            yield gates.inner.bias, _part(rows), inner.bias
            yield gates.outer, _turned(n), outer.weight
            yield gates.outer_bias, _part(n), outer.bias
            for m, linear in enumerate([*cast(Iterable[nn.Linear], expert.own), expert.shared]):
                yield level.maps, _turned((n, m)), linear.weight
                yield level.biases, _part((n, m)), linear.bias


def _copy(ours: ExpertProjector, reference: TermByTerm) -> None:
    with torch.no_grad():
        for mine, view, theirs in _pairs(ours, reference):
            theirs.copy_(view(mine))


def _check_equal(what: str, ours: Tensor, reference: Tensor) -> None:
    difference = float((ours - reference).detach().abs().max() / reference.detach().abs().max())
    if not difference < _TOLERANCE:
        raise BenchError(f"{what}: ours is off by {difference:.1e} of the largest value; {_TOLERANCE:.0e} is allowed")


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """What a forward pass keeps for the backward pass besides the parameters, every storage counted once."""
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward()
    del out
    return sum(kept.values())


@dataclass(frozen=True)
class _Setup:
    """The same experts twice, and what they are given."""

    connector: ExpertConnector
    reference: TermByTerm
    features: VisionFeatures
    prompt: Float[Tensor, "B O"]
    probe: Float[Tensor, "B T O"]

    def forward(self) -> Tensor:
        out: Tensor = self.connector.projector(self.features, self.connector.weights(self.prompt))
        return out

    def term_by_term(self) -> Tensor:
        out: Tensor = self.reference(self.features, self.connector.weights(self.prompt))
        return out

    def train(self, forward: Callable[[], Tensor]) -> None:
        self.connector.zero_grad()
        self.reference.zero_grad()
        torch.autograd.backward((forward() * self.probe).sum())

    def check(self) -> None:
        """Outputs and gradients, those of the high-level router among them, have to be equal."""
        _check_equal("outputs", self.forward(), self.term_by_term())
        self.train(self.term_by_term)
        router = [_gradient(parameter) for parameter in self.connector.router.parameters()]
        experts = [_gradient(theirs) for *_, theirs in _pairs(self.connector.projector, self.reference)]
        self.train(self.forward)
        for parameter, theirs in zip(self.connector.router.parameters(), router, strict=True):
            _check_equal("gradient of the router", _gradient(parameter), theirs)
        pairs = _pairs(self.connector.projector, self.reference)
        for (mine, view, _), theirs in zip(pairs, experts, strict=True):
            _check_equal("gradient", view(_gradient(mine)), theirs)
        self.connector.zero_grad()


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _setup(sizes: Sizes) -> _Setup:
    torch.manual_seed(0)
    connector = ExpertConnector(sizes.experts, sizes.modalities, sizes.width, sizes.out)
    reference = TermByTerm(sizes)
    _copy(connector.projector, reference)
    features = VisionFeatures(
        torch.randn(sizes.batch, sizes.modalities, sizes.tokens, sizes.width),
        torch.randn(sizes.batch, sizes.modalities, sizes.width),
        torch.ones(sizes.batch, sizes.modalities, dtype=torch.bool),
    )
    return _Setup(
        connector,
        reference,
        features,
        torch.randn(sizes.batch, sizes.out),
        torch.randn(sizes.batch, sizes.tokens, sizes.out),
    )


def bench_experts(sizes: Sizes | None = None, runs: int = 3) -> dict[str, Any]:
    """Time a forward pass, a forward and backward pass, and a further question about a study, which mixes what the
    experts made of it where the others compute it again; raises `BenchError` where the two ways differ."""
    sizes = sizes or Sizes()
    setup = _setup(sizes)
    setup.check()
    saved = {
        "ours_mb": saved_bytes(setup.forward, setup.connector.parameters()) / 1e6,
        "reference_mb": saved_bytes(setup.term_by_term, [*setup.reference.parameters(), *setup.connector.parameters()])
        / 1e6,
    }
    timings = []
    with torch.no_grad():
        outputs = setup.connector.project(setup.features)
        _check_equal("a further question", setup.connector.mix(outputs, setup.prompt).tokens, setup.forward())
        timings.append(time_in_turn("forward", setup.forward, setup.term_by_term, runs))
        further = partial(setup.connector.mix, outputs, setup.prompt)
        timings.append(time_in_turn("further question", further, setup.forward, runs))
    train, train_term_by_term = partial(setup.train, setup.forward), partial(setup.train, setup.term_by_term)
    timings.append(time_in_turn("forward and backward", train, train_term_by_term, runs))
    sized = ", ".join(f"{name} {value}" for name, value in sizes.model_dump(exclude={"experts"}).items())
    return summary("experts", f"{sized}, {sizes.experts.count} experts", runs, timings) | {"saved_activations": saved}
