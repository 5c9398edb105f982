from __future__ import annotations

import math

import numpy as np
import pytest
from grids import grid

from bvae.metrics import active_units, total_correlation, wasserstein_correlation

# Two units of variance 1 and correlation 0.6, exactly.
CORRELATED = (grid(2, 2) * 2.0 - 1) @ np.array([[1, 0.6], [0, 0.8]]) * math.sqrt(3 / 4)


def test_a_tiny_example_by_hand():
    assert np.cov(CORRELATED.T) == pytest.approx(np.array([[1, 0.6], [0.6, 1]]))
    assert total_correlation(CORRELATED) == pytest.approx(-0.5 * math.log(1 - 0.36))
    # The covariance has the eigenvalues 1.6 and 0.4, and the marginals unit variances.
    assert wasserstein_correlation(CORRELATED) == pytest.approx(4 - 2 * (math.sqrt(1.6) + math.sqrt(0.4)))


def test_codes_of_known_correlation(perfect, rotated, constant, noise):
    for codes in (perfect, rotated, constant, perfect[:, :1]):
        assert total_correlation(codes) == pytest.approx(0, abs=1e-9)
        assert wasserstein_correlation(codes) == pytest.approx(0, abs=1e-9)
    assert total_correlation(noise) == pytest.approx(0, abs=0.01)
    redundant = perfect[:, [0, 0, 1]]
    assert total_correlation(redundant) == math.inf
    variance = perfect[:, 0].var(ddof=1)  # the pair's: eigenvalues 2σ⁴ and 0 of S Σ S against two of σ²
    assert wasserstein_correlation(redundant) == pytest.approx(4 * variance - 2 * math.sqrt(2) * variance)


@pytest.mark.parametrize("score", [total_correlation, wasserstein_correlation])
def test_no_more_rows_than_units_are_refused(score, noise):
    with pytest.raises(ValueError, match="the covariance of 3 units needs more rows than units, got 3"):
        score(noise[:3])
    assert np.isfinite(score(noise[:4]))
    with pytest.raises(ValueError, match="a variance needs two rows or more, got 1"):
        active_units(noise[:1])


def test_many_correlated_units_are_no_linear_combination():
    n, r = 64, 0.5  # equal correlations have the eigenvalues 1 + (n − 1)·r once and 1 − r for the rest
    covariance = np.full((n, n), r) + (1 - r) * np.eye(n)
    codes = np.random.default_rng(0).normal(size=(2_000, n))
    codes = np.linalg.qr(codes - codes.mean(axis=0))[0] @ np.linalg.cholesky(covariance).T
    assert total_correlation(codes) == pytest.approx(-0.5 * (np.log(1 + (n - 1) * r) + (n - 1) * np.log(1 - r)))


def test_scale_matters_to_the_distance_alone():
    assert total_correlation(CORRELATED * [1, 100]) == pytest.approx(total_correlation(CORRELATED))
    assert wasserstein_correlation(CORRELATED * 0.1) == pytest.approx(0.01 * wasserstein_correlation(CORRELATED))


def test_active_units_have_means_that_vary():
    codes = np.array([[1.0, 0.09, 0.11, 3.0], [-1.0, -0.09, -0.11, 3.0]])  # variances 1, 0.0081, 0.0121 and 0
    assert active_units(codes) == 2
    assert active_units(codes, threshold=0.5) == 1
