"""A consensus learns how far heads and measurement are to be trusted, and changes nothing that was not measured."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import minimize
from torch import Tensor

from voxmoe.errors import WeightsError
from voxmoe.model.consensus import BELIEF, FILE, Consensus
from voxmoe.model.heads import SIZES, probabilities
from voxmoe.vocabulary import CLASSES, EXCLUSIVE_TASKS, NOT_ASKED, REGIONS, Task

LABELS = ("ET", "RC")


def said(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return probabilities({name: torch.randn(count, size, generator=generator) for name, size in SIZES.items()})


def answers(count: int, seed: int, asked: bool = True) -> dict[str, Tensor]:
    """Targets as the heads have them: a class of each task, regions named at random."""
    generator = np.random.default_rng(seed)
    found = {
        str(task): torch.from_numpy(generator.integers(1, len(CLASSES[task]), count) * asked)
        for task in EXCLUSIVE_TASKS
    }
    entries = np.zeros((count, len(CLASSES[Task.REGION])), int)
    entries[:, : len(REGIONS)] = generator.integers(0, 2, (count, len(REGIONS))) * asked
    entries[:, CLASSES[Task.REGION].index(NOT_ASKED)] = not asked
    return {**found, str(Task.REGION): torch.from_numpy(entries)}


def taught(
    labels: list[str], chances: dict[str, Tensor], measured: dict[str, Tensor], right: dict[str, Tensor]
) -> Consensus:
    consensus = Consensus(LABELS)
    consensus.learn(chances, measured, labels, right)
    return consensus


def believed(chances: dict[str, Tensor], measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of tasks that are certainly asked: what was measured is e to the `BELIEF` times as likely as the heads say."""
    found = {task: chances[task].clone() for task in EXCLUSIVE_TASKS}
    for task, votes in found.items():
        votes[torch.arange(len(votes)), measured[task]] *= math.exp(BELIEF)
        votes /= votes.sum(dim=1, keepdim=True)
    return found


def test_before_it_has_learnt_a_measurement_speaks_for_itself() -> None:
    chances, measured = said(20), answers(20, 1)
    for task in EXCLUSIVE_TASKS:
        chances[task][:, 0] = 0
        chances[task] /= chances[task].sum(dim=1, keepdim=True)
    weighed = Consensus(LABELS)(chances, measured, ["ET"] * 20)
    assert weighed.keys() == chances.keys()
    for task, values in believed(chances, measured).items():
        torch.testing.assert_close(weighed[task], values)
    torch.testing.assert_close(weighed["out_of_scope"], chances["out_of_scope"])
    odds = torch.logit(weighed[Task.REGION][:, 0].double()) - torch.logit(chances[Task.REGION][:, 0].double())
    asked = chances[Task.REGION][:, CLASSES[Task.REGION].index(NOT_ASKED)] <= 0.5
    expected = torch.where(measured[Task.REGION][:, 0] == 1, BELIEF, -BELIEF)
    torch.testing.assert_close(odds[asked], expected[asked].double(), atol=1e-4, rtol=1e-4)


def test_what_was_never_measured_in_learning_still_counts() -> None:
    """No study of those that taught it had so much of the label: the measurement speaks for itself."""
    truth = answers(300, 1)
    truth["volume"] = truth["volume"].clamp(max=3)
    consensus = taught(["ET"] * 300, said(300), truth, truth)
    chances = said(20, seed=5)
    chances["volume"] = torch.full_like(chances["volume"], 1 / 7)
    chances["volume"][:, 0] = 0
    measured = answers(20, 2)
    measured["volume"] = torch.full_like(measured["volume"], 6)
    weighed = consensus(chances, measured, ["ET"] * 20)["volume"]
    assert (weighed.argmax(dim=1) == 6).all()


def test_what_was_not_measured_stays_as_the_heads_say_it() -> None:
    truth = answers(50, 1)
    consensus = taught(["ET"] * 50, said(50), truth, truth)
    chances = said(10, seed=5)
    weighed = consensus(chances, answers(10, 2, asked=False), ["ET"] * 10)
    for name, values in chances.items():
        assert torch.equal(weighed[name], values)


def test_whether_a_task_is_asked_the_heads_alone_decide() -> None:
    truth = answers(50, 1)
    consensus = taught(["ET"] * 50, said(50), truth, truth)
    chances = said(200, seed=5)
    weighed = consensus(chances, answers(200, 2), ["RC"] * 200)
    for task in EXCLUSIVE_TASKS:
        asked = chances[task].argmax(dim=1) != 0
        assert 0 < asked.sum() < 200
        assert torch.equal(weighed[task].argmax(dim=1) != 0, asked)
        assert torch.equal(weighed[task][~asked], chances[task][~asked])
        torch.testing.assert_close(weighed[task].sum(dim=1), torch.ones(200))
    last = CLASSES[Task.REGION].index(NOT_ASKED)
    silent = chances[Task.REGION][:, last] > 0.5
    assert torch.equal(weighed[Task.REGION][:, last], chances[Task.REGION][:, last])
    assert torch.equal(weighed[Task.REGION][silent], chances[Task.REGION][silent])
    assert not torch.equal(weighed[Task.REGION][~silent], chances[Task.REGION][~silent])
    assert torch.equal(weighed["out_of_scope"], chances["out_of_scope"])


