"""Connectors of other systems: the tokens of each modality, one after the other."""

import pytest
import torch

from voxmoe.model.concatenation import LlavaMedSettings, M3DSettings
from voxmoe.model.connector import ConnectorSettings, make_connector
from voxmoe.model.features import VisionFeatures

B, M, T, K, O = 2, 4, 6, 5, 7  # noqa: E741


@pytest.mark.parametrize("settings", [LlavaMedSettings(), M3DSettings()])
def test_modalities_follow_each_other_and_missing_ones_are_masked(settings: ConnectorSettings) -> None:
    torch.manual_seed(0)
    connector = make_connector(settings, M, K, O)
    present = torch.tensor([[True] * 4, [True, False, True, True]])
    features = VisionFeatures(torch.randn(B, M, T, K), torch.randn(B, M, K), present)
    fused = connector(features)
    length = fused.tokens.shape[1] // M
    assert fused.weights is None
    assert torch.equal(fused.mask.view(B, M, length), present[:, :, None].expand(-1, -1, length))
    for m in range(M):
        alone = connector.projection(features.tokens[:, m])
        torch.testing.assert_close(fused.tokens[:, m * length : (m + 1) * length], alone)


def test_llava_med_is_one_linear_layer_and_m3d_two() -> None:
    assert sum(p.numel() for p in make_connector(LlavaMedSettings(), M, K, O).parameters()) == (K + 1) * O
    assert sum(p.numel() for p in make_connector(M3DSettings(), M, K, O).parameters()) == (K + 1) * O + (O + 1) * O
