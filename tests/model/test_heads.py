"""Heads and their losses against the formulas."""

import torch

from voxmoe.model.heads import SIZES, TaskHeads, head_losses, probabilities
from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.encoding import encode


def test_sizes_are_those_of_the_protocol() -> None:
    assert SIZES == {"volume": 8, "region": 11, "shape": 7, "spread": 5, "out_of_scope": 2}


def test_losses_are_cross_entropies() -> None:
    torch.manual_seed(0)
    logits = TaskHeads(6)(torch.randn(3, 6))
    encoded = [
        encode(Kind.IN_SCOPE, {Task.VOLUME: ["5-10%"], Task.REGION: ["frontal", "brainstem"]}),
        encode(Kind.PARTIAL, {Task.SPREAD: ["scattered lesions"]}),
        encode(Kind.OUT_OF_SCOPE, {}),
    ]
    targets = {name: torch.tensor([row[name] for row in encoded]) for name in SIZES}
    losses = head_losses(logits, targets)
    for name in ("volume", "shape", "spread", "out_of_scope"):
        chosen = logits[name].softmax(-1)[torch.arange(3), targets[name]]
        torch.testing.assert_close(losses[name], -chosen.log().mean())
    p = torch.sigmoid(logits["region"])
    y = targets["region"].float()
    torch.testing.assert_close(losses["region"], -(y * p.log() + (1 - y) * (1 - p).log()).mean())


def test_weights_multiply_each_term() -> None:
    torch.manual_seed(0)
    logits = TaskHeads(6)(torch.randn(3, 6))
    encoded = [encode(Kind.IN_SCOPE, {Task.VOLUME: ["5-10%"]}), encode(Kind.OUT_OF_SCOPE, {})]
    targets = {name: torch.tensor([row[name] for row in [*encoded, encoded[0]]]) for name in SIZES}
    weights = {name: torch.rand(targets[name].shape) for name in SIZES}
    losses = head_losses(logits, targets, weights)
    alone = [
        head_losses({n: v[i : i + 1] for n, v in logits.items()}, {n: v[i : i + 1] for n, v in targets.items()})
        for i in range(3)
    ]
    for name in ("volume", "shape", "spread", "out_of_scope"):
        expected = sum(weights[name][i] * alone[i][name] for i in range(3)) / 3
        torch.testing.assert_close(losses[name], expected)
    p, y = torch.sigmoid(logits["region"]), targets["region"].float()
    terms = -(y * p.log() + (1 - y) * (1 - p).log())
    torch.testing.assert_close(losses["region"], (terms * weights["region"]).mean())
    ones = {name: torch.ones(targets[name].shape) for name in SIZES}
    assert head_losses(logits, targets, ones) == head_losses(logits, targets)


def test_probabilities_sum_to_one_but_for_regions() -> None:
    chances = probabilities(TaskHeads(6)(torch.randn(2, 6)))
    for name, values in chances.items():
        if name == "region":
            assert ((values > 0) & (values < 1)).all()
        else:
            torch.testing.assert_close(values.sum(dim=-1), torch.ones(2))
