from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from bvae.metrics import dci


class Fixed(ClassifierMixin, BaseEstimator):
    """Finds one unit important for a factor of two classes, and both for one of three; always answers 0."""

    def fit(self, codes, factor):
        self.feature_importances_ = np.array([0.75, 0.25] if len(np.unique(factor)) == 2 else [0.0, 1.0])
        return self

    def predict(self, codes):
        return np.zeros(len(codes))


def test_a_tiny_example_by_hand():
    factors = np.tile([[0, 0], [1, 1], [0, 2], [1, 0]], (2, 1))
    codes = np.arange(16.0).reshape(8, 2)
    scores = dci(codes, factors, codes, factors, learner=Fixed())
    entropy = -(0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))  # of unit 1, with 0.25 and 1
    assert scores.disentanglement == pytest.approx((0.75 * 1 + 1.25 * (1 - entropy)) / 2)
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))  # of the first factor
    assert scores.completeness == pytest.approx(((1 - entropy) + 1) / 2)
    assert scores.informativeness == scores.informativeness_train == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert scores.importances.tolist() == [[0.75, 0.0], [0.25, 1.0]]
    assert tuple(scores) == (scores.disentanglement, scores.completeness, scores.informativeness)


def test_codes_of_known_parts(perfect, rotated, constant, factors):
    few = GradientBoostingClassifier(n_estimators=20)
    scores = dci(perfect, factors, perfect, factors, learner=few)
    assert min(scores) > 0.99
    redundant = dci(perfect[:, [0, 0, 1, 2]], factors, perfect[:, [0, 0, 1, 2]], factors, learner=few)
    assert redundant.disentanglement > 0.99
    # The first of three factors lies in two of four units, evenly at worst: ½ of the greatest entropy.
    assert 1 - 1 / 6 - 0.01 < redundant.completeness < 1
    turned = dci(rotated, factors[:, :2], rotated, factors[:, :2])  # stairs along a diagonal take many trees
    assert turned.disentanglement < 0.1
    assert turned.completeness < 0.1
    assert turned.informativeness > 0.99
    scores = dci(constant, factors, constant, factors, learner=few)
    assert (scores.disentanglement, scores.completeness) == (0, 0)
    assert scores.informativeness == pytest.approx((1 / 5 + 1 / 5 + 1 / 4) / 3)  # one class of each is guessed


def test_an_angle_on_a_circle_of_two_units_is_disentangled_but_not_complete():
    rng = np.random.default_rng(0)
    angle, size = rng.integers(12, size=2_000), rng.integers(3, size=2_000)
    polar = np.stack((np.cos(np.pi * angle / 6), np.sin(np.pi * angle / 6), size), axis=1)
    factors = np.stack((angle, size), axis=1)
    scores = dci(polar, factors, polar, factors, learner=GradientBoostingClassifier(n_estimators=10))
    assert scores.disentanglement > 0.95
    assert scores.completeness == pytest.approx((1 - math.log(2) / math.log(3) + 1) / 2, abs=0.05)


def test_the_importances_are_the_learners_and_another_learner_serves(noisy, factors):
    train, test = slice(0, 600), slice(600, 1000)
    scores = dci(noisy[train], factors[train], noisy[test], factors[test], RandomForestClassifier(20), seed=3)
    forests = [RandomForestClassifier(20, random_state=3).fit(noisy[train], f) for f in factors[train].T]
    assert scores.importances == pytest.approx(np.array([f.feature_importances_ for f in forests]).T)
    accuracies = [forest.score(noisy[test], f) for forest, f in zip(forests, factors[test].T, strict=True)]
    assert scores.informativeness == pytest.approx(np.mean(accuracies))


def test_the_default_learner_is_gradient_boosting():
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(100, 2))
    codes = factors + rng.normal(size=(100, 2))
    explicit = GradientBoostingClassifier(n_estimators=100, max_depth=3, learning_rate=0.1)
    assert tuple(dci(codes, factors, codes, factors)) == tuple(dci(codes, factors, codes, factors, learner=explicit))


def test_the_default_regressor_is_gradient_boosting(uneven):
    codes, factors = uneven[0][:60], uneven[1][:60, 2:] * 1.0
    parts = codes[:40], factors[:40], codes[40:], factors[40:]
    scores = dci(*parts, seed=3)
    models = [GradientBoostingRegressor(random_state=3).fit(codes[:40], factor) for factor in factors[:40].T]
    assert scores.importances == pytest.approx(np.array([model.feature_importances_ for model in models]).T, abs=1e-6)
    r_squared = [model.score(codes[40:], factor) for model, factor in zip(models, factors[40:].T, strict=True)]
    assert scores.informativeness == pytest.approx(np.mean(r_squared), abs=1e-6)


def test_a_tree_knows_the_rows_that_it_has_seen_by_heart(noise, factors):
    scores = dci(noise[:600], factors[:600], noise[600:], factors[600:], DecisionTreeClassifier())
    assert scores.informativeness_train == 1
    assert scores.informativeness == pytest.approx((1 / 5 + 1 / 5 + 1 / 4) / 3, abs=0.05)
    parts = noise[:600], factors[:600] * 1.0, noise[600:], factors[600:] * 1.0
    scores = dci(*parts, regressor=DecisionTreeRegressor())
    assert scores.informativeness_train == 1
    assert scores.informativeness < 0


def test_shares_of_importance_weigh_units_and_factors(uneven):
    """Written out, for importances of four factors, one constant, in five units, one constant too."""
    codes, factors = uneven
    forest = RandomForestClassifier(10, max_depth=3)
    scores = dci(codes, factors, codes, factors, forest, seed=1)
    table = scores.importances
    assert table.shape == (5, 3)
    assert table[3].tolist() == [0, 0, 0]
    for found, lines in ((scores.disentanglement, table), (scores.completeness, table.T)):
        expected = 0.0
        for line in lines:
            if line.sum() > 0:
                shares = [value / line.sum() for value in line if value > 0]
                entropy = -sum(share * math.log(share, len(line)) for share in shares)
                expected += line.sum() / table.sum() * (1 - entropy)
        assert found == pytest.approx(expected)
    one = dci(codes, factors[:, :1], codes, factors[:, :1], forest)
    assert one.disentanglement == 1  # there is no other factor
    one = dci(codes[:, :1], factors, codes[:, :1], factors, forest)
    assert one.completeness == 1


def test_a_learner_without_a_seed_or_of_another_seed_is_left_as_it_was(noisy, factors):
    forest = RandomForestClassifier(5, random_state=9)
    parts = (noisy, factors) * 2
    assert dci(*parts, forest, seed=1).importances.tolist() == dci(*parts, forest, seed=1).importances.tolist()
    assert dci(*parts, forest, seed=1).importances.tolist() != dci(*parts, forest, seed=2).importances.tolist()
    assert forest.random_state == 9
    assert not hasattr(forest, "estimators_")
