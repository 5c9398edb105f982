from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.metric import Codes
from bvae.metrics.mutual_information import BinnedMetric, information_table


def modularity(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """The modularity of Ridgeway & Mozer (2018), arXiv:1802.05312.

    For each unit, 1 − the mean squared mutual information with all factors but its main one, over that with the
    main one; averaged over the units. Protocol of Locatello et al. (2019), arXiv:1811.12359: posterior means in 20
    equal bins; a unit without any information counts 0.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, or float for continuous ones, which are binned too; two or more vary.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each unit follows one factor only, by however little: a unit at the prior
    counts as much as any other, and what a few rows tell of it is chance. Raises ValueError for NaN, for shapes that
    don't fit, where fewer than two factors vary, and for fewer rows than bins or than two for each value of a factor.
    """
    information, entropies = information_table(codes, factors, num_bins)
    if len(entropies) < 2:
        raise ValueError("modularity compares factors, and only one varies")
    squared = information**2
    most = squared.max(axis=1)
    others = (squared.sum(axis=1) - most) / (len(entropies) - 1)
    informed = most > 1e-24  # of rounding's making otherwise
    return float(np.where(informed, 1 - others / np.where(informed, most, 1.0), 0.0).mean())


class Modularity(BinnedMetric):
    """`modularity` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            f"Ridgeway & Mozer 2018: posterior means in {self.num_bins} equal bins from minimum to maximum, "
            "1 − the mean squared mutual information with a unit's other factors over that with its main one, "
            "mean over all units, those at the prior too; it rises with the number of rows, also that of noise"
        )

    def score(self, codes: Codes) -> float:
        return modularity(codes.mean, codes.factors, self.num_bins)
