"""How much units tell of each factor, by the images of which that factor is known."""

from __future__ import annotations

import numpy as np

from bvae.data.image_set import Factors
from bvae.data.labels import whole
from bvae.metrics import Codes, binned, entropy, mutual_information

BINS = 20  # of a unit's code, for its information
FEWEST = 200  # images that a factor is known of, below which units aren't named by it
_ROWS_A_CELL = 10  # of the bins of a code and the values of a factor, from which on chance shares hardly anything
_SHUFFLES = 20


def known_by_enough(codes: Codes, factors: Factors | None) -> tuple[Codes, Factors | None]:
    """Keep the factors that are known of every image, or of 200 or more; None if there are none."""
    if factors is None or not codes.factors.is_floating_point():
        return codes, factors
    known = (~codes.factors.isnan()).sum(dim=0)
    kept = [k for k, number in enumerate(known.tolist()) if number >= min(FEWEST, len(codes.factors))]
    codes = codes._replace(factors=codes.factors[:, kept])
    return codes, factors.chosen(kept) if kept else None


def shares(means: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Divide the information of units (N, D) and factors (N, K) by the factors' entropies: (D, K).

    Each factor is looked at by the rows where it isn't NaN. Where these are few, units share information with any
    factor, so that what they share with shuffled rows of it is subtracted, as in the adjusted mutual information of
    Vinh et al. (2010), JMLR 11, but with the most of 20 shuffles in the place of their expectation.
    """
    found = np.empty((means.shape[1], factors.shape[1]))
    for k, column in enumerate(factors.T):
        known = ~np.isnan(column)
        values = column[known, None] if known.all() else whole(column[known, None])
        found[:, k] = _share(means[known], binned(values, BINS))
    return found


def _share(means: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Compute what units (N, D) share with a factor's classes (N, 1): (D,)."""
    total = max(float(entropy(classes)[0]), 1e-12)
    told = mutual_information(means, classes, BINS)[:, 0]
    if len(classes) >= _ROWS_A_CELL * BINS * len(np.unique(classes)):
        return told / total
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(classes[:, 0]) for _ in range(_SHUFFLES)], axis=1)
    chance = mutual_information(means, shuffled, BINS).max(axis=1)
    return ((told - chance) / np.maximum(total - chance, 1e-12)).clip(0, 1)
