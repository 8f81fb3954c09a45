"""The hierarchical mixture of experts that turns all modalities' tokens into one prompt-conditioned sequence (mpLLM,
eq. 1).

    MoE(v, t) = sum_n pi_n(t) sum_m  g_nm W_nm(v_m) + (1 - g_nm) W_n(v_m)

pi is the high-level router on the prompt, g the low-level routers on the images: one gate a modality and study for
modality-level experts, one a modality and position for token-level experts. Gates are scalars and commute with the
linear maps, so nothing is computed term by term (`voxmoe.model.products`).

Where the prompt decides the weights alone, what each expert makes of a study is the same for all questions: `project`
it once, `mix` it for each.

Missing modalities: their term is dropped, the others are scaled up by M / present, and the low-level routers see
zeros in their place.

Shapes: B batch, M modality, T vision token, S place with gates of its own (1 for modality-level experts, else T), N
expert, K vision width, O language-model width, G hidden width of a router.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.products import folded_product, gated_product
from voxmoe.model.standardise import Standardise
from voxmoe.settings import Settings


class ExpertSettings(Settings):
    """Number and kind of experts (the switches of the paper's Tables 3, 12, 13 and 14)."""

    kind: Literal["experts"] = "experts"
    modality_level: NonNegativeInt = 8
    token_level: NonNegativeInt = 8
    router_hidden: PositiveInt = 128
    gate: Literal["sigmoid", "softmax"] = "sigmoid"
    prompt: Literal["weights", "gates", "nowhere"] = "weights"
    """What the prompt decides: the experts' weights, the low-level gates, or nothing. Weights that it does not decide
    are learned once for all prompts."""

    @model_validator(mode="after")
    def _some_expert(self) -> "ExpertSettings":
        if self.count == 0:
            raise ValueError("at least one modality-level or token-level expert is needed")
        return self

    @property
    def count(self) -> int:
        return self.modality_level + self.token_level


class _Gates(nn.Module):
    """The low-level routers of N experts: all modalities' features at one place -> a gate for each modality.

    With `prompt` in the gates the first layer also reads the prompt.
    """

    def __init__(self, experts: int, modalities: int, width: int, out: int, settings: ExpertSettings) -> None:
        super().__init__()
        hidden = settings.router_hidden
        self.softmax = settings.gate == "softmax"
        self.inner = nn.Linear(modalities * width, experts * hidden)
        self.outer = nn.Parameter(torch.empty(experts, hidden, modalities))
        self.outer_bias = nn.Parameter(torch.zeros(experts, modalities))
        self.prompted = nn.Linear(out, experts * hidden, bias=False) if settings.prompt == "gates" else None
        nn.init.normal_(self.outer, std=hidden**-0.5)

    def forward(
        self,
        features: Float[Tensor, "B S M K"],
        present: Bool[Tensor, "B M"],
        prompt: Float[Tensor, "B O"] | None,
    ) -> Float[Tensor, "B S N M"]:
        batch, places = features.shape[:2]
        inner = self.inner(features.flatten(2))
        if self.prompted is not None:
            inner = inner + self.prompted(prompt)[:, None]
        hidden = torch.relu(inner).view(batch, places, len(self.outer), -1)
        logits = torch.einsum("bsng,ngm->bsnm", hidden, self.outer).to(features.dtype) + self.outer_bias
        if self.softmax:
            return logits.masked_fill(~present[:, None, None], -torch.inf).softmax(dim=-1)
        return torch.sigmoid(logits)


class _Level(nn.Module):
    """The experts of one level: their low-level routers, and M + 1 linear maps each, the last shared by all
    modalities."""

    def __init__(self, count: int, modalities: int, width: int, out: int, settings: ExpertSettings) -> None:
        super().__init__()
        self.gates = _Gates(count, modalities, width, out, settings)
        self.maps = nn.Parameter(torch.empty(count, modalities + 1, width, out))
        self.biases = nn.Parameter(torch.zeros(count, modalities + 1, out))
        nn.init.normal_(self.maps, std=(modalities * width) ** -0.5)

    def forward(
        self,
        scaled: Float[Tensor, "B T M K"],
        gates: Float[Tensor, "B S N M"],
        weights: Float[Tensor, "B N"],
        scale: Float[Tensor, "B M"],
    ) -> Float[Tensor, "B T O"]:
        """The sum over the experts of tokens by their modality's scale."""
        return _sum(scaled, gates, weights, scale, self.maps, self.biases)

    def each(
        self, scaled: Float[Tensor, "B T M K"], gates: Float[Tensor, "B S N M"], scale: Float[Tensor, "B M"]
    ) -> list[Float[Tensor, "B T O"]]:
        """The experts one by one."""
        whole = scaled.new_ones(len(scaled), 1)
        parts = zip(gates.unbind(dim=2), self.maps.unbind(), self.biases.unbind(), strict=True)
        return [_sum(scaled, gate[:, :, None], whole, scale, maps[None], biases[None]) for gate, maps, biases in parts]


def _sum(
    scaled: Float[Tensor, "B T M K"],
    gates: Float[Tensor, "B S N M"],
    weights: Float[Tensor, "B N"],
    scale: Float[Tensor, "B M"],
    maps: Float[Tensor, "N M1 K O"],
    biases: Float[Tensor, "N M1 O"],
) -> Float[Tensor, "B T O"]:
    """Experts of these maps and biases, each by its weight."""
    own, common = (part * weights[:, None, :, None] for part in (gates, 1 - gates))
    by_modality = scale[:, None, None]
    factors = torch.cat([own * by_modality, (common * by_modality).sum(dim=3, keepdim=True)], dim=3)
    bias = factors.flatten(2) @ biases.flatten(0, 1)
    if gates.shape[1] == 1:
        return folded_product(scaled, own[:, 0], common[:, 0], maps) + bias
    return gated_product(scaled, gates, weights, maps) + bias


class ExpertProjector(nn.Module):
    """Vision features and the experts' weights [B, N] -> one sequence [B, T, O]. Modality-level experts come first."""

    def __init__(self, settings: ExpertSettings, modalities: int, width: int, out: int) -> None:
        super().__init__()
        self.modality_level, self.token_level = (
            _Level(count, modalities, width, out, settings) if count else None
            for count in (settings.modality_level, settings.token_level)
        )

    @property
    def levels(self) -> dict[str, _Level]:
        levels = {"modality": self.modality_level, "token": self.token_level}
        return {name: level for name, level in levels.items() if level is not None}

    def gates(
        self, features: VisionFeatures, prompt: Float[Tensor, "B O"] | None = None
    ) -> dict[str, Float[Tensor, "B S N M"]]:
        """The low-level gates by level: modality-level routers see the CLS tokens, token-level ones the tokens of
        their place, both of all modalities."""
        seen = {"modality": (features.cls * features.present[:, :, None])[:, None], "token": _by_place(features)}
        return {name: level.gates(seen[name], features.present, prompt) for name, level in self.levels.items()}

    def forward(
        self,
        features: VisionFeatures,
        weights: Float[Tensor, "B N"],
        prompt: Float[Tensor, "B O"] | None = None,
    ) -> Float[Tensor, "B T O"]:
        features = self._typed(features)
        scaled, scale = _scaled(features)
        gates = self.gates(features, prompt)
        counts = [len(level.maps) for level in self.levels.values()]
        shares = torch.split(weights.to(scaled.dtype), counts, dim=1)  # autocast's type comes from the router
        sums = [
            level(scaled, gates[name], share, scale)
            for (name, level), share in zip(self.levels.items(), shares, strict=True)
        ]
        return torch.stack(sums).sum(dim=0)

    def each(self, features: VisionFeatures) -> Float[Tensor, "B N T O"]:
        """What each expert makes of the studies by itself, where no prompt enters the gates."""
        features = self._typed(features)
        scaled, scale = _scaled(features)
        outputs = []
        for name, gates in self.gates(features).items():
            outputs += self.levels[name].each(scaled, gates, scale)
        return torch.stack(outputs, dim=1)

    def _typed(self, features: VisionFeatures) -> VisionFeatures:
        """In the type of the maps; an encoder under autocast gives another."""
        dtype = next(self.parameters()).dtype
        return replace(features, tokens=features.tokens.to(dtype), cls=features.cls.to(dtype))


def _by_place(features: VisionFeatures) -> Float[Tensor, "B T M K"]:
    """The tokens of all modalities side by side; zeros for the missing ones."""
    return (features.tokens * features.present[:, :, None, None]).transpose(1, 2).contiguous()


def _scaled(features: VisionFeatures) -> tuple[Float[Tensor, "B T M K"], Float[Tensor, "B M"]]:
    """Tokens by place, and their scale: what missing modalities leave to the others, M / present, 0 for the missing."""
    present = features.present
    scale = (present * (present.shape[1] / present.sum(dim=1, keepdim=True))).to(features.tokens.dtype)
    return (features.tokens * scale[:, :, None, None]).transpose(1, 2).contiguous(), scale


class PromptRouter(nn.Module):
    """The high-level router: the prompt's hidden state [B, O] -> the experts' weights [B, N], which sum to 1."""

    def __init__(self, settings: ExpertSettings, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, settings.router_hidden), nn.ReLU(), nn.Linear(settings.router_hidden, settings.count)
        )

    def forward(self, prompt: Float[Tensor, "B O"]) -> Float[Tensor, "B N"]:
        weights: Tensor = self.layers(prompt).softmax(dim=-1)
        return weights


