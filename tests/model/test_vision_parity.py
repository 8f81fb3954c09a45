"""The encoder against MONAI's ViT, which M3D-CLIP was trained with: the same weights, the same tokens."""

import warnings
from typing import Any

import pytest
import torch

from voxmoe.model.vision import VisionEncoder, VisionSettings

SMALL = VisionSettings(grid=(4, 8, 16), patch=(2, 2, 4), pool=(1, 2, 2), hidden=12, layers=2, heads=3, mlp=24)
DEEP = VisionSettings(grid=(8, 32, 64), patch=(4, 16, 16), pool=(1, 2, 2), hidden=48, layers=12, heads=12, mlp=192)
ADDED = ("norm_cross_attn",)
"""What MONAI has in a block from 1.4 on, and M3D-CLIP has not; it is not used without a context."""


@pytest.fixture(scope="module")
def monai_vit() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import ViT
    return ViT


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SMALL, DEEP], ids=["small", "deep"])
def test_cls_and_patch_tokens_equal_those_of_monai(settings: VisionSettings, monai_vit: Any) -> None:
    torch.manual_seed(0)
    theirs = monai_vit(
        in_channels=1,
        img_size=settings.grid,
        patch_size=settings.patch,
        hidden_size=settings.hidden,
        mlp_dim=settings.mlp,
        num_layers=settings.layers,
        num_heads=settings.heads,
        proj_type="perceptron",
        classification=True,
    ).eval()
    del theirs.classification_head
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not any(part in name for part in ADDED)}
    ours = VisionEncoder(settings).eval()
    ours.load_state_dict(state)
    volume = torch.rand(2, 1, *settings.grid)
    with torch.no_grad():
        tokens, _ = theirs(volume)
        (cls, _, _), patches = ours.patch_features(volume)
    torch.testing.assert_close(cls, tokens[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(patches, tokens[:, 1:], atol=1e-5, rtol=1e-5)
