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

from voxmoe.model.standardise import Standardise
from voxmoe.settings import Settings


class ExpertSettings(Settings):
    """Number and kind of experts (the switches of the paper's Tables 3, 12 and 14)."""

    modality_level: NonNegativeInt = 8
    token_level: NonNegativeInt = 8
    router_hidden: int = 128
    gate: Literal["sigmoid", "softmax"] = "sigmoid"
    weights: Literal["prompt", "fixed"] = "prompt"
    """Whether the prompt sets the experts' weights, or they are learned once for all prompts."""

    @model_validator(mode="after")
    def _some_expert(self) -> "ExpertSettings":
        if self.count == 0:
            raise ValueError("at least one modality-level or token-level expert is needed")
        return self

    @property
    def count(self) -> int:
        return self.modality_level + self.token_level


class _Gates(nn.Module):
    """The low-level routers of N experts: all modalities' features at one place -> a gate for each modality."""

    def __init__(self, experts: int, modalities: int, width: int, settings: ExpertSettings) -> None:
        super().__init__()
        hidden = settings.router_hidden
        self.softmax = settings.gate == "softmax"
        self.inner = nn.Linear(modalities * width, experts * hidden)
        self.outer = nn.Parameter(torch.empty(experts, hidden, modalities))
        self.outer_bias = nn.Parameter(torch.zeros(experts, modalities))
        nn.init.normal_(self.outer, std=hidden**-0.5)

    def forward(self, features: Float[Tensor, "B S M K"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B S N M"]:
        batch, places = features.shape[:2]
        hidden = torch.relu(self.inner(features.flatten(2))).view(batch, places, len(self.outer), -1)
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
            _Gates(settings.modality_level, modalities, width, settings) if settings.modality_level else None
        )
        self.token_gates = _Gates(settings.token_level, modalities, width, settings) if settings.token_level else None
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
    ) -> tuple[Float[Tensor, "B N1 M"] | None, Float[Tensor, "B T N2 M"] | None]:
        """The low-level gates of the modality-level and of the token-level experts."""
        by_study = (
            self.modality_gates((cls * present[:, :, None])[:, None], present)[:, 0] if self.modality_gates else None
        )
        at_token = (tokens * present[:, :, None, None]).transpose(1, 2)
        by_token = self.token_gates(at_token, present) if self.token_gates else None
        return by_study, by_token

    def forward(
        self,
        tokens: Float[Tensor, "B M T K"],
        cls: Float[Tensor, "B M K"],
        present: Bool[Tensor, "B M"],
        weights: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T O"]:
        by_study, by_token = self.gates(tokens, cls, present)
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
    """The high-level router: the prompt's last hidden state [B, O] -> the experts' weights [B, N], which sum to 1."""

    def __init__(self, settings: ExpertSettings, width: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.fixed = nn.Parameter(torch.zeros(settings.count)) if settings.weights == "fixed" else None
        self.layers = (
            None
            if settings.weights == "fixed"
            else nn.Sequential(
                nn.Linear(width, settings.router_hidden),
                nn.ReLU(),
                nn.Linear(settings.router_hidden, settings.count),
            )
        )

    def forward(self, prompt: Float[Tensor, "B O"]) -> Float[Tensor, "B N"]:
        if self.layers is None:
            assert self.fixed is not None
            return self.fixed.softmax(dim=0).expand(len(prompt), -1)
        weights: Tensor = self.layers(self.standardise(prompt)).softmax(dim=-1)
        return weights
