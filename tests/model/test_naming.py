"""Tissues put into words: the loss against its terms one by one, and tokens that learn to lie where the names are."""

import math

import pytest
import torch

from voxmoe.errors import WeightsError
from voxmoe.model.naming import LEAST, Naming, rarity

NAMES = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))


def weights_of(shares: torch.Tensor) -> list[list[float]]:
    """Of 2 x 2 tokens: by the rarest label that is there."""
    there = (shares.reshape(2, 3, 2, 2, 2, 2).sum(dim=(3, 5)) / LEAST).clamp(max=1).flatten(2).transpose(1, 2).tolist()
    often = [sum(token[label] for one in there for token in one) / 8 for label in range(3)]
    rare = [[max(1.0, *(t / o**0.5 for t, o in zip(token, often, strict=True))) for token in one] for one in there]
    mean = sum(map(sum, rare)) / 8
    return [[weight / mean for weight in one] for one in rare]


def test_a_label_that_is_rarer_counts_for_more_up_to_a_limit() -> None:
    there = torch.zeros(100, 100, 2)
    there[:, :50, 0] = there[0, 0, 1] = 1
    weights = rarity(there)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[0, 1] / weights[1, 99]).item() == pytest.approx(2**0.5)
    assert (weights[0, 0] / weights[1, 99]).item() == pytest.approx(1000**0.5)
    there[0, 0, 1] = 0.5
    assert (rarity(there)[0, 0] / rarity(there)[1, 99]).item() == pytest.approx(0.5 * 1000**0.5)
    assert torch.equal(rarity(torch.zeros(2, 3, 4)), torch.ones(2, 3))


def test_the_loss_is_that_of_its_terms() -> None:
    """Two slices of 4 x 4 patches, 2 x 2 tokens."""
    generator = torch.Generator().manual_seed(1)
    naming, tokens = Naming(NAMES), torch.randn(2, 4, 32, generator=generator)
    shares = torch.rand(2, 3, 16, generator=generator) * (torch.rand(2, 3, 16, generator=generator) < 0.1) * 0.05
    logits, total, weights = naming(tokens).tolist(), 0.0, weights_of(shares)
    for one in range(2):
        for token in range(4):
            top, left = divmod(token, 2)
            weight = weights[one][token]
            for label in range(3):
                patches = [(2 * top + down) * 4 + 2 * left + along for down in (0, 1) for along in (0, 1)]
                there = min(1.0, sum(float(shares[one, label, patch]) for patch in patches) / LEAST)
                sure = 1 / (1 + math.exp(-logits[one][token][label]))
                total -= weight * (there * math.log(sure) + (1 - there) * math.log(1 - sure))
    assert naming.loss(tokens, shares).item() == pytest.approx(0.2 * total / 8, rel=1e-4)


def test_tokens_learn_to_lie_towards_the_names_of_what_they_show() -> None:
    naming = Naming(NAMES)
    tokens = torch.zeros(1, 4, 32, requires_grad=True)
    shares = torch.zeros(1, 3, 16)
    shares[0, 0, [0, 1]] = 0.5
    shares[0, 2, [2, 3]] = 0.5
    optimiser = torch.optim.Adam([tokens], lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        naming.loss(tokens, shares).backward()
        optimiser.step()
    nearest = (tokens[0] @ (NAMES - NAMES.mean(dim=0)).T).argmax(dim=1)
    assert nearest[:2].tolist() == [0, 2]
    assert (naming(tokens)[0, 2:] < 0).all()


def test_its_directions_come_from_the_language_model_and_are_not_saved() -> None:
    assert set(Naming(NAMES).state_dict()) == {"sharpness", "bias"}


@pytest.mark.parametrize(("patches", "tokens"), [(15, 4), (16, 3), (16, 9)])
def test_patches_that_make_up_no_tokens_are_refused(patches: int, tokens: int) -> None:
    with pytest.raises(WeightsError, match=f"cover {patches} patches of a slice, .* no square of {tokens} tokens"):
        Naming(NAMES).loss(torch.zeros(1, tokens, 32), torch.zeros(1, 3, patches))
