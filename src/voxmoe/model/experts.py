"""The hierarchical mixture of experts that turns all modalities' tokens into one prompt-conditioned sequence (mpLLM,
eq. 1).

    MoE(v, t) = sum_n pi_n(t) sum_m  g_nm W_nm(v_m) + (1 - g_nm) W_n(v_m)

pi is the high-level router on the prompt, g the low-level routers on the images: one gate a modality and study for
modality-level experts, one a modality and position for token-level experts. Gates are scalars and commute with the
linear maps, so nothing is computed term by term: modality-level experts fold into one matrix a modality, token-level
experts into one product over gated inputs, and the shared map is applied once to the gate-weighted sum of the
modalities.

Missing modalities: their term is dropped, the others are scaled up by M / present, and the low-level routers see
zeros in their place.

Shapes: B batch, M modality, T vision token, N expert, K vision width, O language-model width, G hidden width of a
router.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import NonNegativeInt, model_validator
from torch import Tensor, nn

from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.standardise import Standardise
from voxmoe.settings import Settings


class ExpertSettings(Settings):
    """Number and kind of experts (the switches of the paper's Tables 3, 12, 13 and 14)."""

    kind: Literal["experts"] = "experts"
    modality_level: NonNegativeInt = 8
    token_level: NonNegativeInt = 8
    router_hidden: int = 128
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
        logits = torch.einsum("bsng,ngm->bsnm", hidden, self.outer) + self.outer_bias
        if self.softmax:
            return logits.masked_fill(~present[:, None, None], -torch.inf).softmax(dim=-1)
        return torch.sigmoid(logits)


class ExpertProjector(nn.Module):
    """Tokens [B, M, T, K] and CLS [B, M, K] of the modalities, experts' weights [B, N] -> one sequence [B, T, O]."""

    def __init__(self, settings: ExpertSettings, modalities: int, width: int, out: int) -> None:
        super().__init__()
        self.settings = settings
        self.modality_gates = (
            _Gates(settings.modality_level, modalities, width, out, settings) if settings.modality_level else None
        )
        self.token_gates = (
            _Gates(settings.token_level, modalities, width, out, settings) if settings.token_level else None
        )
        self.specific = nn.Parameter(torch.empty(settings.count, modalities, width, out))
        self.specific_bias = nn.Parameter(torch.zeros(settings.count, modalities, out))
        self.shared = nn.Parameter(torch.empty(settings.count, width, out))
        self.shared_bias = nn.Parameter(torch.zeros(settings.count, out))
        for weight in (self.specific, self.shared):
            nn.init.normal_(weight, std=(modalities * width) ** -0.5)

    def gates(
        self,
        tokens: Float[Tensor, "B M T K"],
        cls: Float[Tensor, "B M K"],
        present: Bool[Tensor, "B M"],
        prompt: Float[Tensor, "B O"] | None = None,
    ) -> tuple[Float[Tensor, "B N1 M"] | None, Float[Tensor, "B T N2 M"] | None]:
        """The low-level gates of the modality-level and of the token-level experts."""
        by_study = by_token = None
        if self.modality_gates is not None:
            by_study = self.modality_gates((cls * present[:, :, None])[:, None], present, prompt)[:, 0]
        if self.token_gates is not None:
            at_token = (tokens * present[:, :, None, None]).transpose(1, 2)
            by_token = self.token_gates(at_token, present, prompt)
        return by_study, by_token

    def forward(
        self,
        tokens: Float[Tensor, "B M T K"],
        cls: Float[Tensor, "B M K"],
        present: Bool[Tensor, "B M"],
        weights: Float[Tensor, "B N"],
        prompt: Float[Tensor, "B O"] | None = None,
    ) -> Float[Tensor, "B T O"]:
        by_study, by_token = self.gates(tokens, cls, present, prompt)
        scale = present * (present.shape[1] / present.sum(dim=1, keepdim=True))
        split = self.settings.modality_level
        out = tokens.new_zeros(1)
        if by_study is not None:
            out = out + self._modality_level(tokens, by_study, scale, weights[:, :split])
        if by_token is not None:
            out = out + self._token_level(tokens, by_token, scale, weights[:, split:])
        return out

    def _modality_level(
        self,
        tokens: Float[Tensor, "B M T K"],
        gates: Float[Tensor, "B N M"],
        scale: Float[Tensor, "B M"],
        weights: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T O"]:
        """All experts folded into one matrix and one bias a modality and study."""
        n = self.settings.modality_level
        own = gates * scale[:, None] * weights[:, :, None]
        common = (1 - gates) * scale[:, None] * weights[:, :, None]
        matrix = torch.einsum("bnm,nmko->bmko", own, self.specific[:n])
        matrix = matrix + torch.einsum("bnm,nko->bmko", common, self.shared[:n])
        bias = torch.einsum("bnm,nmo->bo", own, self.specific_bias[:n])
        bias = bias + torch.einsum("bn,no->bo", common.sum(dim=2), self.shared_bias[:n])
        return torch.einsum("bmtk,bmko->bto", tokens, matrix) + bias[:, None]

    def _token_level(
        self,
        tokens: Float[Tensor, "B M T K"],
        gates: Float[Tensor, "B T N M"],
        scale: Float[Tensor, "B M"],
        weights: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T O"]:
        """One product over the gated inputs of all experts: M of its own and one shared for each."""
        n = self.settings.modality_level
        own = gates * scale[:, None, None] * weights[:, None, :, None]
        common = (1 - gates) * scale[:, None, None] * weights[:, None, :, None]
        at_token = tokens.transpose(1, 2)
        gated = torch.einsum("btnm,btmk->btnmk", own, at_token).flatten(2)
        summed = torch.einsum("btnm,btmk->btnk", common, at_token).flatten(2)
        out = gated @ self.specific[n:].flatten(0, 2) + summed @ self.shared[n:].flatten(0, 1)
        bias = torch.einsum("btnm,nmo->bto", own, self.specific_bias[n:])
        return out + bias + torch.einsum("btn,no->bto", common.sum(dim=3), self.shared_bias[n:])


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
        tokens = self.projector(features.tokens, features.cls, features.present, weights, read)
        return Fused(tokens, features.present.new_ones(tokens.shape[:2]), weights)


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
