"""Full grids of factors."""

from __future__ import annotations

import numpy as np


def grid(*sizes: int) -> np.ndarray:
    """Every combination of classes once: (N, K)."""
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
