from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.metric import Codes
from bvae.metrics.mutual_information import BinnedMetric, information_table


def mig_sup(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """MIG-sup, the supplement of MIG: Section 4 of Li et al. (2020), arXiv:2002.10549.

    For each unit, the information with the factor that it follows most less that with the second, each over its
    factor's entropy; averaged over the units. Where MIG asks whether a factor lies in one unit, MIG-sup asks whether a
    unit holds one factor.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, or float for continuous ones, which are binned too; two or more vary.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each unit tells all of one factor and nothing of another. A unit that tells
    nothing counts as 0; the authors' code averages over the active units. Raises ValueError as
    `mutual_information_gap` does, and where fewer than two factors vary.
    """
    information, entropies = information_table(codes, factors, num_bins)
    if len(entropies) < 2:
        raise ValueError("MIG-sup compares factors, and only one varies")
    second, first = np.sort(information / entropies, axis=1).T[-2:]
    return float((first - second).mean())


class MIGSup(BinnedMetric):
    """`mig_sup` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            f"Li et al. 2020: posterior means in {self.num_bins} equal bins from minimum to maximum, gap of a unit's "
            "two largest informations over the factor's entropy, mean over all units, those at the prior too; noise is "
            "near 0"
        )

    def chance(self, codes: Codes) -> float:
        return 0.0

    def score(self, codes: Codes) -> float:
        return mig_sup(codes.mean, codes.factors, self.num_bins)
