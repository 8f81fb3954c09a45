"""Equation (1) by its algebra against equation (1) term by term, as printed."""

from itertools import product

import pytest
import torch
from torch import Tensor

from voxmoe.model.experts import (
    ExpertConnector,
    ExpertProjector,
    ExpertSettings,
    PromptRouter,
    SingleConnector,
    entropy,
    load,
)
from voxmoe.model.features import VisionFeatures

M, T, K, O = 4, 6, 5, 7  # noqa: E741


def term_by_term(experts: ExpertProjector, seen: VisionFeatures, weights: Tensor, prompt: Tensor) -> Tensor:
    """sum_n pi_n sum_m g W_nm(v_m) + (1 - g) W_n(v_m), one linear map after the other, over the modalities present."""
    gates = experts.gates(seen, prompt)
    tokens, present = seen.tokens, seen.present
    out = torch.zeros(len(tokens), T, O, dtype=tokens.dtype)
    for b in range(len(tokens)):
        first = 0
        for name, level in experts.levels.items():
            for n, m in product(range(len(level.maps)), present[b].nonzero().flatten().tolist()):
                gate = gates[name][b, :, n, m, None]
                own = tokens[b, m] @ level.maps[n, m] + level.biases[n, m]
                shared = tokens[b, m] @ level.maps[n, M] + level.biases[n, M]
                rescale = M / present[b].sum()
                out[b] = out[b] + weights[b, first + n] * rescale * (gate * own + (1 - gate) * shared)
            first += len(level.maps)
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
    tokens = torch.randn(3, M, T, K, dtype=torch.double, requires_grad=True)
    cls = torch.randn(3, M, K, dtype=torch.double, requires_grad=True)
    weights = torch.rand(3, settings.count, dtype=torch.double, requires_grad=True)
    asked = torch.randn(3, O, dtype=torch.double, requires_grad=True)
    probe = torch.randn(3, T, O, dtype=torch.double)
    wanted = (tokens, cls, weights, asked, *experts.parameters())
    seen = VisionFeatures(tokens, cls, torch.tensor(PRESENT))
    outputs, gradients = [], []
    for form in (experts, lambda *inputs: term_by_term(experts, *inputs)):
        out = form(seen, weights, asked)
        outputs.append(out)
        gradients.append(torch.autograd.grad((out * probe).sum(), wanted, allow_unused=True))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-10, rtol=1e-8)
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def written_out(connector: ExpertConnector, gate: str, seen: VisionFeatures, prompt: Tensor) -> Tensor:
    """Equation (1) from the parameters alone, routers and gates among them, one study, expert and modality after the
    other."""
    read = connector.standardise(prompt)
    levels = connector.projector.levels
    modalities, tokens_of_study = seen.tokens.shape[1:3]
    fused = []
    for b in range(len(prompt)):
        shown = [m for m in range(modalities) if seen.present[b, m]]
        if isinstance(connector.router, PromptRouter):
            first, _, last = connector.router.layers
            scores = last.weight @ torch.relu(first.weight @ read[b] + first.bias) + last.bias
        else:
            scores = connector.router.logits
        weights = scores.exp() / scores.exp().sum()
        place, sums = 0, [0.0] * tokens_of_study
        for name, level in levels.items():
            routers = level.gates
            hidden = len(routers.inner.weight) // len(level.maps)
            for n in range(len(level.maps)):
                rows = slice(n * hidden, (n + 1) * hidden)
                for t in range(tokens_of_study):
                    looked_at = seen.cls[b] if name == "modality" else seen.tokens[b, :, t]
                    zeroed = torch.cat([row if m in shown else 0 * row for m, row in enumerate(looked_at)])
                    inner = routers.inner.weight[rows] @ zeroed + routers.inner.bias[rows]
                    if routers.prompted is not None:
                        inner = inner + routers.prompted.weight[rows] @ read[b]
                    logits = torch.relu(inner) @ routers.outer[n] + routers.outer_bias[n]
                    if gate == "softmax":
                        gates = logits.exp() / sum(logits[m].exp() for m in shown)
                    else:
                        gates = 1 / (1 + (-logits).exp())
                    for m in shown:
                        own = seen.tokens[b, m, t] @ level.maps[n, m] + level.biases[n, m]
                        shared = seen.tokens[b, m, t] @ level.maps[n, modalities] + level.biases[n, modalities]
                        term = gates[m] * own + (1 - gates[m]) * shared
                        sums[t] = sums[t] + weights[place] * modalities / len(shown) * term
                place += 1
        fused.append(torch.stack(sums))
    return torch.stack(fused)


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("prompt", ["weights", "gates", "nowhere"])
@pytest.mark.parametrize(("modality_level", "token_level"), [(2, 1), (2, 0), (0, 2)])
@pytest.mark.parametrize(("modalities", "tokens", "width", "out"), [(4, 2, 3, 5), (3, 4, 6, 2)])
def test_the_connector_is_the_equation_written_out_for_every_subset_of_the_modalities(
    gate: str,
    prompt: str,
    modality_level: int,
    token_level: int,
    modalities: int,
    tokens: int,
    width: int,
    out: int,
) -> None:
    torch.manual_seed(4)
    settings = ExpertSettings(
        modality_level=modality_level, token_level=token_level, router_hidden=3, gate=gate, prompt=prompt
    )
    connector = ExpertConnector(settings, modalities, width, out).double()
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    present = torch.tensor(list(product([True, False], repeat=modalities))[:-1])
    images = torch.randn(len(present), modalities, tokens, width, dtype=torch.double, requires_grad=True)
    cls = torch.randn(len(present), modalities, width, dtype=torch.double, requires_grad=True)
    asked = torch.randn(len(present), out, dtype=torch.double, requires_grad=True)
    connector.calibrate(asked.detach())
    seen = VisionFeatures(images, cls, present)
    probe = torch.randn(len(present), tokens, out, dtype=torch.double)
    wanted = (images, cls, asked, *connector.parameters())
    ours, theirs = connector(seen, asked).tokens, written_out(connector, gate, seen, asked)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)  # M / present is a float32
    by_us, by_them = (torch.autograd.grad((made * probe).sum(), wanted, allow_unused=True) for made in (ours, theirs))
    for one, other in zip(by_us, by_them, strict=True):
        if one is None or other is None:
            assert all(each is None or not each.any() for each in (one, other))
        else:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_one_expert_with_equal_maps_is_a_linear_layer() -> None:
    torch.manual_seed(2)
    experts = ExpertProjector(ExpertSettings(modality_level=1, token_level=0), 1, K, O)
    level = experts.levels["modality"]
    with torch.no_grad():
        level.maps[:, 1] = level.maps[:, 0]
        level.biases[:] = torch.randn(O)
    tokens = torch.randn(2, 1, T, K)
    out = experts(VisionFeatures(tokens, torch.randn(2, 1, K), torch.ones(2, 1, dtype=torch.bool)), torch.ones(2, 1))
    linear = torch.nn.functional.linear(tokens[:, 0], level.maps[0, 0].T, level.biases[0, 0])
    torch.testing.assert_close(out, linear)