def test_a_measurement_that_is_right_is_followed_and_one_that_is_always_wrong_is_read_as_such() -> None:
    """Of label ET the measurement is right; of RC it is one class too high, which is as good once it is known."""
    count = 600
    truth, labels = answers(count, 1), ["ET", "RC"] * (count // 2)
    measured = {name: values.clone() for name, values in truth.items()}
    off = torch.tensor([label == "RC" for label in labels])
    for task in EXCLUSIVE_TASKS:
        classes = len(CLASSES[task]) - 1
        measured[task][off] = truth[task][off] % classes + 1
    consensus = taught(labels, said(count), measured, truth)
    chances = said(count, seed=9)
    for task in EXCLUSIVE_TASKS:
        chances[task][:, 0] = 0
    weighed = consensus(chances, measured, labels)
    for task in EXCLUSIVE_TASKS:
        assert (weighed[task][:, 1:].argmax(dim=1) + 1 == truth[task]).float().mean() > 0.98
    unknown = consensus(chances, measured, ["SNFH"] * count)
    shape = unknown[Task.SHAPE][:, 1:].argmax(dim=1) + 1
    assert (shape == truth[Task.SHAPE]).float().mean() < 0.8


def test_noise_is_not_followed() -> None:
    count = 2000
    truth, chances = answers(count, 1), said(count)
    for task in EXCLUSIVE_TASKS:  # heads that are right half of the time, and know it
        sure = torch.zeros(count, SIZES[task]).scatter(1, truth[task][:, None], 1.0)
        chances[task] = 0.5 * sure + 0.5 * chances[task]
    weighed = taught(["ET"] * count, chances, answers(count, 7), truth)(chances, answers(count, 8), ["ET"] * count)
    for task in EXCLUSIVE_TASKS:
        heads = (chances[task].argmax(dim=1) == truth[task]).float().mean()
        assert (weighed[task].argmax(dim=1) == truth[task]).float().mean() > heads - 0.02


def test_what_is_learnt_is_the_optimum_of_the_penalised_likelihood() -> None:
    """Written out sample by sample, and found by another optimiser from another start."""
    count, task = 40, Task.SPREAD
    size = len(CLASSES[task]) - 1
    truth, measured, chances = answers(count, 1), answers(count, 2), said(count)
    labels = ["ET", "RC", "SNFH", "RC"] * (count // 4)
    pool = taught(labels, chances, measured, truth).parts[task]

    def penalised(flat: np.ndarray) -> float:
        trust, shared, own = flat[0], flat[1 : 1 + size**2].reshape(size, size), flat[1 + size**2 :]
        votes = {"ET": own[: size**2].reshape(size, size), "RC": own[size**2 :].reshape(size, size)}
        total = ((trust - 1) ** 2 + ((shared - BELIEF * np.eye(size)) ** 2).sum() + (own**2).sum()) / 2
        for row, label in enumerate(labels):
            told, right = int(measured[task][row]) - 1, int(truth[task][row]) - 1
            heads = chances[task][row, 1:].double().numpy()
            logits = trust * np.log(heads / heads.sum()) + shared[told] + (votes[label][told] if label in votes else 0)
            total -= logits[right] - np.log(np.exp(logits).sum())
        return float(total)

    start = np.random.default_rng(0).normal(size=1 + 3 * size**2)
    expected = minimize(penalised, start, method="BFGS").x
    found = torch.cat([pool.trust.view(1), pool.shared.flatten(), pool.own.flatten()]).double().numpy()
    assert np.allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("where", ["measured", "asked"])
def test_without_anything_to_learn_from_it_stays_as_it_is(where: str) -> None:
    nothing, something = answers(10, 1, asked=False), answers(10, 2)
    pair = (nothing, something) if where == "measured" else (something, nothing)
    consensus = taught(["ET"] * 10, said(10), *pair)
    for pool in consensus.parts.values():
        assert pool.trust == 1
        assert torch.equal(pool.shared, BELIEF * torch.eye(len(pool.shared)))
        assert not pool.own.any()


def test_it_is_kept_beside_a_model(tmp_path: Path) -> None:
    assert Consensus.beside(tmp_path) is None
    truth = answers(50, 1)
    consensus = taught(["ET"] * 50, said(50), truth, truth)
    consensus.save(tmp_path)
    again = Consensus.beside(tmp_path)
    assert again is not None
    assert again.labels == LABELS
    for name, tensor in consensus.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        Consensus.beside(tmp_path)
    save_file({"trust": torch.ones(1)}, tmp_path / FILE, {"labels": "[]"})
    with pytest.raises(WeightsError, match="not a consensus of this version"):
        Consensus.beside(tmp_path)