class FixedWeights(nn.Module):
    """Experts' weights that are learned once for all prompts."""

    def __init__(self, settings: ExpertSettings) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(settings.count))

    def forward(self, batch: int) -> Float[Tensor, "B N"]:
        return self.logits.softmax(dim=0).expand(batch, -1)


class ExpertConnector(nn.Module):
    """mpLLM's connector: the prompt's hidden state, standardised, weighs the experts' projections of a study."""

    def __init__(self, settings: ExpertSettings, modalities: int, width: int, out: int) -> None:
        super().__init__()
        self.reads_prompt = settings.prompt != "nowhere"
        self.projects_ahead = settings.prompt != "gates"
        self.standardise = Standardise(out)
        self.router = PromptRouter(settings, out) if settings.prompt == "weights" else FixedWeights(settings)
        self.projector = ExpertProjector(settings, modalities, width, out)

    def calibrate(self, prompt: Float[Tensor, "B O"]) -> None:
        """Take the prompts' statistics from a sample."""
        self.standardise.measure(prompt)

    def weights(self, prompt: Float[Tensor, "B O"]) -> Float[Tensor, "B N"]:
        """The experts' weights for prompts."""
        return self._weights(self.standardise(prompt), len(prompt))

    def _weights(self, read: Float[Tensor, "B O"] | None, batch: int) -> Float[Tensor, "B N"]:
        weights: Tensor = self.router(read if isinstance(self.router, PromptRouter) else batch)
        return weights

    def forward(self, features: VisionFeatures, prompt: Float[Tensor, "B O"] | None = None) -> Fused:
        read = self.standardise(prompt) if prompt is not None else None
        weights = self._weights(read, len(features.tokens))
        return _fused(self.projector(features, weights, read), weights)

    def project(self, features: VisionFeatures) -> Float[Tensor, "B N T O"]:
        """What each expert makes of the studies, whatever will be asked."""
        if not self.projects_ahead:
            raise ValueError("the prompt enters the gates: what experts make of a study depends on the question")
        return self.projector.each(features)

    def mix(self, outputs: Float[Tensor, "B N T O"], prompt: Float[Tensor, "B O"] | None = None) -> Fused:
        """The same as `forward` of the features that were projected."""
        weights = self._weights(self.standardise(prompt) if prompt is not None else None, len(outputs))
        return _fused(torch.einsum("bn,bnto->bto", weights, outputs), weights)

    def for_questions(
        self, studies: VisionFeatures, owner: Int[Tensor, " B"], prompt: Float[Tensor, "B O"] | None = None
    ) -> Fused:
        """The same as `forward` of the features of the study that each question is about. Where no prompt enters the
        gates and studies are asked twice or more on average, each expert sees a study once for all of its questions:
        experts one by one take about twice the products of their sum."""
        if not self.projects_ahead or len(owner) < 2 * len(studies.tokens):
            fused: Fused = self(studies.take(owner), prompt)
            return fused
        weights = self._weights(self.standardise(prompt) if prompt is not None else None, len(owner))
        outputs = self.projector.each(studies)
        places = [(owner == number).nonzero()[:, 0] for number in range(len(outputs))]
        mixed = [torch.einsum("bn,nto->bto", weights[own], output) for own, output in zip(places, outputs, strict=True)]
        return _fused(torch.cat(mixed)[torch.cat(places).argsort()], weights)


