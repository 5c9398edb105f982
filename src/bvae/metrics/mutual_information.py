"""Mutual information of units and factors, estimated from a histogram, and the shell of the scores that use it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import binned, check, check_codes, check_rows, discretize, is_continuous, varying
from bvae.metrics.metric import Codes, CodesMetric


def check_bins(factors: np.ndarray, num_bins: int) -> None:
    """Raise ValueError where factors (N, K) have too few rows for the information that bins give on them.

    With a bin for each row, or a value for each row, any unit tells nearly all of a factor.
    """
    if len(factors) < num_bins:
        raise ValueError(f"{len(factors):,} rows are too few for {num_bins} bins: {num_bins} or more are needed")
    check_rows(factors)


def entropy(factors: np.ndarray) -> np.ndarray:
    """Entropy of each factor in nats: (N, K) -> (K,)."""
    return np.array([_entropy(np.unique(factor, return_counts=True)[1]) for factor in factors.T])


def mutual_information(
    codes: ArrayLike, factors: ArrayLike, num_bins: int = 20, correction: bool = False
) -> np.ndarray:
    """I(unit; factor) in nats between binned codes (N, D) and factors (N, K), binned where continuous: (D, K).

    With `correction`, entropies are corrected for the number of rows (Miller 1955), which scores don't do.
    """
    codes, factors = check(codes, factors)
    factors = binned(factors, num_bins)
    bins_of_units = discretize(codes, num_bins)
    information = np.empty((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        values, labels = np.unique(factor, return_inverse=True)
        for d, bins in enumerate(bins_of_units.T):
            joint = np.bincount(bins * len(values) + labels, minlength=num_bins * len(values))
            joint = joint.reshape(num_bins, len(values))
            counts = joint.sum(axis=1), joint.sum(axis=0), joint.ravel()
            of_unit, of_factor, of_both = (_entropy(n) + correction * _deficit(n) for n in counts)
            information[d, k] = of_unit + of_factor - of_both
    return information.clip(min=0)  # rounding leaves -1e-16 for independent ones


def conditional_information(codes: ArrayLike, factors: ArrayLike, given: ArrayLike, num_bins: int = 20) -> np.ndarray:
    """I(unit; factor | given) in nats: the information within each class of `given` (N,), averaged over the images.

    Few images within a class would make any unit seem to tell something, so that the entropies are corrected for their
    number (Miller 1955). Returns (D, K).
    """
    codes, factors = check(codes, factors)
    given = np.asarray(given)
    parts = [(rows.mean(), rows) for rows in (given == value for value in np.unique(given))]
    return sum(
        share * mutual_information(codes[rows], factors[rows], num_bins, correction=True) for share, rows in parts
    )


def information_table(codes: ArrayLike, factors: ArrayLike, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The information (D, K) between units and the factors that vary, and the entropy (K,) of these: nats.

    Raises ValueError for NaN, for shapes that don't fit, where no factor varies, and for fewer rows than bins or than
    two for each value of a factor, where any unit tells nearly all of a factor.
    """
    codes, factors = check(codes, factors)
    (factors,) = varying(factors)
    factors = binned(factors, num_bins)
    check_bins(factors, num_bins)
    return mutual_information(codes, factors, num_bins), entropy(factors)


class BinnedMetric(CodesMetric):
    """A score of codes in equal bins from each unit's minimum to its maximum."""

    def __init__(self, num_bins: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_bins = num_bins

    def remark(self, codes: Codes) -> str:
        continuous = f"continuous factors in {self.num_bins} equal bins too" if is_continuous(codes.factors) else ""
        return "; ".join(filter(None, (continuous, remark_on_extremes(codes.mean, "the bins span"))))


def remark_on_extremes(codes: ArrayLike, what_reaches: str, most: float = 10.0) -> str:
    """Name the units with a value more than `most` deviations from their mean; empty where there are none."""
    codes = check_codes(codes)
    furthest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    deviations = np.divide(furthest, codes.std(axis=0), out=np.zeros_like(furthest), where=np.ptp(codes, axis=0) > 0)
    far = np.flatnonzero(deviations > most)
    if not len(far):
        return ""
    units = ", ".join(f"{unit} ({deviations[unit]:.0f})" for unit in far)
    return f"few values lie far out in units {units} (their deviations from the mean), and {what_reaches} them"


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _deficit(counts: np.ndarray) -> float:
    """How much lower than the true one the entropy of counts is expected to be, in nats."""
    return float((np.count_nonzero(counts) - 1) / (2 * counts.sum()))
