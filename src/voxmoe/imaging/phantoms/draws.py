"""Single random draws, as plain numbers that go into a file unchanged."""

import numpy as np

from voxmoe.imaging.phantoms.geometry import Point

Rng = np.random.Generator


def uniform(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def triple(rng: Rng, low: float, high: float) -> Point:
    return uniform(rng, low, high), uniform(rng, low, high), uniform(rng, low, high)


def lognormal(rng: Rng, median: float, sigma: float, low: float, high: float) -> float:
    return float(np.clip(median * np.exp(sigma * rng.standard_normal()), low, high))


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def draw_seed(rng: Rng) -> int:
    return int(rng.integers(2**32))
