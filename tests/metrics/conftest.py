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


@pytest.fixture(scope="session")
def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Units of any scale and classes of any names and counts; one unit and one factor are constant."""
    rng = np.random.default_rng(7)
    n = 400
    first, second, third = (
        rng.choice(3, n, p=[0.6, 0.3, 0.1]),
        rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1]),
        rng.integers(2, size=n),
    )
    noise = rng.normal(size=(n, 5))
    codes = np.stack(
        (
            first + 0.4 * noise[:, 0],
            10.0 * second + 6.0 * noise[:, 1] - 30.0,
            second - third + 0.5 * noise[:, 2],
            np.full(n, 0.7),
            0.2 * first + 0.3 * third + 0.2 * noise[:, 4],
        ),
        axis=1,
    )
    return codes, np.stack((np.array([-3, 7, 100])[first], np.full(n, 5), second, 1 - third), axis=1)
