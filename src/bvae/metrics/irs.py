from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import binned, check, check_rows, classes_of, discretize, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.mutual_information import remark_on_extremes


def interventional_robustness(
    codes: ArrayLike, factors: ArrayLike, quantile: float = 0.99, num_bins: int = 20
) -> float:
    """The interventional robustness score (IRS) of Suter et al. (2019), arXiv:1811.00007.

    For each unit, how little it moves while its best factor is held and all else changes: 1 less the deviation from
    the class's mean, at the given quantile, averaged over the factor's classes, over the unit's largest deviation from
    its own mean. Averaged over the units, each weighted by that largest deviation; constant units have none. Protocol
    of Locatello et al. (2019), arXiv:1811.12359: a factor of more than 20 classes is held by bins of neighbouring ones,
    as classes of few images would make every unit look robust.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, or float for continuous ones, which are held by equal bins.
        quantile: in (0, 1].
        num_bins: equal bins of a factor's classes, in the order of their values.

    Returns a number of 1 at most; 0 where all units are constant. Raises ValueError for NaN, for shapes that don't fit,
    where no factor varies, and for fewer than ten rows for each class that is held: the deviation within a class of a
    few rows is small whatever the unit, and 0 within one of a single row.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be in (0, 1], got {quantile}")
    codes, factors = check(codes, factors)
    (factors,) = varying(factors)
    held = discretize(classes_of(binned(factors, num_bins)), num_bins)
    check_rows(held, per_value=10)
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if not codes.shape[1]:
        return 0.0
    largest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    moved = np.empty((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(held.T):
        order = np.argsort(factor, kind="stable")
        classes = np.split(codes[order], np.flatnonzero(np.diff(factor[order])) + 1)
        deviations = [np.quantile(np.abs(rows - rows.mean(axis=0)), quantile, axis=0) for rows in classes]
        moved[:, k] = np.mean(deviations, axis=0)
    robustness = 1 - moved / largest[:, None]
    return float(np.average(robustness.max(axis=1), weights=largest))


class InterventionalRobustness(CodesMetric):
    """`interventional_robustness` as a torchmetric."""

    def __init__(self, quantile: float = 0.99, num_bins: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantile = quantile
        self.num_bins = num_bins

    def protocol(self, n: int) -> str:
        return (
            f"Suter et al. 2019: 1 less the deviation at the {self.quantile} quantile with the best factor held, in "
            f"{self.num_bins} bins at most, over the largest deviation, mean over units weighted by the latter; "
            "it rises with the number of rows, as the largest deviation does: 0.417 of 10,000 and 0.471 of 737,280 in "
            "one model"
        )

    def remark(self, codes: Codes) -> str:
        return remark_on_extremes(codes.mean, "the largest deviations are")

    def score(self, codes: Codes) -> float:
        return interventional_robustness(codes.mean, codes.factors, self.quantile, self.num_bins)
