from __future__ import annotations

import numpy as np


class SharedValues:
    """Draws rows of a table that share one factor's value with given rows, by index and without touching the codes.

    Args:
        factors: (N, K) int.
    """

    def __init__(self, factors: np.ndarray) -> None:
        self._factors = []
        for factor in factors.T:
            _, labels, counts = np.unique(factor, return_inverse=True, return_counts=True)
            order = np.argsort(labels, kind="stable")
            self._factors.append((order, labels, np.cumsum(counts) - counts, counts))

    def draw(self, factor: int, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """For each of the rows one whose factor has the same value, drawn evenly with replacement: the same shape."""
        order, labels, starts, counts = self._factors[factor]
        labels = labels[rows]
        return order[starts[labels] + generator.integers(counts[labels])]
