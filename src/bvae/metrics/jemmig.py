from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check_codes, discretize
from bvae.metrics.metric import Codes
from bvae.metrics.mutual_information import BinnedMetric, entropy, information_table


def jemmig(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """JEMMIG, the joint entropy minus the mutual information gap, normalised: Do & Tran (2020), arXiv:1908.09961.

    For each factor, 1 − (H(f, z*) − I(f; z*) + I(f; z°)) / (H(f) + log num_bins), of the unit z* that tells most of it
    (of those that tell as much, the one of least entropy) and z°, the second; averaged over the factors that vary.
    Beside what MIG asks, z* must tell of nothing else.

    Args:
        codes: posterior means, (N, D) float with D of 2 or more.
        factors: (N, K) int, or float for continuous ones, which are binned too.
        num_bins: bins of a unit.

    Returns a number in [0, 1]; 1 where each factor and its unit tell all of each other, and no other unit tells
    anything. A unit that is constant, or that lies in few bins, has little entropy, and so codes that tell nothing
    don't score 0: a constant one scores log num_bins / (H(f) + log num_bins). Raises ValueError as
    `mutual_information_gap` does.
    """
    information, entropies = information_table(codes, factors, num_bins)
    if len(information) < 2:
        raise ValueError(f"the gap needs two units or more, got codes of shape {tuple(np.shape(codes))}")
    second, first = np.sort(information, axis=0)[-2:]
    of_units = entropy(discretize(check_codes(codes), num_bins))[:, None]
    tells_most = information >= first - 1e-9
    joint = entropies + np.where(tells_most, of_units, np.inf).min(axis=0) - first
    return float((1 - (joint - first + second) / (entropies + np.log(num_bins))).mean())


class JEMMIG(BinnedMetric):
    """`jemmig` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            f"Do & Tran 2020: posterior means in {self.num_bins} equal bins from minimum to maximum, 1 − (joint "
            "entropy − gap of the two largest informations) / (the factor's entropy + log of the bins), mean over "
            "factors; "
            "codes that tell nothing score above 0, the more the fewer bins they fill"
        )

    def score(self, codes: Codes) -> float:
        return jemmig(codes.mean, codes.factors, self.num_bins)
