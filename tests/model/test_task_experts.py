"""Task experts in every family's tower: nothing at the start, then what a loop over the tokens computes; volumes go
where their prompts or tasks send them; what is counted is what was done."""

import copy
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from image_text import KINDS, make_model, make_volumes
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode
from transformers import Idefics3ForConditionalGeneration

from voxmoe.errors import WeightsError
from voxmoe.model.adaptation import Adaptation, AdaptationSettings, adapt
from voxmoe.model.language import LoraSettings, add_lora
from voxmoe.model.routing import Passed, Routing, TaskRouter, Usage, mean_embedding
from voxmoe.model.slices import Volumes, seeing
from voxmoe.model.task_experts import MlpShape, TaskExperts, TaskExpertSettings, add_experts, expert_cost
from voxmoe.model.towers import TOWERS
from voxmoe.vocabulary import CTTask

P = 12
"""Width of the tiny language models' embeddings."""
CLOSE = {"atol": 2e-4, "rtol": 2e-3}
SMALL = TaskExpertSettings(blocks=2, experts=2, rank=3)
COPY = TaskExpertSettings(blocks=2, experts=2, kind="copy")
SOFT = TaskExpertSettings(blocks=2, experts=2, rank=3, soft=True)

every_kind = pytest.mark.parametrize("name", KINDS)
every_way = pytest.mark.parametrize("experts", [SMALL, COPY, SOFT], ids=["low-rank", "copy", "soft"])
every_mlp = pytest.mark.parametrize("name", ["llava", "internvl", "qwen2_5_vl"])


def guided(name: str, experts: TaskExpertSettings = SMALL, layers: Any = "last-third", seed: int = 0) -> Adaptation:
    model = make_model(name)
    torch.manual_seed(seed)
    return adapt(model, AdaptationSettings(layers=layers), experts)


def awake(name: str, experts: TaskExpertSettings = SMALL, layers: Any = "last-third", seed: int = 0) -> Adaptation:
    """With experts and routers that matter."""
    reader = guided(name, experts, layers, seed)
    with torch.no_grad():
        for key, parameter in reader.model.named_parameters():
            if is_new(key):
                nn.init.normal_(parameter, std=0.4)
    return reader


def is_new(key: str) -> bool:
    return ".mlp.experts." in key or key.startswith("task_router.")


def make_prompts(count: int, seed: int = 5) -> Tensor:
    return torch.randn(count, P, generator=torch.Generator().manual_seed(seed))


def to_groups(reader: Adaptation, *groups: int) -> Routing:
    return reader.task_router.teach(make_prompts(len(groups)), torch.tensor(groups))


def probed(tokens: Tensor) -> Tensor:
    return (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))).sum()


def reached(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


# ------------------------------------------------------------------------------------------------- what stays as it was


@every_kind
@every_way
@torch.no_grad()
def test_the_second_stage_starts_at_exactly_the_function_of_the_first(name: str, experts: TaskExpertSettings) -> None:
    volumes = make_volumes(name, 3, 2)
    expected = adapt(make_model(name)).features(volumes).tokens
    reader = guided(name, experts)
    assert torch.equal(reader.features(volumes).tokens, expected)
    routing = reader.route(make_prompts(3))
    assert torch.equal(reader.features(volumes, routing=routing).tokens, expected)
    assert len(routing.passed) == experts.blocks


@every_kind
@torch.no_grad()
def test_without_a_routing_the_model_is_the_one_without_experts(name: str) -> None:
    volumes, reader, plain = make_volumes(name, 1, 3), awake(name), adapt(make_model(name))
    guided_tokens = reader.features(volumes, routing=to_groups(reader, 1)).tokens
    expected = plain.features(volumes).tokens
    assert (guided_tokens - expected).abs().amax() > 1e-2
    assert torch.equal(reader.features(volumes).tokens, expected)
    single = KINDS[name].images
    assert torch.equal(single(reader.model, volumes[0]), single(plain.model, volumes[0]))


@every_kind
@every_way
def test_pretrained_weights_keep_names_and_values(name: str, experts: TaskExpertSettings) -> None:
    model = make_model(name)
    before, parameters = copy.deepcopy(model.state_dict()), dict(model.named_parameters())
    after = adapt(model, experts=experts).model.state_dict()
    assert [key for key in after if not is_new(key)] == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    found = {key: parameter for key, parameter in model.named_parameters() if not is_new(key)}
    assert found.keys() == parameters.keys()
    assert all(found[key] is parameter for key, parameter in parameters.items())


@every_kind
def test_the_last_blocks_that_are_read_have_experts(name: str) -> None:
    kind, reader = KINDS[name], guided(name)
    expected = [kind.read - 2, kind.read - 1]
    assert [block.layer for block in reader.blocks] == expected
    layers = list(reader.tower.get_submodule(TOWERS[type(reader.tower.config).model_type].layers).children())
    assert [number for number, layer in enumerate(layers) if hasattr(layer.mlp, "experts")] == expected
    assert [layers[number].mlp.experts for number in expected] == list(reader.blocks)


@every_way
@torch.no_grad()
def test_all_that_is_learned_is_in_the_state_dict(experts: TaskExpertSettings) -> None:
    volumes, prompts = make_volumes("llava", 2, 2), make_prompts(2)
    first, second = awake("llava", experts), guided("llava", experts, seed=7)
    first.task_router.calibrate(make_prompts(9, seed=8))
    second.model.load_state_dict(first.model.state_dict(), strict=True)
    found = [reader.features(volumes, routing=reader.route(prompts)).tokens for reader in (first, second)]
    assert torch.equal(*found)
    twin = copy.deepcopy(first.model)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in first.model.state_dict().items())


