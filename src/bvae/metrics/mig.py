from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.metric import Codes
from bvae.metrics.mutual_information import BinnedMetric, information_table


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """The mutual information gap (MIG): Eq. 6 of Chen et al. (2018), arXiv:1802.04942.

    For each factor, the mutual information with the unit that follows it most less that with the second, over the
    factor's entropy; averaged over the factors that vary. Protocol of Locatello et al. (2019), arXiv:1811.12359:
    posterior means in 20 equal bins from each unit's minimum to its maximum.

    Args:
        codes: posterior means, (N, D) float with D of 2 or more.
        factors: (N, K) int, or float for continuous ones, which are binned too.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each factor is followed by one unit only. Raises ValueError for NaN, for
    shapes that don't fit, where no factor varies, and for fewer rows than bins or than two for each value of a factor,
    where any unit tells nearly all of a factor.
    """
    information, entropies = information_table(codes, factors, num_bins)
    if len(information) < 2:
        raise ValueError(f"the gap needs two units or more, got codes of shape {tuple(np.shape(codes))}")
    second, first = np.sort(information, axis=0)[-2:]
    return float(((first - second) / entropies).mean())


class MutualInformationGap(BinnedMetric):
    """`mutual_information_gap` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            f"Chen et al. 2018: posterior means in {self.num_bins} equal bins from minimum to maximum, "
            "gap of the two largest mutual informations over the factor's entropy, mean over factors; "
            "noise is near 0 where rows are many"
        )

    def chance(self, codes: Codes) -> float:
        return 0.0

    def score(self, codes: Codes) -> float:
        return mutual_information_gap(codes.mean, codes.factors, self.num_bins)


class ActiveMutualInformationGap(MutualInformationGap):
    """`mutual_information_gap` of the active units alone, as a torchmetric.

    An idle unit's binned means tell a little of each factor, and may be the best or the second best that there is. A
    gap needs two active units.
    """

    def protocol(self, n: int) -> str:
        return f"{super().protocol(n)}; of the active units alone, by `Codes.active`"

    def score(self, codes: Codes) -> float:
        active = codes.active()
        if active.sum() < 2:
            raise ValueError(f"a gap needs two active units or more, got {int(active.sum())} of {len(active)}")
        return mutual_information_gap(codes.mean[:, active], codes.factors, self.num_bins)

    def remark(self, codes: Codes) -> str:
        active = codes.active().nonzero().flatten().tolist()
        return "; ".join(filter(None, (f"units {', '.join(map(str, active))}", super().remark(codes))))
