"""Where image-text-to-text models of transformers keep their vision tower and projector, and how slices go through.

A new kind of tower is one entry in `TOWERS`, a new family one in `FAMILIES`; both are found by `model_type`. Paths are
those of transformers 5; one that is not found is an error that names it.

Shapes: S slice (an image), C H W its channels and pixels, N token of the tower, K its width, T token of the language
model, O its width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.vision_utils import get_vision_window_index

from voxmoe.errors import ImageError, WeightsError
from voxmoe.model.layout import Mutual
from voxmoe.model.slices import Arrange, Volumes

# -------------------------------------------------------------------------------------------------------------- towers


def _all_slices_at_once(volumes: Volumes, arguments: dict[str, Any]) -> tuple[Volumes, dict[str, Any]]:
    """Qwen2.5-VL strings the tokens of all images together and cuts them, by `cu_seqlens`, into what attends to itself:
    images, or windows of an image. The cuts of one slice become its segments: a token attends to all slices, but within
    the window in which it attends to its own."""
    cuts = arguments["cu_seqlens"]
    count = (len(cuts) - 1) // len(volumes.indices)
    segments = cuts[: count + 1].diff().tolist()
    return replace(volumes, segments=segments), arguments | {"cu_seqlens": cuts[[0, -1]]}


@dataclass(frozen=True)
class Tower:
    """Paths from the tower to the list of its layers, from a layer to its attention and its MLP, and from the MLP to
    its last map and its activation; and how many tokens of a slice stand for none of its patches (CLS)."""

    layers: str
    attention: str
    arrange: Arrange | None = None
    mlp: str = "mlp"
    last: str = "fc2"
    activation: str = "activation_fn"
    others: int = 0


TOWERS = MappingProxyType(
    {
        "clip_vision_model": Tower("encoder.layers", "self_attn", others=1),
        "idefics3_vision": Tower("encoder.layers", "self_attn"),
        "internvl_vision": Tower("encoder.layer", "attention", others=1),
        "qwen2_5_vl_vision": Tower("blocks", "attn", _all_slices_at_once, last="down_proj", activation="act_fn"),
        "siglip_vision_model": Tower("encoder.layers", "self_attn"),
        "smolvlm_vision": Tower("encoder.layers", "self_attn"),
    }
)

# ------------------------------------------------------------------------------------------------------------ families


def _all_layers(config: Any, layers: int) -> int:
    return layers


def _last(model: Any, tower: Any, slices: Float[Tensor, "S C H W"]) -> Float[Tensor, "S N K"]:
    seen: Tensor = tower(pixel_values=slices).last_hidden_state
    return seen


def _projected(model: Any, projector: Any, tokens: Float[Tensor, "S N K"]) -> Float[Tensor, "S T O"]:
    out: Tensor = projector(tokens)
    return out


@dataclass(frozen=True)
class PictureWords:
    """How a family's prompts hold a picture: what its chat template writes for one, and what its processor puts around
    the picture's tokens in place of that."""

    marker: str = "<image>"
    opened: str = ""
    closed: str = ""
    plain: tuple[str, str, str] = ("{bos}", "", "{eos}")
    """Before the picture, between picture and question, and after that, where there is no chat template."""


@dataclass(frozen=True)
class Family:
    """Paths from the inner model (without the head over the vocabulary) to its tower, projector and decoder; what the
    tower makes of slices, as the projector takes it but for any spatial merge; and the merge with the projector.
    Between the two, tokens of neighbouring slices at the same place may be averaged."""

    tower: str
    projector: str
    language: str = "language_model"
    see: Callable[[Any, Any, Float[Tensor, "S C H W"]], Float[Tensor, "S N K"]] = _last
    project: Callable[[Any, Any, Float[Tensor, "S N K"]], Float[Tensor, "S T O"]] = _projected
    layers_read: Callable[[Any, int], int] = _all_layers
    """By the model's configuration, how many of so many layers have a part in what is read of the tower."""
    words: PictureWords = PictureWords()
    mutual: Mutual = "nothing"
    """Which tokens see one another both ways in the decoder."""
    placed: bool = False
    """Whether a picture's tokens have places along three axes there."""


def _chosen_layers(config: Any) -> list[int]:
    chosen = config.vision_feature_layer
    return [chosen] if isinstance(chosen, int) else list(chosen)


def _up_to_chosen(config: Any, layers: int) -> int:
    """Hidden state i is what layer i takes in: the first is that of the embedding, the last comes out of all layers."""
    return max(range(layers + 1)[chosen] for chosen in _chosen_layers(config))


def _without_cls(config: Any, tokens: Float[Tensor, "S N K"]) -> Float[Tensor, "S M K"]:
    return tokens[:, 1:] if config.vision_feature_select_strategy == "default" else tokens


def _llava_sees(model: Any, tower: Any, slices: Float[Tensor, "S C H W"]) -> Float[Tensor, "S N K"]:
    """The hidden states of the chosen layers, before any last norm, side by side."""
    chosen = _chosen_layers(model.config)
    states = tower(pixel_values=slices, output_hidden_states=chosen).hidden_states
    return torch.cat([_without_cls(model.config, states[layer]) for layer in chosen], dim=-1)


