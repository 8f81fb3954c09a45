"""The 2D image-text-to-text model that a volume reader is made of: one of transformers by name, or a small one whose
tower is yet to be trained, with a language model of ours.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.utils import IMAGE_PROCESSOR_NAME, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE, PROCESSOR_NAME

from voxmoe.errors import WeightsError
from voxmoe.hub import require_hub
from voxmoe.model.devices import multiplies_bf16
from voxmoe.model.language import HeldWeights, LanguageSettings, fingerprint, load_language_model, load_tokenizer
from voxmoe.model.towers import FAMILIES, entry_of, part
from voxmoe.model.weights import digest, find_beside
from voxmoe.settings import Settings

Channels = tuple[float, float, float]


class PretrainedBase(HeldWeights):
    """A model of one of the families of `voxmoe.model.towers`, with all its weights; `dtype` is of the language
    model's, tower and projector are held as float32."""

    kind: Literal["pretrained"] = "pretrained"
    name: str
    """A folder, or a model on the Hugging Face Hub."""
    mean: Channels | None = None
    """Of the colour channels, 0 to 1, by which pictures are normalised; None: as the model's own processor says."""
    std: Channels | None = None
    fingerprint: str | None = None
    """Of tower, projector and language model. Recorded when a reader is made; other weights under it are refused."""


