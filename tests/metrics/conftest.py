"""Codes whose scores are known beforehand, over a full grid of factors."""

from __future__ import annotations

import numpy as np
import pytest
from grids import grid


@pytest.fixture(scope="session")
def factors() -> np.ndarray:
    """Five values each of two factors that can be rotated into each other, and four of a third, ten times over."""
    return np.tile(grid(5, 5, 4), (10, 1))


@pytest.fixture(scope="session")
def perfect(factors) -> np.ndarray:
    """Each factor in a unit of its own, centred."""
    return factors - factors.mean(axis=0)


@pytest.fixture(scope="session")
def rotated(perfect) -> np.ndarray:
    """The first two units turned by 45°, the third dropped."""
    return perfect[:, :2] @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1_000, 3))


@pytest.fixture(scope="session")
def constant() -> np.ndarray:
    return np.full((1_000, 3), 0.7)


@pytest.fixture(scope="session")
def noisy(perfect) -> np.ndarray:
    return perfect + np.random.default_rng(1).normal(size=perfect.shape)
