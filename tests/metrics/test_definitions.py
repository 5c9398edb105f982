"""Each score against its paper's definition, written out in loops over units, factors and classes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import sqrtm
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score

from bvae import metrics

BINS = (20, 7)


def binned(unit: np.ndarray, n: int) -> np.ndarray:
    edges = np.linspace(unit.min(), unit.max(), n + 1)
    return np.searchsorted(edges[1:-1], unit, side="right")


def entropy(*columns: np.ndarray) -> float:
    return stats.entropy(list(Counter(zip(*(column.tolist() for column in columns), strict=True)).values()))


def information(unit: np.ndarray, factor: np.ndarray) -> float:
    return mutual_info_score(unit, factor)


def mig(codes: np.ndarray, factors: np.ndarray, n: int) -> float:
    gaps = []
    for factor in factors.T:
        *_, second, first = sorted(information(binned(unit, n), factor) for unit in codes.T)
        gaps.append((first - second) / entropy(factor))
    return np.mean(gaps)


def mig_sup(codes: np.ndarray, factors: np.ndarray, n: int) -> float:
    gaps = []
    for unit in codes.T:
        *_, second, first = sorted(information(binned(unit, n), factor) / entropy(factor) for factor in factors.T)
        gaps.append(first - second)
    return np.mean(gaps)


def dcimig(codes: np.ndarray, factors: np.ndarray, n: int) -> float:
    gaps = [0.0] * factors.shape[1]
    for unit in codes.T:
        table = [information(binned(unit, n), factor) for factor in factors.T]
        *_, second, first = sorted(table)
        best = table.index(first)
        gaps[best] = max(gaps[best], first - second)
    return sum(gaps) / sum(entropy(factor) for factor in factors.T)


def jemmig(codes: np.ndarray, factors: np.ndarray, n: int) -> float:
    found = []
    for factor in factors.T:
        units = [binned(unit, n) for unit in codes.T]
        *_, second, first = sorted(units, key=lambda unit: information(unit, factor))
        score = entropy(factor, first) - information(first, factor) + information(second, factor)
        found.append(1 - score / (entropy(factor) + math.log(n)))
    return np.mean(found)


def modularity(codes: np.ndarray, factors: np.ndarray, n: int) -> float:
    found = []
    for unit in codes.T:
        *others, most = sorted(information(binned(unit, n), factor) for factor in factors.T)
        # An ideal unit tells `most` of one factor and nothing of the others.
        found.append(1 - sum(other**2 for other in others) / (most**2 * len(others)) if most > 1e-12 else 0.0)
    return np.mean(found)


@pytest.mark.parametrize("num_bins", BINS)
@pytest.mark.parametrize("written", [mig, mig_sup, dcimig, jemmig, modularity], ids=lambda function: function.__name__)
def test_scores_of_binned_information(written, num_bins, uneven):
    codes, factors = uneven
    score = getattr(metrics, {"mig": "mutual_information_gap"}.get(written.__name__, written.__name__))
    expected = written(codes, np.delete(factors, 1, axis=1), num_bins)
    assert 0.05 < expected < 0.95
    assert score(codes, factors, num_bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("quantile", "num_bins"), [(0.99, 20), (0.5, 20), (0.9, 2)])
def test_interventional_robustness(quantile, num_bins, uneven):
    codes, factors = uneven
    weights, scores = [], []
    for unit in codes.T:
        largest = max(abs(unit - np.mean(unit)))
        robust = []
        for factor in factors.T:
            names = sorted(set(factor.tolist()))
            place = np.array([names.index(value) for value in factor.tolist()])  # bins are of the order of the values
            held = place if len(names) <= num_bins else place * num_bins // (len(names) - 1)
            held = np.minimum(held, num_bins - 1)
            moved = [np.quantile(abs(unit[held == h] - unit[held == h].mean()), quantile) for h in set(held.tolist())]
            if len(names) > 1:
                robust.append(1 - np.mean(moved) / largest if largest > 1e-9 else 0.0)
        scores.append(max(robust))
        weights.append(largest)
    expected = np.dot(weights, scores) / sum(weights)
    assert metrics.interventional_robustness(codes, factors, quantile, num_bins) == pytest.approx(expected, abs=1e-9)


def share(table: np.ndarray) -> float:
    """Eq. 4 and 6 of Hsu et al. (2023)."""
    alike = 1 / table.shape[1]
    return (np.mean([max(row) / sum(row) for row in table]) - alike) / (1 - alike)


@pytest.mark.parametrize("options", [{}, {"num_neighbors": 3}, {"num_neighbors": 3, "seed": 5}], ids=str)
@pytest.mark.parametrize("continuous", [False, True])
def test_infomec(options, continuous, uneven):
    codes, factors = uneven[0].round(1), np.delete(uneven[1], 1, axis=1)  # equal values, which the seed tells apart
    wide = codes[:, [0, 1, 2]]  # the others move by less than a twentieth of the second unit
    assert np.ptp(codes[:, 4]) < np.ptp(codes[:, 1]) / 20 < np.ptp(wide, axis=0).min()
    estimated = {"n_neighbors": options.get("num_neighbors", 10), "random_state": options.get("seed", 0)}
    if continuous:
        factors = (factors - factors.mean(axis=0)) / factors.std(axis=0)
        table = [mutual_info_regression(wide, f, **estimated) for f in factors.T]
        table = [
            row / mutual_info_regression(f[:, None], f, **estimated)[0] for row, f in zip(table, factors.T, strict=True)
        ]
        explained = [LinearRegression().fit(codes, f).score(codes, f) for f in factors.T]
    else:
        table = [mutual_info_classif(wide, f, **estimated) / entropy(f) for f in factors.T]
        explained = []
        for factor in factors.T:
            model = LogisticRegression(C=np.inf, max_iter=10_000).fit(codes, factor)
            explained.append(1 - log_loss(factor, model.predict_proba(codes)) / entropy(factor))
    found = metrics.infomec(codes, factors, **options)
    assert found["infoc"] == pytest.approx(share(np.array(table)), abs=1e-3)
    assert found["infom"] == pytest.approx(share(np.array(table).T), abs=1e-3)
    assert found["infoe"] == pytest.approx(np.mean(explained), abs=1e-3)


def test_unsupervised_disentanglement_ranking():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 3))
    mixes = [rng.normal(size=(3, units)) * rng.uniform(size=(3, units)) ** 4 for units in (2, 3, 3, 4)]
    models = [truth @ mix * 3 + 1 + 0.1 * rng.normal(size=(200, mix.shape[1])) for mix in mixes]
    informative = [np.ones(model.shape[1], dtype=bool) for model in models]
    informative[3][1] = False

    def likeness(one: np.ndarray, other: np.ndarray, alpha: float) -> float:
        one, other = stats.zscore(one), stats.zscore(other)
        table = np.array([abs(Lasso(alpha=alpha).fit(one, unit).coef_) for unit in other.T])
        parts = [max(line) ** 2 / sum(line) if any(line) else 0 for line in (*table, *table.T)]
        return np.mean(parts)

    for alpha, options in ((0.1, {}), (0.3, {"alpha": 0.3}), (0.1, {"informative": informative})):
        taken = [m[:, keep] for m, keep in zip(models, options.get("informative", [slice(None)] * 4), strict=True)]
        expected = [np.median([likeness(taken[i], taken[j], alpha) for j in range(4) if j != i]) for i in range(4)]
        found = metrics.unsupervised_disentanglement_ranking(models, **options)
        assert found == pytest.approx(np.array(expected), abs=1e-3)


def sampled_mig(means: np.ndarray, deviations: np.ndarray, factors: np.ndarray, z: np.ndarray) -> float:
    n, units = means.shape

    def log_q(unit: int, rows: np.ndarray, among: np.ndarray) -> np.ndarray:
        densities = stats.norm.pdf(z[rows, None, unit], means[None, among, unit], deviations[None, among, unit])
        return np.log(densities.mean(axis=1))

    gaps, everything = [], np.arange(n)
    for factor in factors.T:
        informations = []
        for unit in range(units):
            marginal = -log_q(unit, everything, everything).mean()
            classes = [np.flatnonzero(factor == value) for value in np.unique(factor)]
            given = -sum(log_q(unit, of_class, of_class).sum() for of_class in classes) / n
            informations.append(max(marginal - given, 0))
        *_, second, first = sorted(informations)
        gaps.append((first - second) / entropy(factor))
    return np.mean(gaps)


def test_sampled_mutual_information_gap(uneven):
    rng = np.random.default_rng(0)
    nothing = 0.05 * rng.normal(size=(60, 2)), np.zeros((60, 2)), np.arange(60)[:, None] % 2  # an estimate below 0
    codes, factors = uneven[0][:60, [0, 1, 2]] / [1, 10, 1], np.delete(uneven[1], 1, axis=1)[:60]
    for means, log_variances, of in (nothing, (codes, rng.normal(-2, 1, size=codes.shape), factors)):
        deviations = np.exp(log_variances / 2)
        z = means + deviations * np.random.default_rng(3).normal(size=means.shape)  # one draw for each row
        found = metrics.sampled_mutual_information_gap(means, log_variances, of, seed=3)
        assert found == pytest.approx(sampled_mig(means, deviations, of, z), abs=1e-5)


def test_correlations_of_a_fitted_gaussian(uneven):
    codes = uneven[0]
    moving = np.delete(codes, 3, axis=1)
    covariance = np.cov(moving, rowvar=False)
    variances = np.diag(covariance)
    expected = 0.5 * (np.log(variances).sum() - np.linalg.slogdet(covariance)[1])
    assert metrics.total_correlation(codes) == pytest.approx(expected)
    root = sqrtm(np.diag(variances) ** 0.5 @ covariance @ np.diag(variances) ** 0.5)
    assert metrics.wasserstein_correlation(codes) == pytest.approx(2 * variances.sum() - 2 * np.trace(root).real)