@torch.no_grad()
def test_what_is_saved_holds_the_experts_and_the_model_that_it_was(tmp_path: Path) -> None:
    reader = awake("idefics3")
    reader.model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) >= {key for key in reader.model.state_dict() if is_new(key)}
    again = adapt(Idefics3ForConditionalGeneration.from_pretrained(tmp_path).eval())
    volumes = make_volumes("idefics3", 1, 2)
    assert torch.equal(again.features(volumes).tokens, reader.features(volumes).tokens)


# ------------------------------------------------------------------------------------------------------ the loop oracle


def looped(experts: TaskExperts, x: Tensor, routing: Routing, depths: list[int]) -> Tensor:
    """Token by token, group by group."""
    owner = [volume for volume, depth in enumerate(depths) for _ in range(depth)]
    slices = []
    for s, tokens in enumerate(x):
        rows = []
        for token in tokens:
            out = torch.zeros_like(token)
            for group, weight in zip(routing.groups[owner[s]], routing.weights[owner[s]], strict=True):
                probabilities = torch.stack([token @ w for w in experts.router[group]]).softmax(dim=0)
                best = int(probabilities.argmax())
                module: Any = experts.groups[int(group)]
                out = out + weight * probabilities[best] * module[best](token[None])[0]
            rows.append(out)
        slices.append(torch.stack(rows))
    return torch.stack(slices)


def balanced(experts: TaskExperts, x: Tensor, routing: Routing, depths: list[int]) -> Tensor:
    """The load-balance loss from its definition."""
    owner = torch.arange(len(depths)).repeat_interleave(torch.tensor(depths))
    losses = []
    for group, router in enumerate(experts.router):
        tokens = x[(routing.groups[owner] == group).any(dim=1)].flatten(0, 1)
        if len(tokens):
            probabilities = (tokens @ router.T).softmax(dim=1)
            shares = F.one_hot(probabilities.argmax(dim=1), len(router)).double().mean(dim=0)
            losses.append(len(router) * (shares * probabilities.mean(dim=0)).sum())
    return torch.stack(losses).mean()


