"""Mutual information of units and factors, estimated from a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_rows


def discretize(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """Each unit's bin out of num_bins equal ones from its minimum to its maximum: (N, D) -> (N, D) int64."""
    if num_bins < 2:
        raise ValueError(f"num_bins must be 2 or more, got {num_bins}")
    low, high = codes.min(axis=0), codes.max(axis=0)
    width = np.where(high > low, high - low, 1.0)  # a constant unit lies in one bin
    return ((codes - low) / width * num_bins).astype(np.int64).clip(0, num_bins - 1)


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


def mutual_information(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> np.ndarray:
    """I(unit; factor) in nats between binned codes (N, D) and factors (N, K): (D, K)."""
    codes, factors = check(codes, factors)
    binned = discretize(codes, num_bins)
    information = np.empty((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        values, labels = np.unique(factor, return_inverse=True)
        for d, bins in enumerate(binned.T):
            joint = np.bincount(bins * len(values) + labels, minlength=num_bins * len(values))
            joint = joint.reshape(num_bins, len(values))
            information[d, k] = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())
    return information.clip(min=0)  # rounding leaves -1e-16 for independent ones


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