def _fused(tokens: Float[Tensor, "B T O"], weights: Float[Tensor, "B N"]) -> Fused:
    return Fused(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), weights)


def entropy(weights: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
    """How widely the weight is spread over the experts, in nats: 0 for one expert alone, log N for all alike."""
    spread: Tensor = torch.special.entr(weights).sum(dim=-1)
    return spread


def load(weights: Float[Tensor, "B N"]) -> Float[Tensor, " N"]:
    """The share of the weight that each expert has over all prompts."""
    return weights.mean(dim=0)


class SingleSettings(Settings):
    """One linear layer on the modalities' tokens at a place together: Table 3 without experts (this project's
    reading)."""

    kind: Literal["single"] = "single"


class SingleConnector(nn.Module):
    """The sum over the modalities present of one linear map each, scaled by M / present."""

    reads_prompt = False

    def __init__(self, modalities: int, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(modalities * width, out)

    def calibrate(self, prompt: Float[Tensor, "B O"]) -> None:
        """Nothing here reads the prompt."""

    def forward(self, features: VisionFeatures, prompt: Float[Tensor, "B O"] | None = None) -> Fused:
        present = features.present
        scale = present * (present.shape[1] / present.sum(dim=1, keepdim=True))
        tokens = self.linear((features.tokens * scale[:, :, None, None]).transpose(1, 2).flatten(2))
        return Fused(tokens, present.new_ones(tokens.shape[:2]))

    def for_questions(
        self, studies: VisionFeatures, owner: Int[Tensor, " B"], prompt: Float[Tensor, "B O"] | None = None
    ) -> Fused:
        """What the questions see of their studies, each study fused once."""
        fused: Fused = self(studies)
        return fused.take(owner)