def test_softmax_gates_share_among_the_modalities_present() -> None:
    experts = ExpertProjector(ExpertSettings(modality_level=2, token_level=2, gate="softmax"), M, K, O)
    gates = experts.gates(features())
    torch.testing.assert_close(gates["modality"].sum(dim=-1), torch.ones(3, 1, 2))
    torch.testing.assert_close(gates["token"].sum(dim=-1), torch.ones(3, T, 2))
    assert not gates["modality"][1, ..., [0, 3]].any()


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


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("prompt", ["weights", "nowhere"])
@pytest.mark.parametrize(("modality_level", "token_level"), [(2, 3), (2, 0), (0, 2)])
def test_mixing_what_was_projected_once_is_the_same_as_projecting_for_each_question(
    gate: str, prompt: str, modality_level: int, token_level: int
) -> None:
    torch.manual_seed(6)
    settings = ExpertSettings(
        modality_level=modality_level, token_level=token_level, router_hidden=8, gate=gate, prompt=prompt
    )
    connector = ExpertConnector(settings, M, K, O).double()
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    seen = VisionFeatures(features().tokens.double(), features().cls.double(), features().present)
    outputs = connector.project(seen)
    assert outputs.shape == (3, settings.count, T, O)
    for question in torch.randn(2, 3, O, dtype=torch.double):
        asked = question if connector.reads_prompt else None
        mixed, computed = connector.mix(outputs, asked), connector(seen, asked)
        torch.testing.assert_close(mixed.tokens, computed.tokens, atol=1e-10, rtol=1e-8)
        assert torch.equal(mixed.weights, computed.weights)
        assert mixed.mask.all()


