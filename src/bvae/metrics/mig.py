from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.mutual_information import check_bins, entropy, mutual_information


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """The mutual information gap (MIG): Eq. 6 of Chen et al. (2018), arXiv:1802.04942.

    For each factor, the mutual information with the unit that follows it most less that with the second, over the
    factor's entropy; averaged over the factors that vary. Protocol of Locatello et al. (2019), arXiv:1811.12359:
    posterior means in 20 equal bins from each unit's minimum to its maximum.

    Args:
        codes: posterior means, (N, D) float with D of 2 or more.
        factors: (N, K) int.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each factor is followed by one unit only. Raises ValueError for NaN, for
    shapes that don't fit, where no factor varies, and for fewer rows than bins or than two for each value of a factor,
    where any unit tells nearly all of a factor.
    """
    codes, factors = check(codes, factors)
    if codes.shape[1] < 2:
        raise ValueError(f"the gap needs two units or more, got codes of shape {codes.shape}")
    (factors,) = varying(factors)
    check_bins(factors, num_bins)
    second, first = np.sort(mutual_information(codes, factors, num_bins), axis=0)[-2:]
    return float(((first - second) / entropy(factors)).mean())


class MutualInformationGap(CodesMetric):
    """`mutual_information_gap` as a torchmetric."""

    def __init__(self, num_bins: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_bins = num_bins

    def protocol(self, n: int) -> str:
        return (
            f"Chen et al. 2018: posterior means in {self.num_bins} equal bins from minimum to maximum, "
            "gap of the two largest mutual informations over the factor's entropy, mean over factors"
        )

    def score(self, codes: Codes) -> float:
        return mutual_information_gap(codes.mean, codes.factors, self.num_bins)
