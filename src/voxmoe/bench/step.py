"""One training step of one system, measured in a process of its own: `python -m voxmoe.bench.step WORK`.

A step is forward, backward and Adam on what learns: connector, heads and adapters. Before it, everything stands that
stands between steps, Adam's state too. The encoder is left out, as its features are computed before training.

Two steps are made. The first is timed, and gives the peak of the process's resident size where the system tells it
(Linux). The second is recorded: the allocator's events give its peak, and hooks on saved tensors give the bytes that
are kept for the backward pass, weights and inputs not counted.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from voxmoe.bench.memory import ANSWER, QUESTION, Work
from voxmoe.files import write_json
from voxmoe.model.concatenation import LlavaMedSettings, M3DSettings, Med3DVLMSettings, RadFMSettings
from voxmoe.model.connector import ConnectorSettings, make_connector
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.encoder import EncoderSettings, make_encoder
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.features import VisionFeatures
from voxmoe.model.heads import SIZES
from voxmoe.model.language import LanguageSettings
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.vision import VisionSettings
from voxmoe.training.memory import peak, reset_peaks, resident
from voxmoe.vocabulary import Modality, Task

PARTS: dict[str, tuple[ConnectorSettings, EncoderSettings]] = {
    "mpllm": (ExpertSettings(), VisionSettings()),
    "llava-med": (LlavaMedSettings(), VisionSettings()),
    "m3d": (M3DSettings(), VisionSettings()),
    "med3dvlm": (Med3DVLMSettings(), DCFormerSettings()),
    "radfm": (RadFMSettings(), VisionSettings()),
}


def make_model(work: Work) -> MpLLM:
    """The system without its encoder, in training mode."""
    folder = Path(work.folder)
    if not folder.exists():
        LlamaForCausalLM(LlamaConfig(**work.language)).save_pretrained(folder)
    connector, vision = PARTS[work.system]
    settings = ModelSettings(connector=connector, vision=vision, language=LanguageSettings(name=str(folder)))
    model = MpLLM(MpLLMConfig.of(settings))
    del model.vision
    if work.checkpointing:
        model.language_model.activation_checkpointing_enable()
    for tensor in model.state_dict().values():
        tensor.sum()  # weights are mapped from their file and come into memory when they are first read
    model.train()
    return model


def make_batch(work: Work) -> dict[str, Any]:
    """Random features, questions and answers."""
    _, vision = PARTS[work.system]
    rows, modalities, words = work.batch, len(Modality), work.language["vocab_size"]
    low = (
        torch.randn(rows, modalities, vision.low_tokens, vision.low_hidden)
        if isinstance(vision, DCFormerSettings)
        else None
    )
    features = VisionFeatures(
        torch.randn(rows, modalities, vision.tokens, vision.hidden),
        torch.randn(rows, modalities, vision.hidden),
        torch.ones(rows, modalities, dtype=torch.bool),
        low,
    )
    targets = {
        name: torch.zeros(rows, size, dtype=torch.long) if name == str(Task.REGION) else torch.zeros(rows).long()
        for name, size in SIZES.items()
    }
    return features.inputs() | {
        "question_ids": torch.randint(words, (rows, QUESTION)),
        "question_mask": torch.ones(rows, QUESTION, dtype=torch.long),
        "answer_ids": torch.randint(words, (rows, ANSWER)),
        "answer_mask": torch.ones(rows, ANSWER, dtype=torch.long),
        "targets": targets,
    }


def make_optimiser(model: MpLLM) -> torch.optim.Optimizer:
    """Adam with its state, as after a first step."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-4)
    for parameter in learning:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad()
    return optimiser


def fixed_bytes(model: MpLLM, optimiser: torch.optim.Optimizer) -> int:
    """What stands between steps: weights, buffers and the optimiser's state."""
    state = [value for of in optimiser.state.values() for value in of.values()]
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), *state))


class SavedBytes:
    """Bytes kept for the backward pass, each memory counted once; what stands there anyway (weights, inputs) is not."""

    def __init__(self, standing: Iterable[Tensor]) -> None:
        self.standing = {tensor.untyped_storage().data_ptr() for tensor in standing}
        self.sizes: dict[int, int] = {}

    def __call__(self, forward: Callable[[], Any]) -> Any:
        with saved_tensors_hooks(self._keep, lambda tensor: tensor):
            return forward()

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.standing:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def peak_of(events: list[tuple[int, int]]) -> int:
    """The most bytes held at a time, from the allocator's events: times, and bytes taken or given back."""
    held = peak = 0
    for _, change in sorted(events, key=lambda event: event[0]):
        held += change
        peak = max(peak, held)
    return peak


def measure(work: Work) -> dict[str, Any]:
    """Both steps' figures, and the system's sizes."""
    torch.manual_seed(0)
    model, batch = make_model(work), make_batch(work)
    optimiser = make_optimiser(model)
    saved = SavedBytes([*model.parameters(), *model.buffers(), *(t for t in batch.values() if isinstance(t, Tensor))])

    def step(forward: Callable[[], Any]) -> None:
        torch.autograd.backward(forward().loss)
        optimiser.step()
        optimiser.zero_grad()

    lengths: list[int] = []
    model.connector.register_forward_hook(lambda module, given, fused: lengths.append(fused.tokens.shape[1]))
    gc.collect()
    before = resident()
    reset_peaks()
    started = time.perf_counter()
    step(lambda: model(**batch))
    seconds = time.perf_counter() - started
    most = peak()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(lambda: saved(lambda: model(**batch)))
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    events = [
        (event.start_ns(), event.nbytes())
        for event in record.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return {
        "fixed_bytes": fixed_bytes(model, optimiser),
        "step_bytes": peak_of(events),
        "saved_bytes": saved.total,
        "resident_bytes": most - before if most is not None and before is not None else None,
        "seconds": seconds,
        "image_tokens": lengths[0],
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    } | counts(work)


def counts(work: Work) -> dict[str, int]:
    """Parameters of the encoder, and of the connector to a language model of the width that is asked for."""
    connector, vision = PARTS[work.system]
    with torch.device("meta"):
        parts = {
            "encoder_parameters": make_encoder(vision),
            "connector_parameters": make_connector(connector, len(Modality), vision, work.wide),
        }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


if __name__ == "__main__":
    asked = Work(**json.loads(sys.argv[1]))
    write_json(Path(asked.result), measure(asked))