def test_nothing_is_projected_ahead_where_the_prompt_enters_the_gates() -> None:
    connector = ExpertConnector(ExpertSettings(router_hidden=8, prompt="gates"), M, K, O)
    assert not connector.projects_ahead
    with pytest.raises(ValueError, match="depends on the question"):
        connector.project(features())


def test_autocast_keeps_gates_and_sums_in_single_precision() -> None:
    torch.manual_seed(7)
    experts = ExpertProjector(ExpertSettings(modality_level=2, token_level=2, router_hidden=8), M, 32, 16)
    seen = VisionFeatures(torch.randn(2, M, T, 32), torch.randn(2, M, 32), torch.ones(2, M, dtype=torch.bool))
    weights = torch.rand(2, 4, requires_grad=True)
    wanted = (weights, *experts.parameters())
    exact = experts(seen, weights)
    exact_gradients = torch.autograd.grad(exact.square().sum(), wanted)
    exact = exact.detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = experts(seen, weights)
        gates = experts.gates(seen)
        inside = torch.autograd.grad(rounded.square().sum(), wanted, retain_graph=True)
        half = VisionFeatures(seen.tokens.bfloat16(), seen.cls.bfloat16(), seen.present)
        assert experts(half, weights).dtype == torch.float32
    assert rounded.dtype == torch.float32
    assert all(gate.dtype == torch.float32 for gate in gates.values())
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02 * float(exact.abs().max()), rtol=0)
    outside = torch.autograd.grad(rounded.square().sum(), wanted)
    for ours, theirs in zip(outside, exact_gradients, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=0.03 * float(theirs.abs().max()), rtol=0)
    for one, other in zip(inside, outside, strict=True):
        torch.testing.assert_close(one, other, atol=0.01 * float(other.abs().max()), rtol=0)


def test_nothing_that_grows_with_the_experts_is_kept_for_the_backward_pass() -> None:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    sizes = []
    for count in (2, 8):
        torch.manual_seed(8)
        experts = ExpertProjector(ExpertSettings(modality_level=count, token_level=count, router_hidden=1), M, 64, 32)
        seen = VisionFeatures(torch.randn(1, M, 64, 64), torch.randn(1, M, 64), torch.ones(1, M, dtype=torch.bool))
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = experts(seen, torch.rand(1, 2 * count))
        parameters = {parameter.untyped_storage().data_ptr() for parameter in experts.parameters()}
        sizes.append(sum(size for place, size in kept.items() if place not in parameters))
        del out
    assert sizes[1] < 1.5 * sizes[0]


def test_entropy_and_load_of_the_experts() -> None:
    one, alike = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.full((4,), 0.25)
    torch.testing.assert_close(entropy(torch.stack([one, alike])), torch.tensor([0.0, 4.0]).clamp(min=1).log())
    torch.testing.assert_close(load(torch.stack([one, alike])), torch.tensor([0.125, 0.625, 0.125, 0.125]))


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
