"""Each torchmetric is its function of the same arguments, and says beside the score how it was taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from bvae import metrics

TREE, STUMP = DecisionTreeClassifier(max_features=1), DecisionTreeClassifier(max_depth=2, max_features=1)
REGRESSOR, SMALL = DecisionTreeRegressor(max_features=1), DecisionTreeRegressor(max_depth=2, max_features=1)
BOTH = {"learner": TREE, "regressor": REGRESSOR}
BINS = {"num_bins": 7}
POINTS = {"num_train": 120, "num_test": 80}


class Shell(NamedTuple):
    """A torchmetric, its function, options that a case starts from, and other values, each of which matters."""

    metric: type[metrics.CodesMetric]
    function: Callable
    base: Mapping[str, Any] = MappingProxyType({})
    other: Mapping[str, Any] = MappingProxyType({})
    continuous: Mapping[str, Any] = MappingProxyType({})  # options that matter for continuous factors
    defaults: Mapping[str, Any] = MappingProxyType({})  # as published


def two_parts(codes: np.ndarray, factors: np.ndarray, num_train: int, num_test: int, seed: int) -> tuple:
    drawn = np.random.default_rng(seed).choice(len(codes), num_train + num_test, replace=False)
    return tuple(table[rows] for rows in (drawn[:num_train], drawn[num_train:]) for table in (codes, factors))


def sap(codes, factors, num_train=0, num_test=0, seed=0, **options):
    return metrics.sap(*two_parts(codes, factors, num_train, num_test, seed), **options)


def dci(codes, factors, num_train=0, num_test=0, seed=0, **options):
    scores = metrics.dci(*two_parts(codes, factors, num_train, num_test, seed), seed=seed, **options)
    parts = ("disentanglement", "completeness", "informativeness")
    return {f"dci_{part}": getattr(scores, part) for part in parts}


def explicitness(codes, factors, num_train=0, num_test=0, seed=0):
    return metrics.explicitness(*two_parts(codes, factors, num_train, num_test, seed))


def infomec(codes, factors, num_rows=10_000, seed=0, **options):
    if num_rows < len(codes):
        rows = np.sort(np.random.default_rng(seed).choice(len(codes), num_rows, replace=False))
        codes, factors = codes[rows], factors[rows]
    return metrics.infomec(codes, factors, seed=seed, **options)


def sampled(codes, table, factors=slice(None), **options):
    return metrics.sampled_mutual_information_gap(codes, log_variances(codes), table[:, factors], **options)


def log_variances(codes: np.ndarray) -> np.ndarray:
    """The last unit is at the prior, the others are active."""
    return np.where(np.arange(codes.shape[1]) == 3, 0.0, -2.0 - np.abs(codes))


def active(codes, factors, **options):
    return metrics.mutual_information_gap(codes[:, :3], factors, **options)


SHELLS = [
    Shell(metrics.MutualInformationGap, metrics.mutual_information_gap, {}, BINS, BINS, {"num_bins": 20}),
    Shell(metrics.ActiveMutualInformationGap, active, {}, BINS, BINS, {"num_bins": 20}),
    Shell(metrics.MIGSup, metrics.mig_sup, {}, BINS, BINS, {"num_bins": 20}),
    Shell(metrics.DCIMIG, metrics.dcimig, {}, BINS, BINS, {"num_bins": 20}),
    Shell(metrics.JEMMIG, metrics.jemmig, {}, BINS, BINS, {"num_bins": 20}),
    Shell(metrics.Modularity, metrics.modularity, {}, BINS, BINS, {"num_bins": 20}),
    Shell(
        metrics.InterventionalRobustness,
        metrics.interventional_robustness,
        {},
        {"quantile": 0.6, "num_bins": 2},
        {"num_bins": 7},
        {"quantile": 0.99, "num_bins": 20},
    ),
    Shell(
        metrics.InfoMEC,
        infomec,
        {"num_rows": 120},
        {"num_neighbors": 3, "num_rows": 80, "seed": 1},
        {"num_neighbors": 3},
        {"num_neighbors": 10, "num_rows": 10_000, "seed": 0},
    ),
    Shell(
        metrics.SampledMutualInformationGap,
        sampled,
        {},
        {"factors": [0, 2], "num_samples": 100, "num_posteriors": 50, "seed": 1},
        {},
        {"factors": None, "num_samples": 5_000, "num_posteriors": 5_000, "seed": 0},
    ),
    Shell(
        metrics.SAP,
        sap,
        POINTS,
        {"num_train": 60, "num_test": 70, "continuous": True, "seed": 1},
        {},
        {"num_train": 10_000, "num_test": 5_000, "continuous": False, "seed": 0},
    ),
    Shell(
        metrics.DCIScores,
        dci,
        POINTS | BOTH,
        {"num_train": 60, "num_test": 70, "learner": STUMP, "seed": 1},
        {"regressor": SMALL, "seed": 1},
        {"num_train": 10_000, "num_test": 5_000, "learner": None, "seed": 0, "progress": True, "regressor": None},
    ),
    Shell(
        metrics.Explicitness,
        explicitness,
        POINTS,
        {"num_train": 60, "num_test": 70, "seed": 1},
        {},
        {"num_train": 10_000, "num_test": 5_000, "seed": 0},
    ),
    Shell(
        metrics.BetaVAEScore,
        metrics.beta_vae_score,
        POINTS | {"num_pairs": 8},
        {"num_pairs": 4, "num_train": 60, "num_test": 70, "seed": 1},
        {},
        {"num_pairs": 64, "num_train": 10_000, "num_test": 5_000, "seed": 0},
    ),
    Shell(
        metrics.FactorVAEScore,
        metrics.factor_vae_score,
        POINTS,
        {"batch_size": 3, "num_train": 60, "num_test": 70, "min_std": 0.9, "seed": 1},
        {},
        {"batch_size": 64, "num_train": 10_000, "num_test": 5_000, "min_std": 0.05, "seed": 0},
    ),
    Shell(metrics.TotalCorrelation, lambda codes, factors: metrics.total_correlation(codes)),
    Shell(metrics.WassersteinCorrelation, lambda codes, factors: metrics.wasserstein_correlation(codes)),
    Shell(
        metrics.ActiveUnits,
        lambda codes, factors, **options: metrics.active_units(codes, **options),
        {},
        {"threshold": 0.5},
        {},
        {"threshold": 0.01},
    ),
]
shells = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell.metric.__name__)


def computed(metric: metrics.CodesMetric, codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    metric.update(*map(torch.from_numpy, (codes, factors, log_variances(codes))))
    return named(metric.compute())


def named(scores) -> dict[str, float]:
    return {name: float(score) for name, score in (scores if isinstance(scores, dict) else {"score": scores}).items()}


@pytest.fixture(scope="module")
def table(uneven) -> tuple[np.ndarray, np.ndarray]:
    """Units from which every factor is guessed with errors; rounded, so that some values are equal."""
    codes = (uneven[0] - uneven[0].mean(axis=0))[:, [0, 1, 2, 4]] / [1, 10, 1, 1]
    codes[:, :3] += np.random.default_rng(0).normal(size=(len(codes), 3))
    return codes.round(1), uneven[1]


@shells
def test_a_metric_is_its_function_of_the_same_arguments(shell, table):
    codes, factors = table
    for taken, options in ((factors, shell.other), (factors * 1.0, shell.continuous)):
        if taken is not factors and not options:
            continue
        usual = named(shell.function(codes, taken, **shell.base))
        assert computed(shell.metric(**shell.base), codes, taken) == pytest.approx(usual)
        for name, value in options.items():
            expected = named(shell.function(codes, taken, **{**shell.base, name: value}))
            assert expected != pytest.approx(usual, abs=1e-6), f"{name} doesn't matter here"
            assert computed(shell.metric(**{**shell.base, name: value}), codes, taken) == pytest.approx(expected), name


@shells
def test_the_defaults_are_the_published_protocols_in_the_metric_and_its_function(shell):
    options = dict(inspect.signature(shell.metric).parameters)
    del options["kwargs"]
    assert {name: option.default for name, option in options.items()} == shell.defaults
    function = getattr(metrics, shell.function.__name__, None)
    for name, option in inspect.signature(function).parameters.items() if function else ():
        assert option.default in (shell.defaults.get(name), inspect.Parameter.empty)
