"""Scores that need no factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check_codes
from bvae.metrics.metric import Codes, CodesMetric


def total_correlation(codes: ArrayLike) -> float:
    """Total correlation of a Gaussian fitted to the codes, in nats: Locatello et al. (2019), arXiv:1811.12359.

    ½·(Σ log σ_d² − log det Σ), the divergence of the fit from the product of its marginals; constant units have none.

    Args:
        codes: posterior means, (N, D) float.

    Returns a number of 0 or more, 0 for uncorrelated units and infinity where one is a linear combination of others.
    Raises ValueError for NaN, other shapes and no more rows than units: of those, some unit always is one.
    """
    covariance = _covariance(codes)
    deviations = np.sqrt(np.diag(covariance))
    spectrum = np.linalg.eigvalsh(covariance / np.outer(deviations, deviations))
    if spectrum.min() < 1e-12 * len(spectrum):  # nothing but rounding is left
        return float("inf")
    return float(abs(0.5 * np.log(spectrum).sum()))


def wasserstein_correlation(codes: ArrayLike) -> float:
    """Squared Wasserstein-2 distance of a Gaussian fitted to the codes from the product of its marginals.

    2·tr Σ − 2·tr (S Σ S)^½ with S² the diagonal of Σ, after Locatello et al. (2019), arXiv:1811.12359; in the codes'
    own units squared, so that unlike the total correlation it stays small where the correlated units hardly move.

    Args:
        codes: posterior means, (N, D) float.

    Returns a number of 0 or more, 0 for uncorrelated units. Raises ValueError for NaN, other shapes and no more rows
    than units, whose fit is degenerate.
    """
    covariance = _covariance(codes)
    deviations = np.sqrt(np.diag(covariance))
    spectrum = np.linalg.eigvalsh(deviations[:, None] * covariance * deviations).clip(min=0)
    return float(max(2 * np.trace(covariance) - 2 * np.sqrt(spectrum).sum(), 0.0))


def active_units(codes: ArrayLike, threshold: float = 0.01) -> int:
    """Units whose posterior mean varies over the images, Cov_x(E[z|x]) > 0.01: Burda et al. (2016), arXiv:1509.00519.

    Args:
        codes: posterior means, (N, D) float.
        threshold: of the mean's variance, above which a unit is active.

    Returns a count of 0 to D. Raises ValueError for NaN, other shapes and a single row, which has no variance.
    """
    codes = check_codes(codes)
    if len(codes) < 2:
        raise ValueError("a variance needs two rows or more, got 1")
    return int((codes.var(axis=0) > threshold).sum())


def _covariance(codes: ArrayLike) -> np.ndarray:
    codes = check_codes(codes)
    if len(codes) <= codes.shape[1]:
        raise ValueError(f"the covariance of {codes.shape[1]} units needs more rows than units, got {len(codes)}")
    moving = codes[:, np.ptp(codes, axis=0) > 0]
    if not moving.shape[1]:
        return np.eye(1)  # nothing to correlate
    return np.atleast_2d(np.cov(moving.T))


class TotalCorrelation(CodesMetric):
    """`total_correlation` as a torchmetric."""

    higher_is_better = False
    looks_at_factors = False

    def protocol(self, n: int) -> str:
        return "Locatello et al. 2019: nats, of a Gaussian fitted to the posterior means"

    def score(self, codes: Codes) -> float:
        return total_correlation(codes.mean)


class WassersteinCorrelation(CodesMetric):
    """`wasserstein_correlation` as a torchmetric."""

    higher_is_better = False
    looks_at_factors = False

    def protocol(self, n: int) -> str:
        return "Locatello et al. 2019: squared Wasserstein-2, of a Gaussian fitted to the posterior means"

    def score(self, codes: Codes) -> float:
        return wasserstein_correlation(codes.mean)


class ActiveUnits(CodesMetric):
    """`active_units` as a torchmetric."""

    higher_is_better = None
    looks_at_factors = False

    def __init__(self, threshold: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def protocol(self, n: int) -> str:
        return f"Burda et al. 2016: units whose posterior mean has a variance over {self.threshold}"

    def score(self, codes: Codes) -> float:
        return active_units(codes.mean, self.threshold)