@every_mlp
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["low-rank", "copy"])
@pytest.mark.parametrize("groups", [[2, 0, 1], [1, 1, 1]], ids=["mixed", "two groups empty"])
def test_dispatch_equals_a_loop_over_the_tokens(name: str, kind: Any, soft: bool, groups: list[int]) -> None:
    reader = awake(name, TaskExpertSettings(blocks=1, experts=3, rank=3, kind=kind, soft=soft))
    experts, depths = reader.blocks[0].double(), [2, 1, 3]
    tasks = torch.tensor(groups)
    found = []
    for oracle in (False, True):
        x = torch.randn(6, 5, 16, dtype=torch.double, generator=torch.Generator().manual_seed(2)).requires_grad_()
        prompt = make_prompts(3).double().requires_grad_()
        router = copy.deepcopy(reader.task_router).double()
        routing = router.blend(prompt, tasks) if soft else router.teach(prompt, tasks)
        experts.zero_grad()
        if oracle:
            out, balance = looped(experts, x, routing, depths), balanced(experts, x, routing, depths)
        else:
            out = experts(x, Volumes(depths, torch.arange(6.0), routing=routing))
            balance = routing.balance
        (probed(out.float()).double() + (out**2).sum() + 3 * balance + routing.task_loss).backward()
        gradients = {key: p.grad for key, p in experts.named_parameters()}
        gradients |= {key: p.grad for key, p in router.named_parameters()} | {"x": x.grad, "prompt": prompt.grad}
        found.append((out, balance, gradients))
    ours, expected = found
    exact = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(ours[0], expected[0], **exact)
    torch.testing.assert_close(ours[1], expected[1], **exact)
    for key, gradient in ours[2].items():
        wanted = torch.zeros_like(gradient) if expected[2][key] is None else expected[2][key]
        torch.testing.assert_close(gradient, wanted, **exact, msg=key)


@every_kind
@pytest.mark.parametrize("layers", ["none", "all"])
@torch.no_grad()
def test_every_block_adds_what_the_loop_says_to_its_own_mlp(name: str, layers: Any) -> None:
    reader, depths = awake(name, layers=layers), [2, 1]
    seen: list[tuple[Any, Tensor, Tensor]] = []
    for layer in reader.tower.modules():
        if isinstance(getattr(layer, "experts", None), TaskExperts):
            layer.register_forward_hook(lambda mlp, args, out: seen.append((mlp, args[0], out)))
    routing = to_groups(reader, 2, 0)
    present = torch.tensor([[True, True], [False, True]])
    reader.features(make_volumes(name, 2, 2), present=present, routing=routing)
    assert len(seen) == 2
    for mlp, x, out in tuple(seen):  # the hook stays
        added = looped(mlp.experts, x.reshape(3, -1, x.shape[-1]), routing, depths)
        torch.testing.assert_close(out, mlp(x) + added.view_as(out), **CLOSE)


# ------------------------------------------------------------------------------------------------------ who goes where


@every_kind
@every_way
@torch.no_grad()
def test_a_batch_of_mixed_tasks_is_its_volumes_one_by_one(name: str, experts: TaskExpertSettings) -> None:
    reader, volumes, prompts = awake(name, experts), make_volumes(name, 3, 3), make_prompts(3)
    present = torch.tensor([[True] * 3, [True, False, True], [False, True, False]])
    routing = reader.route(prompts)
    together = reader.features(volumes, present=present, routing=routing)
    for i, volume in enumerate(volumes):
        places = present[i].nonzero().flatten()
        alone = reader.route(prompts[i : i + 1])
        tokens = reader.features(volume[places][None], places[None], routing=alone).tokens[0]
        torch.testing.assert_close(together.tokens[i, : len(places)], tokens, **CLOSE)
        assert torch.equal(alone.groups[0], routing.groups[i])


ASKED = torch.tensor([1, 0, 1, 1])
"""Which of three volumes of different depth each of four tasks is about: one is asked about several times, one not."""
TASKS = (0, 2, 1, 0)
DEPTHS = torch.tensor([[True] * 3, [True, False, True], [False, True, False]])


def asked(reader: Adaptation, name: str, at_once: bool) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor | None]]:
    """Tokens, usage and gradients for what is asked about the volumes, each seen once or for every task anew."""
    reader.model.requires_grad_(True)
    pixels = make_volumes(name, 3, 3).requires_grad_()
    routing = reader.route(make_prompts(len(TASKS)), torch.tensor(TASKS))
    if at_once:
        seen = reader.features(pixels, None, DEPTHS, routing, ASKED)
    else:
        seen = reader.features(pixels[ASKED], None, DEPTHS[ASKED], routing)
    (probed(seen.tokens) + 30 * reader.routing_loss(routing)).backward()
    assert pixels.grad is not None
    gradients = {key: parameter.grad for key, parameter in reader.model.named_parameters()}
    return seen.tokens, routing.usage.counts, pixels.grad, gradients


