"""Connectors of other systems: the tokens of each modality, one after the other."""

import pytest
import torch

from voxmoe.model.concatenation import LlavaMedSettings, M3DSettings, Med3DVLMSettings, RadFMSettings
from voxmoe.model.connector import ConnectorSettings, make_connector
from voxmoe.model.dcformer import DCFormerSettings
from voxmoe.model.features import VisionFeatures
from voxmoe.model.vision import VisionSettings

B, M, O = 2, 4, 8  # noqa: E741
VIT = VisionSettings(grid=(4, 4, 6), patch=(2, 2, 2), pool=(1, 1, 1), hidden=6, layers=1, heads=2, mlp=8)
TWO = DCFormerSettings(grid=(16, 16, 32), channels=(2, 3, 5), blocks=(1, 1), kernels=(3, 3))
SYSTEMS = [
    (LlavaMedSettings(), VIT, 12),
    (M3DSettings(), VIT, 12),
    (RadFMSettings(latents=3, layers=2, heads=2, head_width=4), VIT, 3),
    (Med3DVLMSettings(high_tokens=(4, 2), low_tokens=(9, 5)), TWO, 7),
]


def features(vision: VisionSettings | DCFormerSettings, present: torch.Tensor) -> VisionFeatures:
    torch.manual_seed(1)
    low = torch.randn(B, M, TWO.low_tokens, TWO.low_hidden) if vision is TWO else None
    return VisionFeatures(
        torch.randn(B, M, vision.tokens, vision.hidden), torch.randn(B, M, vision.hidden), present, low
    )


@pytest.mark.parametrize(("settings", "vision", "length"), SYSTEMS)
def test_modalities_follow_each_other_and_missing_ones_are_masked(
    settings: ConnectorSettings, vision: VisionSettings | DCFormerSettings, length: int
) -> None:
    torch.manual_seed(0)
    connector = make_connector(settings, M, vision, O)
    seen = features(vision, torch.tensor([[True] * 4, [True, False, True, True]]))
    fused = connector(seen)
    assert fused.weights is None
    assert fused.tokens.shape == (B, M * length, O)
    assert torch.equal(fused.mask.view(B, M, length), seen.present[:, :, None].expand(-1, -1, length))
    for m in range(M):
        streams = [stream[:, m] for stream in (seen.tokens, seen.low) if stream is not None]
        alone = connector.projection(*streams)
        torch.testing.assert_close(fused.tokens[:, m * length : (m + 1) * length], alone)


def test_llava_med_is_one_linear_layer_and_m3d_two() -> None:
    one, two = (make_connector(settings, M, VIT, O) for settings in (LlavaMedSettings(), M3DSettings()))
    assert sum(p.numel() for p in one.parameters()) == (VIT.hidden + 1) * O
    assert sum(p.numel() for p in two.parameters()) == (VIT.hidden + 1) * O + (O + 1) * O


def test_two_streams_need_an_encoder_and_features_that_have_them() -> None:
    with pytest.raises(ValueError, match=r"encoder vit does not give: set vision\.kind to dcformer"):
        make_connector(Med3DVLMSettings(), M, VIT, O)
    connector = make_connector(Med3DVLMSettings(), M, TWO, O)
    seen = features(TWO, torch.ones(B, M, dtype=torch.bool))
    with pytest.raises(ValueError, match="give `low` with `tokens`"):
        connector(VisionFeatures(seen.tokens, seen.cls, seen.present))
