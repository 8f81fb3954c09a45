"""Tiny random image-text-to-text models of the real classes, and what they make of single images by themselves."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

LAYERS, SIDE, PATCH = 6, 16, 4
TEXT = {
    "vocab_size": 40,
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
QWEN_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "depth": LAYERS,
    "num_heads": 2,
    "patch_size": PATCH,
    "window_size": 2 * PATCH,
    "out_hidden_size": 12,
    "fullatt_block_indexes": [1, 4],
}


def _one_by_one(model: Any, images: Tensor) -> Tensor:
    return torch.stack(list(model.get_image_features(pixel_values=images).pooler_output))


def _as_lists(model: Any, images: Tensor) -> Tensor:
    """Idefics3 takes several images a text."""
    return _one_by_one(model, images[:, None])


def as_patches(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Patches as Qwen2.5-VL's own processor cuts them, and their grid."""
    config = model.config.vision_config
    cut = Qwen2VLImageProcessorPil().patchify
    sizes = (config.patch_size, config.spatial_merge_size, config.temporal_patch_size)
    patches, rows, columns = zip(*(cut(image.numpy(), *sizes) for image in images), strict=True)
    grid = torch.tensor([[1, height, width] for height, width in zip(rows, columns, strict=True)])
    return torch.cat([torch.tensor(part) for part in patches]), grid


def _as_patches(model: Any, images: Tensor) -> Tensor:
    pixels, grid = as_patches(model, images)
    return torch.stack(list(model.get_image_features(pixel_values=pixels, image_grid_thw=grid).pooler_output))


@dataclass(frozen=True)
class Kind:
    """A way to make a model, and what is particular about it."""

    model: Any
    config: Callable[[], Any]
    tower: str
    projector: str
    attention: str
    """Of a layer, from the tower on; `{}` is its number."""
    images: Callable[[Any, Tensor], Tensor] = _one_by_one
    read: int = LAYERS
    """How many layers have a part in what is read."""
    unread: tuple[str, ...] = ()
    """Names in the tower, or their beginnings, that have none."""
    shape: tuple[int, int] = (SIDE, SIDE)


def _llava(**changes: Any) -> LlavaConfig:
    clip = CLIPVisionConfig(**TOWER)
    return LlavaConfig(**{"vision_config": clip, "text_config": LlamaConfig(**TEXT), "image_token_index": 3, **changes})


def _siglip() -> SiglipVisionConfig:
    return SiglipVisionConfig(**TOWER, vision_use_head=False)


def _internvl(tower: dict[str, Any], **changes: Any) -> InternVLConfig:
    vision = InternVLVisionConfig(**TOWER, **tower)
    return InternVLConfig(vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=3, **changes)


def _qwen() -> Qwen2_5_VLConfig:
    text = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1]}}
    return Qwen2_5_VLConfig(vision_config=QWEN_TOWER, text_config=text, image_token_id=3, video_token_id=4)


def _gemma3_text() -> Gemma3TextConfig:
    """A layer of each kind, with a window shorter than a prompt with its slices."""
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3TextConfig(**TEXT, layer_types=kinds, sliding_window=8)


SELF = "encoder.layers.{}.self_attn"
KINDS = {
    "gemma3": Kind(
        Gemma3ForConditionalGeneration,
        lambda: Gemma3Config(
            vision_config=_siglip(), text_config=_gemma3_text(), mm_tokens_per_image=4, image_token_index=3
        ),
        "vision_tower",
        "multi_modal_projector",
        SELF,
    ),
    "paligemma": Kind(
        PaliGemmaForConditionalGeneration,
        lambda: PaliGemmaConfig(
            vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False, projection_dim=12),
            text_config=GemmaConfig(**TEXT),
            projection_dim=12,
            image_token_index=3,
        ),
        "vision_tower",
        "multi_modal_projector",
        SELF,
    ),
    "llava": Kind(
        LlavaForConditionalGeneration,
        _llava,
        "vision_tower",
        "multi_modal_projector",
        SELF,
        read=LAYERS - 1,
        unread=("post_layernorm", f"encoder.layers.{LAYERS - 1}"),
    ),
    "llava-two-layers": Kind(
        LlavaForConditionalGeneration,
        lambda: _llava(vision_feature_layer=[2, -3]),
        "vision_tower",
        "multi_modal_projector",
        SELF,
        read=LAYERS - 2,
        unread=("post_layernorm", f"encoder.layers.{LAYERS - 2}", f"encoder.layers.{LAYERS - 1}"),
    ),
    "llava-siglip": Kind(
        LlavaForConditionalGeneration,
        lambda: _llava(vision_config=_siglip(), vision_feature_select_strategy="full", vision_feature_layer=-1),
        "vision_tower",
        "multi_modal_projector",
        SELF,
        unread=("post_layernorm",),
    ),
    "idefics3": Kind(
        Idefics3ForConditionalGeneration,
        lambda: Idefics3Config(vision_config=TOWER, text_config=LlamaConfig(**TEXT), image_token_id=3),
        "vision_model",
        "connector",
        SELF,
        _as_lists,
    ),
    "smolvlm": Kind(
        SmolVLMForConditionalGeneration,
        lambda: SmolVLMConfig(vision_config=TOWER, text_config=LlamaConfig(**TEXT), image_token_id=3),
        "vision_model",
        "connector",
        SELF,
        _as_lists,
    ),
    "internvl": Kind(
        InternVLForConditionalGeneration,
        lambda: _internvl({}),
        "vision_tower",
        "multi_modal_projector",
        "encoder.layer.{}.attention",
    ),
    "internvl-normed": Kind(
        InternVLForConditionalGeneration,
        lambda: _internvl(
            {"use_qk_norm": True, "norm_type": "rms_norm", "use_mean_pooling": False}, vision_feature_layer=-2
        ),
        "vision_tower",
        "multi_modal_projector",
        "encoder.layer.{}.attention",
        read=LAYERS - 1,
        unread=("layernorm", f"encoder.layer.{LAYERS - 1}"),
    ),
    "qwen2_5_vl": Kind(
        Qwen2_5_VLForConditionalGeneration,
        _qwen,
        "visual",
        "visual.merger",
        "blocks.{}.attn",
        _as_patches,
        shape=(24, 16),
    ),
}
"""The unread layer norm of a SigLIP tower in LLaVA is that behind its last layer: hidden states come from before it."""


def make_model(name: str, seed: int = 0, attn_implementation: str = "sdpa") -> Any:
    """In evaluation mode, with weights so large that attention is far from even."""
    return copy.deepcopy(_made(name, seed, attn_implementation))


@lru_cache
def _made(name: str, seed: int, attn_implementation: str) -> Any:
    kind = KINDS[name]
    torch.manual_seed(seed)
    model = kind.model._from_config(kind.config(), attn_implementation=attn_implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.35)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def make_volumes(name: str, volumes: int, depth: int, seed: int = 1) -> Tensor:
    """Pixels [B, D, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(volumes, depth, 3, *KINDS[name].shape, generator=generator)