class FreshBase(Settings):
    """A SmolVLM whose tower and projector start from random weights, around a pretrained language model."""

    kind: Literal["fresh"] = "fresh"
    language: LanguageSettings = LanguageSettings(name="HuggingFaceTB/SmolLM2-135M-Instruct", lora=None)
    size: PositiveInt = 64
    """Height and width of a picture in pixels."""
    patch: PositiveInt = 8
    hidden: PositiveInt = 192
    layers: PositiveInt = 6
    heads: PositiveInt = 3
    merge: PositiveInt = 4
    """Neighbouring tokens along each axis that the projector makes one of."""
    seed: int = 0
    """Of the random weights."""
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    def in_single(self) -> Self:
        """As `HeldWeights.in_single`."""
        return self.model_copy(update={"language": self.language.in_single()})

    @model_validator(mode="after")
    def _divisible(self) -> "FreshBase":
        if self.size % (self.patch * self.merge):
            raise ValueError(f"size {self.size} is not a multiple of patch x merge, {self.patch} x {self.merge}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        if self.language.lora is not None:
            raise ValueError("language.lora has to be null: the reader's own setting adds adapters")
        return self


BaseSettings = Annotated[PretrainedBase | FreshBase, Field(discriminator="kind")]


@dataclass(frozen=True)
class Base:
    """A 2D model, its tokenizer, and the settings with what was found filled in."""

    model: Any
    tokenizer: Any
    settings: PretrainedBase | FreshBase


@contextmanager
def _from_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _to_scale(projection: torch.nn.Linear, words: torch.Tensor) -> None:
    """Draw a projector anew, so that pictures' tokens, of what a tower's norm gives it, vary as much as words do."""
    torch.nn.init.normal_(projection.weight, std=float(words.std()) / projection.in_features**0.5)


def _fresh(settings: FreshBase) -> Base:
    language, found = load_language_model(settings.language)
    text = language.config
    config = SmolVLMConfig(
        text_config=text,
        vision_config={
            "hidden_size": settings.hidden,
            "intermediate_size": 4 * settings.hidden,
            "num_hidden_layers": settings.layers,
            "num_attention_heads": settings.heads,
            "image_size": settings.size,
            "patch_size": settings.patch,
        },
        scale_factor=settings.merge,
        image_token_id=text.eos_token_id,  # never looked for: pictures are put between the tokens, not in their place
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    with _from_seed(settings.seed):
        model = SmolVLMForConditionalGeneration._from_config(config)
        _to_scale(model.model.connector.modality_projection.proj, language.get_input_embeddings().weight)
    model.model.text_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    return Base(model, load_tokenizer(found), settings.model_copy(update={"language": found}))


def _pictured(name: str) -> Mapping[str, Any]:
    """What the model's own processor says of its pictures, in a file of all its parts or one of this alone, in the
    order in which transformers looks for them; nothing where it has none."""
    whole, alone = (find_beside(name, file) for file in (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME))
    told: dict[str, Any] | None = None if whole is None else json.loads(whole.read_text()).get("image_processor")
    if told is None and alone is not None:
        told = json.loads(alone.read_text())
    return told or {}


def _normalised(settings: PretrainedBase) -> dict[str, Channels]:
    """By which mean and deviation pictures are normalised; raises `WeightsError` where nobody says so."""
    if settings.mean is not None and settings.std is not None:
        return {"mean": settings.mean, "std": settings.std}
    told = _pictured(settings.name)
    mean, std = settings.mean or told.get("image_mean"), settings.std or told.get("image_std")
    if not (mean and std):
        raise WeightsError(
            f"{settings.name}: neither its {PROCESSOR_NAME} nor its {IMAGE_PROCESSOR_NAME} says by which image_mean "
            "and image_std pictures are normalised; set model.base.mean and model.base.std"
        )
    return {"mean": tuple(mean), "std": tuple(std)}


def _processor_template(name: str) -> str | None:
    """The chat template of models that keep it beside their tokenizer's files, for their processor alone."""
    file = find_beside(name, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE)
    template: str | None = None if file is None else json.loads(file.read_text()).get("chat_template")
    return template


def _print(model: Any) -> str:
    """A fingerprint of tower, projector and language model."""
    kind, family = entry_of(model, FAMILIES)
    inner = model.base_model
    eye = {name: part(inner, path, kind).state_dict() for name, path in _parts(family).items()}
    flat = {f"{name}.{key}": tensor for name, state in eye.items() for key, tensor in state.items()}
    return digest(flat)[:8] + fingerprint(part(inner, family.language, kind))[:8]


def _parts(family: Any) -> dict[str, str]:
    return {"tower": family.tower, "projector": family.projector}


def _pretrained(settings: PretrainedBase) -> Base:
    name = settings.name
    if not Path(name).is_dir():
        require_hub(name, "config.json")
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type not in FAMILIES:
            raise WeightsError(f"{name}: is a {config.model_type}; known families are {', '.join(FAMILIES)}")
        keeps = settings.dtype == "bf16" or (settings.dtype == "auto" and multiplies_bf16())
        dtype = torch.bfloat16 if settings.dtype == "bf16" else "auto" if keeps else torch.float32
        model, told = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, output_loading_info=True)
        model = model if model.dtype == torch.bfloat16 else model.float()
        tokenizer = AutoTokenizer.from_pretrained(name)
        tokenizer.chat_template = _processor_template(name) or tokenizer.chat_template
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{name}: cannot be loaded as an image-text-to-text model: {error}") from error
    if lacks := sorted([*told["missing_keys"], *told["unexpected_keys"], *map(str, told["mismatched_keys"])]):
        raise WeightsError(f"{name}: its weights do not fit {type(model).__name__}: {', '.join(lacks)}")
    found = _print(model)
    if settings.fingerprint not in (None, found):
        raise WeightsError(
            f"{name}: its weights ({found}) are not those that the reader was made of ({settings.fingerprint})"
        )
    return Base(model, tokenizer, settings.model_copy(update={"fingerprint": found, **_normalised(settings)}))


def load_base(settings: PretrainedBase | FreshBase) -> Base:
    """The 2D model, frozen, in evaluation mode; tower and projector in float32.

    Raises `WeightsError` if it cannot be had, is of no known family, or is not that of the recorded fingerprint.
    """
    base = _fresh(settings) if isinstance(settings, FreshBase) else _pretrained(settings)
    kind, family = entry_of(base.model, FAMILIES)
    for path in _parts(family).values():
        part(base.model.base_model, path, kind).float()
    base.model.requires_grad_(False).eval()
    return base
