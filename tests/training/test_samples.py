"""The order of training rows, and batches made of them."""

import numpy as np

from voxmoe.training.samples import LengthSampler

LENGTHS = np.random.default_rng(0).integers(20, 300, 1003).tolist()


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    sampler = LengthSampler(LENGTHS, 8, seed=3)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    assert sorted(first) == list(range(1003))
    assert first == again
    assert first != list(sampler)
    assert first != list(LengthSampler(LENGTHS, 8, seed=4))


def test_batches_hold_rows_of_about_the_same_length() -> None:
    order = list(LengthSampler(LENGTHS, 8, seed=3))
    batches = np.array(LENGTHS)[order[:1000]].reshape(125, 8)
    padding = 1 - batches.mean() / batches.max(axis=1).mean()
    shuffled = np.random.default_rng(1).permutation(LENGTHS)[:1000].reshape(125, 8)
    assert padding < 0.06 < 0.25 < 1 - shuffled.mean() / shuffled.max(axis=1).mean()
    assert abs(np.corrcoef(np.arange(125), batches.mean(axis=1))[0, 1]) < 0.3