def _internvl_sees(model: Any, tower: Any, slices: Float[Tensor, "S C H W"]) -> Float[Tensor, "S N K"]:
    """What comes out of the tower, after its norm; of an earlier layer, its hidden state."""
    (chosen,) = _chosen_layers(model.config)
    if chosen == -1:
        return _without_cls(model.config, _last(model, tower, slices))
    states = tower(pixel_values=slices, output_hidden_states=chosen).hidden_states
    return _without_cls(model.config, states[chosen])


def _internvl_projects(model: Any, projector: Any, tokens: Float[Tensor, "S N K"]) -> Float[Tensor, "S T O"]:
    """Neighbouring tokens become one that is as much wider."""
    side = round(tokens.shape[1] ** 0.5)
    cells = tokens.reshape(len(tokens), side, side, -1)
    merged: Tensor = model.pixel_shuffle(cells, model.config.downsample_ratio)
    out: Tensor = projector(merged.flatten(1, 2))
    return out


def _patches(slices: Float[Tensor, "S C H W"], config: Any) -> tuple[Float[Tensor, "P V"], Int[Tensor, "S 3"]]:
    """Patches as Qwen2.5-VL takes them, and the grid of each slice in time, height and width.

    The patches that the projector merges follow one another. A patch has the size of several frames; a slice, like any
    single image there, fills all of them.
    """
    count, channels, height, width = slices.shape
    size, merge = config.patch_size, config.spatial_merge_size
    if height % (size * merge) or width % (size * merge):
        raise ImageError(f"slices are {height} x {width} pixels; this model takes multiples of {size * merge}")
    rows, columns = height // size, width // size
    cells = slices.reshape(count, channels, rows // merge, merge, size, columns // merge, merge, size)
    cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
    cells = cells.expand(*(-1,) * 6, config.temporal_patch_size, -1, -1)
    grid = torch.tensor([[1, rows, columns]], device=slices.device)
    return cells.reshape(count * rows * columns, -1), grid.repeat(count, 1)


def _qwen_sees(model: Any, tower: Any, slices: Float[Tensor, "S C H W"]) -> Float[Tensor, "S N K"]:
    """Tokens in the order of the patches: the tower gives them in the order of its windows, by the units that are
    merged into one. It projects them, too; that is left aside, as slices may be averaged first."""
    patches, grid = _patches(slices, tower.config)
    order, cuts = get_vision_window_index(grid, tower.spatial_merge_size, tower.window_size, tower.patch_size)
    seen = tower(patches, grid_thw=grid, window_index=order, cu_window_seqlens=cuts).last_hidden_state
    units: Tensor = seen.reshape(len(order), -1, seen.shape[-1])[order.argsort()]
    return units.reshape(len(slices), -1, seen.shape[-1])


def _qwen_projects(model: Any, projector: Any, tokens: Float[Tensor, "S N K"]) -> Float[Tensor, "S T O"]:
    merged: Tensor = projector(tokens.flatten(0, 1))
    return merged.reshape(len(tokens), -1, merged.shape[-1])


_FAKE = "<fake_token_around_image>"
_IDEFICS = PictureWords("<image>", f"{_FAKE}<global-img>", _FAKE)
"""Of a picture that is not split into tiles."""
_GEMMA = PictureWords("<start_of_image>", "\n\n<start_of_image>", "<end_of_image>\n\n")
FAMILIES = MappingProxyType(
    {
        "gemma3": Family("vision_tower", "multi_modal_projector", words=_GEMMA, mutual="slices"),
        # Their own `get_image_features` takes an image of zeros for padding and leaves it out; a slice may be all zero.
        "idefics3": Family("vision_model", "connector", "text_model", words=_IDEFICS),
        "smolvlm": Family("vision_model", "connector", "text_model", words=_IDEFICS),
        "internvl": Family(
            "vision_tower",
            "multi_modal_projector",
            see=_internvl_sees,
            project=_internvl_projects,
            layers_read=_up_to_chosen,
            words=PictureWords("<IMG_CONTEXT>", "<img>", "</img>"),
        ),
        "llava": Family("vision_tower", "multi_modal_projector", see=_llava_sees, layers_read=_up_to_chosen),
        "paligemma": Family(
            "vision_tower", "multi_modal_projector", words=PictureWords(plain=("", "{bos}", "\n")), mutual="prompts"
        ),
        "qwen2_5_vl": Family(
            "visual",
            "visual.merger",
            see=_qwen_sees,
            project=_qwen_projects,
            words=PictureWords("<|image_pad|>"),
            placed=True,
        ),
    }
)


Entry = TypeVar("Entry")


def entry_of(module: Any, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """The `model_type` of a tower or model, and its entry; raises `WeightsError` listing what there is.

    It is that of the configuration's class: configurations from the hub call some towers as they call the whole model.
    """
    kind = type(module.config).model_type
    if kind not in entries:
        raise WeightsError(f"{type(module).__name__} has model_type {kind!r}; known are {', '.join(entries)}")
    return kind, entries[kind]


def part(module: nn.Module, path: str, kind: str) -> nn.Module:
    """The module at that path; raises `WeightsError` if there is none."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        raise WeightsError(
            f"{kind}: {type(module).__name__} has no module {path!r}; the entry in voxmoe/model/towers.py and the "
            "installed transformers do not fit"
        ) from None
