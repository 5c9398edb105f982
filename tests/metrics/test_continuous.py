"""Factors that are floats, and so continuous."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from grids import grid
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bvae import metrics

CLASSES = np.tile(grid(20, 20), (2, 1))
FACTORS = CLASSES * 0.05 + 0.1
BINNED = (
    metrics.mutual_information_gap,
    metrics.mig_sup,
    metrics.dcimig,
    metrics.jemmig,
    metrics.modularity,
    metrics.interventional_robustness,
)


def test_floats_are_binned_and_integers_are_left_as_they_are():
    assert metrics.binned(FACTORS).tolist() == CLASSES.tolist()
    assert metrics.binned(np.array([[0.0], [0.49], [0.51], [1.0]]), 2).tolist() == [[0], [0], [1], [1]]
    assert metrics.binned(CLASSES) is CLASSES


@pytest.mark.parametrize("score", BINNED)
def test_scores_of_bins_are_those_of_the_bins_as_classes(score):
    codes = FACTORS + np.random.default_rng(0).normal(scale=0.1, size=FACTORS.shape)
    assert score(codes, FACTORS) == score(codes, CLASSES)
    assert score(torch.from_numpy(codes), torch.from_numpy(FACTORS).float()) == pytest.approx(score(codes, CLASSES))
    assert score(codes, FACTORS, num_bins=4) == score(codes, CLASSES // 5, num_bins=4)


def test_regressors_learn_what_is_continuous():
    parts = (FACTORS * [1, -2], FACTORS) * 2
    forest = RandomForestRegressor(5, max_depth=8)
    assert min(metrics.dci(*parts, regressor=forest)) > 0.97
    assert metrics.sap(*parts, continuous=True) == pytest.approx(1)
    metric = metrics.DCIScores(learner=RandomForestClassifier(5), regressor=forest)
    metric.update(FACTORS, FACTORS)
    assert metric.compute()["dci_disentanglement"] > 0.97
    remark = metric.remark(metrics.Codes(torch.from_numpy(FACTORS), None, torch.from_numpy(FACTORS)))
    assert remark.startswith("continuous factors: importances of RandomForestRegressor")
    noise = np.random.default_rng(0).normal(size=FACTORS.shape)
    assert metrics.dci(noise, FACTORS, noise[::-1], FACTORS, regressor=forest).informativeness < 0
    with pytest.raises(ValueError, match="both be classes or both continuous, got float64 and int64"):
        metrics.dci(FACTORS, FACTORS, FACTORS, CLASSES)
    with pytest.raises(ValueError, match="5 rows for testing are too few for R²"):
        metrics.dci(FACTORS, FACTORS, FACTORS[:5], FACTORS[:5])


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: metrics.sap(FACTORS, FACTORS, FACTORS, FACTORS), "unless continuous=True scores R²"),
        (lambda: metrics.explicitness(FACTORS, FACTORS, FACTORS, FACTORS), "explicitness needs"),
        (lambda: metrics.beta_vae_score(FACTORS, FACTORS), "the β-VAE score needs"),
        (lambda: metrics.factor_vae_score(FACTORS, FACTORS), "the FactorVAE score needs"),
    ],
)
def test_the_others_refuse_them_in_a_sentence(score, message):
    with pytest.raises(ValueError, match=r"needs factors that are classes, integers, got float64.*by np") as refused:
        score()
    assert message in str(refused.value)


def test_trees_see_no_scale(perfect, factors):
    forest = RandomForestClassifier(10)
    small = metrics.dci(perfect * 1e-9, factors, perfect * 1e-9, factors, forest)
    assert tuple(small) == pytest.approx(tuple(metrics.dci(perfect, factors, perfect, factors, forest)), abs=0.01)
    assert min(small) > 0.9
