"""Low-rank adapters as one operation with their linear maps, against peft's: forward and backward of a language model.

It has SmolLM2-135M's size and random weights, which change no time. Both ways run the same modules on the same weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from voxmoe.bench.memory import SMOLLM2
from voxmoe.bench.timing import Timing, summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.model.adapters import AdaptedLinear
from voxmoe.model.language import LoraSettings, add_lora

BATCH, TOKENS = 8, 97
"""A batch of the pocket size: 33 image tokens with BOS, and 64 of question and answer."""
_TOLERANCE = 1e-3
"""Of the largest difference beside the largest value: thirty layers of float32 differ by 1e-4 in their sums alone."""


@contextmanager
def by_peft(model: nn.Module) -> Iterator[None]:
    """The model's adapted maps as peft computes them."""
    adapted = [module for module in model.modules() if type(module) is AdaptedLinear]
    for module in adapted:
        module.__class__ = LoraLinear
    try:
        yield
    finally:
        for module in adapted:
            module.__class__ = AdaptedLinear


class _Training:
    """Forward and backward of a language model's decoder with adapters on all its linear maps."""

    def __init__(self, dropout: float, language: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(**language)).requires_grad_(False).train()
        add_lora(self.model, LoraSettings(dropout=dropout))
        self.adapters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        for parameter in self.adapters.values():
            nn.init.normal_(parameter, std=0.02)  # peft's start at zero, which would leave half of the gradients zero
        self.embeds = torch.randn(BATCH, TOKENS, language["hidden_size"], requires_grad=True)
        self.probe = torch.randn(BATCH, TOKENS, language["hidden_size"])

    def ours(self) -> Tensor:
        self.model.zero_grad()
        self.embeds.grad = None
        hidden: Tensor = self.model.base_model(inputs_embeds=self.embeds, use_cache=False).last_hidden_state
        torch.autograd.backward((hidden * self.probe).sum())
        return hidden.detach()

    def reference(self) -> Tensor:
        with by_peft(self.model):
            return self.ours()

    def found(self, work: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The output and all gradients."""
        hidden = work()
        learning = {"the input": self.embeds, **self.adapters}
        return {"the output": hidden} | {name: p.grad.clone() for name, p in learning.items() if p.grad is not None}

    def check(self) -> None:
        ours, reference = self.found(self.ours), self.found(self.reference)
        for name, theirs in reference.items():
            difference = float((ours[name] - theirs).abs().max() / theirs.abs().max())
            if not difference < _TOLERANCE:
                raise BenchError(f"{name}: ours is off by {difference:.1e} of the largest value")


def bench_adapters(runs: int = 5, language: dict[str, Any] | None = None) -> dict[str, Any]:
    """Time both ways without and with dropout; raises `BenchError` where outputs or gradients differ without it (with
    it, each draws its own)."""
    timings: list[Timing] = []
    for dropout in (0.0, 0.1):
        training = _Training(dropout, language or SMOLLM2)
        if not dropout:
            training.check()
        timings.append(time_in_turn(f"dropout {dropout:g}", training.ours, training.reference, runs))
    return summary("adapters", f"SmolLM2-135M's size, batch {BATCH}, {TOKENS} tokens, float32", runs, timings)