@every_kind
@pytest.mark.parametrize("experts", [SMALL, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("layers", ["none", "last-third", "all"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_volume_for_several_tasks_is_seen_as_for_each_anew(
    name: str, experts: TaskExpertSettings, layers: Any, checkpointed: bool
) -> None:
    found = []
    for at_once in (True, False):
        reader = awake(name, experts, layers)
        reader.model.train()
        if checkpointed:
            reader.model.activation_checkpointing_enable({"use_reentrant": False})
        found.append(asked(reader, name, at_once))
    torch.testing.assert_close(found[0][:3], found[1][:3], **CLOSE)
    for key, gradient in found[1][3].items():
        torch.testing.assert_close(found[0][3][key], gradient, atol=2e-3, rtol=2e-3, msg=key)


@every_kind
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_what_comes_before_the_experts_sees_a_volume_once(name: str, attention: str) -> None:
    """All maps of the lower layers, and those of the attention before the first experts."""
    reader = adapt(make_model(name, attn_implementation=attention), experts=SMALL)
    place = TOWERS[type(reader.tower.config).model_type]
    rows: dict[tuple[int, str], set[int]] = {}
    for number, layer in enumerate(reader.tower.get_submodule(place.layers)):
        for key, module in layer.named_modules():
            if isinstance(module, nn.Linear) and ".experts." not in key:
                found = rows.setdefault((number, key.partition(".")[0]), set())
                module.register_forward_pre_hook(
                    lambda module, args, found=found: found.add(args[0].numel() // module.in_features)
                )
    reader.features(make_volumes(name, 3, 3), None, DEPTHS, reader.route(make_prompts(len(TASKS))), ASKED)
    first = KINDS[name].read - SMALL.blocks
    (many,) = rows[first, "mlp"]
    for (number, part), found in rows.items():
        alike = number < first or (number == first and part == place.attention)
        assert found == ({many * 5 // 9} if alike else {many} if number < KINDS[name].read else found)


@every_kind
@torch.no_grad()
def test_another_task_changes_its_own_volume_alone(name: str) -> None:
    reader, volumes = awake(name), make_volumes(name, 3, 2)
    before = reader.features(volumes, routing=to_groups(reader, 0, 0, 2)).tokens
    after = reader.features(volumes, routing=to_groups(reader, 0, 1, 2)).tokens
    moved = (after - before).abs().amax(dim=(1, 2, 3))
    assert moved[1] > 1e-2
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], **CLOSE)
    assert torch.equal(reader.features(volumes, routing=to_groups(reader, 0, 1, 2)).tokens, after)


@torch.no_grad()
def test_the_task_router_is_one_linear_map_of_what_is_standardised() -> None:
    router, sample = TaskRouter(P, 3), 5 + 2 * make_prompts(40)
    prompts = sample[:4]
    torch.testing.assert_close(router(prompts), router.linear(prompts))
    router.calibrate(sample)
    expected = router.linear((prompts - sample.mean(dim=0)) / sample.std(dim=0))
    torch.testing.assert_close(router(prompts), expected)
    chosen = router.choose(prompts)
    assert chosen.groups.flatten().tolist() == expected.argmax(dim=1).tolist()
    assert chosen.weights.tolist() == [[1.0]] * 4
    blended = router.blend(prompts)
    assert blended.groups.tolist() == [[0, 1, 2]] * 4
    torch.testing.assert_close(blended.weights, expected.softmax(dim=1))
    tasks = torch.tensor([2, 0, 1, 1])
    taught = router.teach(prompts, tasks)
    assert taught.groups.flatten().tolist() == tasks.tolist()
    picked = expected.log_softmax(dim=1)[torch.arange(4), tasks]
    for routing in (taught, router.choose(prompts, tasks), router.blend(prompts, tasks)):
        torch.testing.assert_close(routing.task_loss, -picked.mean())


@pytest.mark.parametrize(("teacher", "training", "taught"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_the_true_task_leads_in_training_alone(teacher: bool, training: bool, taught: bool) -> None:
    reader = guided("llava", TaskExpertSettings(blocks=1, teacher=teacher))
    reader.model.train(training)
    with torch.no_grad():
        reader.task_router.linear.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
    tasks = torch.tensor([0, 1])
    found = reader.route(make_prompts(2), tasks).groups.flatten().tolist()
    assert found == ([0, 1] if taught else [2, 2])
    if taught:
        with pytest.raises(ValueError, match="volumes go to the experts of their true tasks: give them"):
            reader.route(make_prompts(2))
    else:
        reader.route(make_prompts(2))


def test_a_soft_choice_teaches_the_task_router_by_what_it_makes_of_the_volumes() -> None:
    reader = awake("llava", SOFT)
    routing = reader.route(make_prompts(2))
    probed(reader.features(make_volumes("llava", 2, 2), routing=routing).tokens).backward()
    assert reached(reader.task_router) == {"linear.weight", "linear.bias"}
    hard = awake("llava")
    probed(hard.features(make_volumes("llava", 2, 2), routing=hard.route(make_prompts(2))).tokens).backward()
    assert not reached(hard.task_router)


def test_the_task_router_learns_tasks_from_prompts() -> None:
    torch.manual_seed(0)
    router, centres = TaskRouter(P, 3), 3 * torch.randn(3, P)
    tasks = torch.arange(60) % 3
    prompts = 100 + centres[tasks] + torch.randn(60, P)
    router.calibrate(prompts)
    optimiser = torch.optim.Adam(router.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        router.teach(prompts, tasks).task_loss.backward()
        optimiser.step()
    assert router.choose(prompts).groups.flatten().tolist() == tasks.tolist()


def test_the_mean_embedding_is_that_of_the_tokens_that_are_there() -> None:
    embedded, mask = torch.randn(2, 4, P), torch.tensor([[True, True, False, False], [True] * 4])
    found = mean_embedding(embedded, mask)
    torch.testing.assert_close(found, torch.stack([embedded[0, :2].mean(0), embedded[1].mean(0)]))
    assert mean_embedding(embedded.bfloat16(), mask).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------- learning


@every_kind
@pytest.mark.parametrize("experts", [SMALL, COPY], ids=["low-rank", "copy"])
def test_the_second_stage_trains_experts_and_routers(name: str, experts: TaskExpertSettings) -> None:
    reader = awake(name, experts)
    model = reader.model.train()
    add_lora(model.get_decoder(), LoraSettings(rank=2, alpha=4, dropout=0.0))
    learning = reader.learn_experts()
    assert learning == [key for key, _ in model.named_parameters() if is_new(key)]
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    routing = reader.route(make_prompts(3), torch.tensor([0, 1, 2]))
    sequence = reader.features(make_volumes(name, 3, 4), routing=routing).fused.tokens
    out = model.get_decoder()(inputs_embeds=sequence, use_cache=False).last_hidden_state
    (probed(out) + reader.routing_loss(routing)).backward()
    idle = tuple(
        f".{layer}.mlp.experts.groups.{group}.{expert}."
        for layer, counts in zip(routing.usage.blocks, routing.usage.counts, strict=True)
        for group, expert in (counts == 0).nonzero().tolist()
    )
    expected = {key for key in learning if not any(place in key for place in idle)}
    assert len(idle) <= 1
    assert reached(model) == expected
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad), "processes wait for all gradients"
    optimiser.step()
    assert {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])} == expected


@every_kind
def test_the_first_stage_leaves_experts_as_they_are(name: str) -> None:
    assert guided(name).learn_shared() == adapt(make_model(name)).learn_shared()


def test_both_stages_in_one() -> None:
    reader = guided("llava")
    assert set(reader.learn_together()) == {*reader.learn_shared(), *reader.learn_experts()}


@every_mlp
@pytest.mark.parametrize("kind", ["low-rank", "copy"])
def test_experts_learn_from_the_start(name: str, kind: Any) -> None:
    """The last map first: it is zero, so nothing passes to what is before it."""
    reader = guided(name, TaskExpertSettings(blocks=2, experts=1, rank=3, groups=1, kind=kind))
    learning = reader.learn_experts()
    probed(reader.features(make_volumes(name, 1, 2), routing=to_groups(reader, 0)).tokens).backward()
    last = "up" if kind == "low-rank" else TOWERS[type(reader.tower.config).model_type].last
    assert reached(reader.model) == {key for key in learning if f".{last}." in key}


@every_kind
@pytest.mark.parametrize(("layers", "experts"), [("none", SMALL), ("last-third", SOFT)])
def test_checkpointed_blocks_give_the_same_gradients(name: str, layers: Any, experts: TaskExpertSettings) -> None:
    """Also if another volume is seen meanwhile, and if the backward pass runs in another thread."""
    found = []
    for checkpointed in (False, True):
        reader = awake(name, experts, layers)
        model = reader.model.train()
        reader.learn_together()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        passes: list[None] = []
        for block in reader.blocks:
            block.register_forward_pre_hook(lambda *_, passes=passes: passes.append(None))
        pixels = make_volumes(name, 2, 3).requires_grad_()
        routing = reader.route(make_prompts(2), torch.tensor([2, 0]))
        loss = probed(reader.features(pixels, routing=routing).tokens) + 30 * reader.routing_loss(routing)
        passed = dict(routing.passed)
        with seeing(Volumes([5], torch.arange(5.0), routing=to_groups(reader, 1))):
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        assert len(passes) == 2 + 2 * checkpointed
        assert all(routing.passed[layer] is first for layer, first in passed.items()), "not counted again"
        found.append(
            (loss.detach(), routing.usage.counts, pixels.grad, {key: p.grad for key, p in model.named_parameters()})
        )
    torch.testing.assert_close(found[1][:3], found[0][:3], **CLOSE)
    for key, gradient in found[0][3].items():
        if gradient is not None:
            torch.testing.assert_close(found[1][3][key], gradient, atol=2e-3, rtol=2e-3, msg=key)


def test_checkpoints_that_lose_the_balance_loss_are_refused() -> None:
    reader = awake("llava")
    reader.model.train().activation_checkpointing_enable({"use_reentrant": True})
    routing = reader.route(make_prompts(1), torch.tensor([1]))
    reader.features(make_volumes("llava", 1, 2).requires_grad_(), routing=routing)
    with pytest.raises(ValueError, match="checkpoint with use_reentrant=False"):
        reader.routing_loss(routing)
    reader.model.eval()
    assert reader.routing_loss(routing) > 0


# ------------------------------------------------------------------------------------------------------------ precision


@every_kind
@every_way
@torch.no_grad()
def test_in_half_precision(name: str, experts: TaskExpertSettings) -> None:
    model = make_model(name).bfloat16()
    reader = adapt(model, experts=experts)
    routing = reader.route(make_prompts(2).bfloat16(), torch.tensor([0, 1]))
    assert reader.features(make_volumes(name, 2, 3), routing=routing).tokens.dtype == torch.bfloat16
    new = {key: p.dtype for key, p in model.named_parameters() if is_new(key)}
    assert {dtype for key, dtype in new.items() if key.startswith("task_router.")} == {torch.float32}
    assert {dtype for key, dtype in new.items() if not key.startswith("task_router.")} == {torch.bfloat16}
    assert reader.routing_loss(routing).dtype == torch.float32


@every_mlp
@every_way
def test_under_autocast_routers_choose_in_single_precision(name: str, experts: TaskExpertSettings) -> None:
    block, router = (reader := awake(name, experts)).blocks[0], reader.task_router
    x, prompts, tasks = torch.randn(3, 5, 16), make_prompts(3), torch.tensor([0, 2, 1])
    outs, routings = [], []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            routings.append(router.blend(prompts, tasks) if experts.soft else router.teach(prompts, tasks))
            outs.append(block(x, Volumes([1, 1, 1], torch.zeros(3), routing=routings[-1])))
            loss = outs[-1].float().sum() + reader.routing_loss(routings[-1])
        loss.backward()
    assert torch.equal(routings[0].logits, routings[1].logits)
    assert torch.equal(routings[0].usage.counts, routings[1].usage.counts)
    assert torch.equal(routings[0].balance, routings[1].balance)
    assert outs[1].dtype == torch.bfloat16
    torch.testing.assert_close(outs[1].float(), outs[0], atol=0.1, rtol=0.1)


@every_kind
def test_a_whole_model_under_autocast(name: str) -> None:
    reader = awake(name)
    reader.learn_experts()
    with torch.autocast("cpu", torch.bfloat16):
        routing = reader.route(make_prompts(2), torch.tensor([0, 1]))
        tokens = reader.features(make_volumes(name, 2, 2), routing=routing).tokens
        loss = probed(tokens.float()) + reader.routing_loss(routing)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in reader.model.parameters() if p.grad is not None)
    assert reader.blocks[0].router.grad is not None


# ---------------------------------------------------------------------------------------------------- balance and usage


def test_balance_is_one_where_load_and_probabilities_are_even_and_at_most_the_number_of_experts() -> None:
    def balance(counts: list[list[int]], sums: list[list[float]]) -> list[float]:
        return Passed(torch.tensor(counts), torch.tensor(sums)).balance.tolist()

    assert balance([[5, 5, 5, 5]], [[5.0, 5.0, 5.0, 5.0]]) == pytest.approx([1])
    assert balance([[20, 0, 0, 0]], [[20.0, 0.0, 0.0, 0.0]]) == pytest.approx([4])
    assert balance([[20, 0, 0, 0]], [[5.0, 5.0, 5.0, 5.0]]) == pytest.approx([1])
    assert balance([[3, 1], [0, 0]], [[2.4, 1.6], [0.0, 0.0]]) == pytest.approx([2 * (0.75 * 0.6 + 0.25 * 0.4)])


def test_balance_is_the_mean_over_blocks_and_groups_in_use() -> None:
    routing = TaskRouter(P, 2).choose(make_prompts(1))
    routing.passed[5] = Passed(torch.tensor([[4, 0], [2, 2]]), torch.tensor([[4.0, 0.0], [2.0, 2.0]]))
    routing.passed[4] = Passed(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    torch.testing.assert_close(routing.balance, torch.tensor((2 + 1 + 1) / 3))


def test_less_balance_loss_is_a_more_even_load() -> None:
    block = awake("llava", TaskExpertSettings(blocks=1, groups=1, experts=4)).blocks[0]
    x = torch.randn(4, 40, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    optimiser, most = torch.optim.Adam([block.router], lr=0.03), []
    for _ in range(40):
        routing = TaskRouter(P, 1).choose(make_prompts(1))
        block(x, Volumes([4], torch.arange(4.0), routing=routing))
        most.append(routing.usage.shares.max())
        optimiser.zero_grad()
        routing.balance.backward()
        optimiser.step()
    assert most[-1] < 0.35 < most[0]


@every_kind
@torch.no_grad()
def test_usage_counts_the_tokens_of_each_volume_where_they_went(name: str) -> None:
    reader, volumes = awake(name), make_volumes(name, 2, 3)
    present = torch.tensor([[True] * 3, [True, False, False]])
    routing = to_groups(reader, 2, 0)
    reader.features(volumes, present=present, routing=routing)
    usage = routing.usage
    assert usage.blocks == (KINDS[name].read - 2, KINDS[name].read - 1)
    by_group = usage.counts.sum(dim=2)
    assert torch.equal(by_group[0], by_group[1])
    assert by_group[0, 1] == 0
    assert by_group[0, 2] == 3 * by_group[0, 0] > 0
    torch.testing.assert_close(usage.shares.sum(dim=2), torch.tensor([[1.0, 0.0, 1.0]] * 2))


def test_usage_of_several_passes() -> None:
    first = Usage((3, 4), torch.tensor([[[4, 0]], [[3, 1]]]))
    total = first + Usage((3, 4), torch.tensor([[[0, 4]], [[0, 0]]]))
    assert total.counts.tolist() == [[[4, 4]], [[3, 1]]]
    torch.testing.assert_close(total.shares, torch.tensor([[[0.5, 0.5]], [[0.75, 0.25]]]))
    mixed = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    torch.testing.assert_close(total.entropy, torch.tensor([[math.log(2)], [mixed]]))
    assert Usage((3,), torch.zeros(1, 1, 2, dtype=torch.long)).entropy.tolist() == [[0.0]]
    with pytest.raises(ValueError, match=r"usage of layers \(3, 4\) and of \(1,\) cannot be added up"):
        first + Usage((1,), torch.zeros(1, 1, 2, dtype=torch.long))


# ----------------------------------------------------------------------------------------------------------------- cost


@every_kind
@every_way
@torch.no_grad()
def test_cost_is_what_is_counted(name: str, experts: TaskExpertSettings) -> None:
    reader, volumes = awake(name, experts), make_volumes(name, 1, 3)

    def flops(routed: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            routing = reader.route(make_prompts(1)) if routed else None
            reader.features(volumes, routing=routing)
        return counter.get_total_flops()

    routing = reader.route(make_prompts(1))
    reader.features(volumes, routing=routing)
    tokens = int(routing.usage.counts[0].sum()) // routing.groups.shape[1]
    cost = reader.expert_cost(tokens)
    assert cost.parameters == sum(p.numel() for key, p in reader.model.named_parameters() if is_new(key))
    assert cost.flops == flops(True) - flops(False)


def test_low_rank_experts_of_a_large_tower_add_little() -> None:
    """Of the size of SigLIP's so400m, which has 27 layers and 0.4 billion parameters."""
    shape = MlpShape(width=1152, inner=4304, maps=2)
    low, copies = (expert_cost(TaskExpertSettings(kind=kind), shape, 2560, 64 * 256) for kind in ("low-rank", "copy"))
    assert low.parameters < 0.005 * 0.4e9
    assert copies.parameters > 0.4e9


# ------------------------------------------------------------------------------------------------- settings and errors


def test_groups_are_the_tasks() -> None:
    assert TaskExpertSettings().groups == len(CTTask)


@pytest.mark.parametrize(
    "wrong", [{"blocks": 0}, {"groups": 0}, {"experts": 0}, {"kind": "dense"}, {"rank": 0}, {"balance": -1}, {"top": 2}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TaskExpertSettings.model_validate(wrong)


def test_more_blocks_than_are_read_are_refused_before_anything_is_changed() -> None:
    model = make_model("llava")
    with pytest.raises(WeightsError, match="6 blocks are to have experts, but features come from 5 layers"):
        adapt(model, experts=TaskExpertSettings(blocks=6))
    adapt(model, experts=TaskExpertSettings(blocks=5))


def test_a_tower_has_experts_once() -> None:
    reader = guided("llava", layers="none")
    with pytest.raises(WeightsError, match="clip_vision_model: layer 3 has experts already: adapt a model once"):
        add_experts(reader.tower, SMALL, KINDS["llava"].read)
    with pytest.raises(WeightsError, match="is adapted already: adapt a model once"):
        adapt(reader.model, AdaptationSettings(layers="all"))


def test_what_needs_experts_says_so() -> None:
    reader, routing = adapt(make_model("llava")), to_groups(guided("llava"), 0)
    for call in (
        lambda: reader.route(make_prompts(1)),
        lambda: reader.features(make_volumes("llava", 1, 2), routing=routing),
        lambda: reader.expert_cost(10),
        lambda: reader.learn_experts(),
    ):
        with pytest.raises(WeightsError, match="this model has no task experts: adapt it with TaskExpertSettings"):
            call()


def test_a_routing_is_of_one_batch_and_used_once() -> None:
    reader = guided("llava")
    routing = to_groups(reader, 0, 1)
    with pytest.raises(ValueError, match="the routing is one of 2 volumes, the batch has 1"):
        reader.features(make_volumes("llava", 1, 2), routing=routing)
    reader.features(make_volumes("llava", 2, 2), routing=routing)
    with pytest.raises(ValueError, match="this routing was used already"):
        reader.features(make_volumes("llava", 2, 2), routing=routing)


def test_tasks_that_are_no_groups_are_refused() -> None:
    reader = guided("llava")
    for wrong in ([0, 3], [-100, 0]):
        with pytest.raises(ValueError, match=r"tasks are numbers from 0 to 2, one for each group of experts; got \["):
            reader.route(make_prompts(2), torch.tensor(wrong))


def test_what_is_not_known_yet_is_said() -> None:
    routing = guided("llava").route(make_prompts(1))
    with pytest.raises(ValueError, match="compute features first"):
        _ = routing.balance
    with pytest.raises(ValueError, match="compute features first"):
        _ = routing.usage
    with pytest.raises(ValueError, match="needs the true tasks"):
        _ = routing.task_loss
