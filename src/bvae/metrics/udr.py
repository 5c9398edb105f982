from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check_codes


def unsupervised_disentanglement_ranking(
    models: Sequence[ArrayLike], informative: Sequence[ArrayLike] | None = None, alpha: float = 0.1
) -> np.ndarray:
    """UDR of each of M models: how far it is one with the others, unit by unit (Duan et al. 2020, arXiv:1905.12614).

    Models that differ in nothing but the seed and have disentangled the data have found the same units but for their
    order and sign. Of each pair, each unit's largest similarity squared over the sum of its similarities, averaged over
    the units that know something (Eq. 3 and 4); of each model, the median over its pairs. The similarity is the size of
    a Lasso's coefficients that predict one model's units from the other's.

    Args:
        models: M of at least two, the posterior means of the same images by each, (N, D).
        informative: which units of each count, (D,) bool; those of a mean KL over 0.01 nats in the paper. All, and
            constant ones not, unless given.
        alpha: the Lasso's penalty.

    Returns (M,) numbers between 0 and 1, NaN for a model without informative units. Raises ValueError for fewer models
    than two, codes of different images or other shapes.
    """
    if len(models) < 2:
        raise ValueError(f"a ranking needs the codes of two models or more, got {len(models)}")
    codes = [check_codes(model) for model in models]
    if len({len(code) for code in codes}) > 1:
        raise ValueError(f"every model must have encoded the same images, got {[len(code) for code in codes]} of them")
    counted = [np.ptp(code, axis=0) > 0 for code in codes]
    for mask, given in zip(counted, informative if informative is not None else counted, strict=True):
        if np.shape(given) != mask.shape:
            raise ValueError(f"informative must say of each of {len(mask)} units, got shape {np.shape(given)}")
        mask &= np.asarray(given, dtype=bool)
    standard = [_standardized(code[:, mask]) for code, mask in zip(codes, counted, strict=True)]
    return np.array(
        [
            np.median([_likeness(_lasso(one, other, alpha)) for j, other in enumerate(standard) if j != i])
            if one.shape[1]
            else np.nan
            for i, one in enumerate(standard)
        ]
    )


def _standardized(codes: np.ndarray) -> np.ndarray:
    return (codes - codes.mean(axis=0)) / codes.std(axis=0)


def _lasso(one: np.ndarray, other: np.ndarray, alpha: float) -> np.ndarray:
    """How much each unit of one tells of each of the other: (D, D')."""
    from sklearn.linear_model import Lasso

    if not one.shape[1] or not other.shape[1]:
        return np.zeros((one.shape[1], other.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that hasn't quite converged
        return np.abs(Lasso(alpha=alpha).fit(one, other).coef_.reshape(other.shape[1], one.shape[1]).T)


def _likeness(similarity: np.ndarray) -> float:
    """0 to 1 of similarities (D, D')."""
    if not similarity.size:
        return 0.0
    parts = []
    for axis in (0, 1):
        sums = similarity.sum(axis=axis)
        largest = similarity.max(axis=axis)
        parts.append(largest**2 / np.where(sums > 0, sums, 1.0))
    return float(np.concatenate(parts).mean())
