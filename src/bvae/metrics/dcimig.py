from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.metric import Codes
from bvae.metrics.mutual_information import BinnedMetric, information_table


def dcimig(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """DCIMIG, or 3CharM: Sepliarskaia et al. (2019), "How to not measure disentanglement", arXiv:1910.05587.

    Each unit stands for the factor that it tells most of, by the gap to the one that it tells second most of. Of each
    factor counts the largest gap of the units that stand for it, 0 where none does: their sum over the sum of the
    factors' entropies.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, or float for continuous ones, which are binned too; two or more vary.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each factor has a unit that tells all of it and nothing of another. Raises
    ValueError as `mutual_information_gap` does, and where fewer than two factors vary.
    """
    information, entropies = information_table(codes, factors, num_bins)
    if len(entropies) < 2:
        raise ValueError("DCIMIG compares factors, and only one varies")
    second, first = np.sort(information, axis=1).T[-2:]
    gaps = np.zeros(len(entropies))
    np.maximum.at(gaps, information.argmax(axis=1), first - second)
    return float(gaps.sum() / entropies.sum())


class DCIMIG(BinnedMetric):
    """`dcimig` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            f"Sepliarskaia et al. 2019: posterior means in {self.num_bins} equal bins from minimum to maximum, each "
            "factor's largest gap among the units that follow it most, sum over the sum of entropies; noise is near 0"
        )

    def chance(self, codes: Codes) -> float:
        return 0.0

    def score(self, codes: Codes) -> float:
        return dcimig(codes.mean, codes.factors, self.num_bins)
