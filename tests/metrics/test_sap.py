from __future__ import annotations

import numpy as np
import pytest
from grids import grid
from sklearn.svm import LinearSVC

from bvae.metrics import SAP, sap

BITS = np.tile(grid(2, 2, 2), (20, 1))


def test_a_bit_is_predicted_fully_by_its_unit_and_by_chance_by_another():
    assert sap(BITS * 2.0 - 1, BITS, BITS * 2.0 - 1, BITS) == pytest.approx(0.5)


def test_two_units_alike_leave_no_gap(constant, factors, noise):
    codes = (BITS * 2.0 - 1)[:, [0, 0, 1, 1, 2, 2]]
    assert sap(codes, BITS, codes, BITS) == 0
    assert sap(constant, factors, constant, factors) == 0
    assert sap(noise, factors, noise, factors) < 0.05


def test_rotated_units_leave_no_gap(rotated, factors):
    assert sap(rotated, factors[:, :2], rotated, factors[:, :2], continuous=True) == pytest.approx(0, abs=1e-12)
    assert sap(rotated, factors[:, :2], rotated, factors[:, :2]) < 0.02


def test_squared_correlations_by_hand():
    factor = np.tile(np.arange(4), 3)[:, None]
    half, bump = [0, 0, 1, 1] * 3, [0, 1, 1, 0] * 3  # R² of 4/5 and of 0
    codes = np.array([half, bump]).T
    assert sap(codes, factor, codes, factor, continuous=True) == pytest.approx(0.8)
    assert sap(codes * [1, 0], factor, codes * [1, 0], factor, continuous=True) == pytest.approx(0.8)


def test_squared_correlations_are_the_same_on_any_scale(perfect, factors):
    right = sap(perfect, factors * 1.0, perfect, factors * 1.0, continuous=True)
    small = perfect * 1e-200, factors * 1e-6
    assert sap(*small, *small, continuous=True) == pytest.approx(right)


def test_the_accuracy_is_that_of_scikit_learns_svm(noisy, factors):
    train, test = slice(0, 600), slice(600, 1000)
    accuracies = np.empty((3, 3))
    for unit, factor in np.ndindex(3, 3):
        svm = LinearSVC(C=0.01, class_weight="balanced", dual=True, max_iter=100_000, random_state=0)
        svm.fit(noisy[train, [unit]], factors[train, factor])
        accuracies[unit, factor] = svm.score(noisy[test, [unit]], factors[test, factor])
    second, first = np.sort(accuracies, axis=0)[-2:]
    ours = sap(noisy[train], factors[train], noisy[test], factors[test])
    assert ours == pytest.approx((first - second).mean(), abs=0.005)  # the dual solver stops a little elsewhere


def test_the_protocol_says_how_many_rows_there_were():
    assert SAP().protocol(737_280).endswith("10,000 training and 5,000 test rows")
    assert SAP().protocol(600).endswith("400 training and 200 test rows")
    with pytest.raises(
        ValueError, match="training and test need a row or more each, got num_train=0 and num_test=5000 of 600"
    ):
        SAP(num_train=0).protocol(600)


def test_the_parts_must_fit(perfect, factors):
    with pytest.raises(ValueError, match=r"codes for training and test must have one width, got .*3.*2"):
        sap(perfect, factors, perfect[:, :2], factors)
    with pytest.raises(ValueError, match=rf"the gap needs two units or more, got codes of shape \({len(perfect)}, 1\)"):
        sap(perfect[:, :1], factors, perfect[:, :1], factors)


def test_classes_of_few_rows_weigh_as_much_as_those_of_many():
    """As scikit-learn's SVM whose loss counts each class alike, here by weights written out."""
    rng = np.random.default_rng(0)
    factors = (np.arange(600) % 10 == 0).astype(int)[:, None]
    codes = np.stack((factors[:, 0] * 1.5, np.zeros(600)), axis=1) + rng.normal(size=(600, 2))
    train, test = slice(0, 400), slice(400, 600)
    accuracies = []
    for unit in codes.T:
        weight = {0: 400 / (2 * 360), 1: 400 / (2 * 40)}
        svm = LinearSVC(C=0.01, class_weight=weight, dual=True, max_iter=100_000, random_state=0)
        accuracies.append(svm.fit(unit[train, None], factors[train, 0]).score(unit[test, None], factors[test, 0]))
    ours = sap(codes[train], factors[train], codes[test], factors[test])
    assert abs(accuracies[0] - accuracies[1]) > 0.1  # either would score 0.9 by answering 0
    assert ours == pytest.approx(abs(accuracies[0] - accuracies[1]), abs=0.01)


def test_squared_correlations_are_those_of_the_test_part(noisy, factors):
    train, test = slice(0, 600), slice(600, 1000)
    numbers = factors * [1.0, -2.0, 0.1] + 3.0
    expected = np.corrcoef(noisy[test].T, numbers[test].T)[:3, 3:] ** 2
    second, first = np.sort(expected, axis=0)[-2:]
    ours = sap(noisy[train], numbers[train], noisy[test], numbers[test], continuous=True)
    assert ours == pytest.approx((first - second).mean())
    assert ours != pytest.approx(
        sap(noisy[test], numbers[test], noisy[train], numbers[train], continuous=True), abs=1e-3
    )
    # Integers are numbers too where the factors are taken so.
    assert ours == pytest.approx(sap(noisy[train], factors[train], noisy[test], factors[test], continuous=True))


def test_whether_factors_are_continuous_is_true_or_false():
    for wrong in ("yes", 1, None):
        with pytest.raises(ValueError, match=f"continuous must be true or false, got {wrong!r}"):
            SAP(continuous=wrong)
