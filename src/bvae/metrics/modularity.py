from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.mutual_information import check_bins, mutual_information


def modularity(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """The modularity of Ridgeway & Mozer (2018), arXiv:1802.05312.

    For each unit, 1 less the mean squared mutual information with all factors but its main one, over that with the
    main one; averaged over the units. Protocol of Locatello et al. (2019), arXiv:1811.12359: posterior means in 20
    equal bins; a unit without any information counts 0.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, of which two or more vary.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each unit follows one factor only, by however little: a unit at the prior
    counts as much as any other, and what a few rows tell of it is chance. Raises ValueError for NaN, for shapes that
    don't fit, where fewer than two factors vary, and for fewer rows than bins or than two for each value of a factor.
    """
    codes, factors = check(codes, factors)
    (factors,) = varying(factors)
    if factors.shape[1] < 2:
        raise ValueError("modularity compares factors, and only one varies")
    check_bins(factors, num_bins)
    squared = mutual_information(codes, factors, num_bins) ** 2
    most = squared.max(axis=1)
    others = (squared.sum(axis=1) - most) / (factors.shape[1] - 1)
    informed = most > 1e-24  # of rounding's making otherwise
    return float(np.where(informed, 1 - others / np.where(informed, most, 1.0), 0.0).mean())


class Modularity(CodesMetric):
    """`modularity` as a torchmetric."""

    def __init__(self, num_bins: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_bins = num_bins

    def protocol(self, n: int) -> str:
        return (
            f"Ridgeway & Mozer 2018: posterior means in {self.num_bins} equal bins from minimum to maximum, "
            "1 less the mean squared mutual information with a unit's other factors over that with its main one, "
            "mean over all units"
        )

    def score(self, codes: Codes) -> float:
        return modularity(codes.mean, codes.factors, self.num_bins)
