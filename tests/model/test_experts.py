"""Equation (1) by its algebra against equation (1) term by term, as printed."""

from itertools import product

import pytest
import torch
from torch import Tensor

from voxmoe.model.experts import ExpertConnector, ExpertProjector, ExpertSettings, SingleConnector
from voxmoe.model.features import VisionFeatures

M, T, K, O = 4, 6, 5, 7  # noqa: E741


def term_by_term(
    experts: ExpertProjector, tokens: Tensor, cls: Tensor, present: Tensor, weights: Tensor, prompt: Tensor
) -> Tensor:
    """sum_n pi_n sum_m g W_nm(v_m) + (1 - g) W_n(v_m), one linear map after the other, over the modalities present."""
    by_study, by_token = experts.gates(tokens, cls, present, prompt)
    settings = experts.settings
    out = torch.zeros(len(tokens), T, O, dtype=tokens.dtype)
    for b, n in product(range(len(tokens)), range(settings.count)):
        modality_level = n < settings.modality_level
        for m in present[b].nonzero().flatten().tolist():
            gate = by_study[b, n, m] if modality_level else by_token[b, :, n - settings.modality_level, m, None]
            own = tokens[b, m] @ experts.specific[n, m] + experts.specific_bias[n, m]
            shared = tokens[b, m] @ experts.shared[n] + experts.shared_bias[n]
            rescale = M / present[b].sum()
            out[b] = out[b] + weights[b, n] * rescale * (gate * own + (1 - gate) * shared)
    return out


PRESENT = [[True] * 4, [False, True, True, False], [False, False, False, True]]


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("prompt", ["weights", "gates", "nowhere"])
@pytest.mark.parametrize(("modality_level", "token_level"), [(3, 2), (4, 0), (0, 3), (1, 0), (0, 1)])
def test_algebra_equals_the_sum_in_outputs_and_gradients(
    gate: str, prompt: str, modality_level: int, token_level: int
) -> None:
    torch.manual_seed(1)
    settings = ExpertSettings(
        modality_level=modality_level, token_level=token_level, router_hidden=8, gate=gate, prompt=prompt
    )
    experts = ExpertProjector(settings, M, K, O).double()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    present = torch.tensor(PRESENT)
    tokens = torch.randn(3, M, T, K, dtype=torch.double, requires_grad=True)
    cls = torch.randn(3, M, K, dtype=torch.double, requires_grad=True)
    weights = torch.rand(3, settings.count, dtype=torch.double, requires_grad=True)
    asked = torch.randn(3, O, dtype=torch.double, requires_grad=True)
    probe = torch.randn(3, T, O, dtype=torch.double)
    wanted = (tokens, cls, weights, asked, *experts.parameters())
    outputs, gradients = [], []
    for form in (experts, lambda *inputs: term_by_term(experts, *inputs)):
        out = form(tokens, cls, present, weights, asked)
        outputs.append(out)
        gradients.append(torch.autograd.grad((out * probe).sum(), wanted, allow_unused=True))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-10, rtol=1e-8)
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_one_expert_with_equal_maps_is_a_linear_layer() -> None:
    torch.manual_seed(2)
    experts = ExpertProjector(ExpertSettings(modality_level=1, token_level=0), 1, K, O)
    with torch.no_grad():
        experts.shared.copy_(experts.specific[:, 0])
        experts.specific_bias.normal_()
        experts.shared_bias.copy_(experts.specific_bias[:, 0])
    tokens = torch.randn(2, 1, T, K)
    out = experts(tokens, torch.randn(2, 1, K), torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 1))
    linear = torch.nn.functional.linear(tokens[:, 0], experts.specific[0, 0].T, experts.specific_bias[0, 0])
    torch.testing.assert_close(out, linear)


def test_softmax_gates_share_among_the_modalities_present() -> None:
    experts = ExpertProjector(ExpertSettings(modality_level=2, token_level=2, gate="softmax"), M, K, O)
    by_study, by_token = experts.gates(torch.randn(3, M, T, K), torch.randn(3, M, K), torch.tensor(PRESENT))
    torch.testing.assert_close(by_study.sum(dim=-1), torch.ones(3, 2))
    torch.testing.assert_close(by_token.sum(dim=-1), torch.ones(3, T, 2))
    assert not by_study[1, :, [0, 3]].any()


def features(seed: int = 4) -> VisionFeatures:
    generator = torch.Generator().manual_seed(seed)
    return VisionFeatures(
        torch.randn(3, M, T, K, generator=generator), torch.randn(3, M, K, generator=generator), torch.tensor(PRESENT)
    )


def test_the_prompt_enters_where_the_settings_say() -> None:
    torch.manual_seed(3)
    prompts = torch.randn(2, 3, O)
    for place in ("weights", "gates", "nowhere"):
        connector = ExpertConnector(ExpertSettings(router_hidden=8, prompt=place), M, K, O)
        one, other = (connector(features(), prompt if connector.reads_prompt else None) for prompt in prompts)
        torch.testing.assert_close(one.weights.sum(dim=1), torch.ones(3))
        assert torch.equal(one.weights, other.weights) == (place != "weights")
        assert torch.equal(one.tokens, other.tokens) == (place == "nowhere")
        assert one.mask.all()


def test_a_single_map_is_the_mean_over_what_is_there_times_the_modalities() -> None:
    torch.manual_seed(5)
    single, seen = SingleConnector(M, K, O), features()
    parts = single.linear.weight.view(O, M, K)
    found = single(seen).tokens
    for row, present in enumerate(seen.present):
        maps = [seen.tokens[row, m] @ parts[:, m].T for m in present.nonzero().flatten()]
        expected = M * torch.stack(maps).mean(dim=0) + single.linear.bias
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


def test_no_expert_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ExpertSettings(modality_level=0, token_level=0)
