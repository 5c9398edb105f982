from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from bvae.metrics import discretize, entropy, mutual_information, mutual_information_gap


def test_bins_are_equal_from_minimum_to_maximum():
    codes = np.array([[0.0, 7.0], [0.49, 7.0], [0.51, 7.0], [1.0, 7.0]])
    assert discretize(codes, 2).tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]  # a constant unit lies in one bin


def test_entropy_and_information_of_a_tiny_example_by_hand():
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    codes = np.array([[0.0, 5.0], [0.0, 5.0], [1.0, 5.0], [1.0, 5.0]])
    assert entropy(factors).tolist() == pytest.approx([math.log(2)] * 2)
    assert mutual_information(codes, factors, num_bins=2).tolist() == [[pytest.approx(math.log(2)), 0], [0, 0]]
    # The first factor has all its entropy in unit 0 and none in unit 1; the second has none anywhere.
    assert mutual_information_gap(codes, factors, num_bins=2) == pytest.approx(0.5)


def test_a_unit_that_is_wrong_one_time_in_ten():
    factor = np.repeat([0, 1], 50)
    wrong = np.arange(100) % 10 == 0
    codes = np.stack((factor ^ wrong, np.zeros(100)), axis=1)
    noise = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))  # bits that the errors take from the one there is
    assert mutual_information_gap(codes, factor[:, None]) == pytest.approx(1 - noise)


def test_codes_of_known_gap(perfect, rotated, noise, constant, factors):
    assert mutual_information_gap(perfect, factors) == pytest.approx(1)
    assert mutual_information_gap(rotated, factors[:, :2]) == pytest.approx(0, abs=1e-9)
    assert mutual_information_gap(constant, factors) == 0
    assert mutual_information_gap(noise, factors) < 0.05
    redundant = perfect[:, [0, 0, 1, 2]]  # no gap for the first of three factors
    assert mutual_information_gap(redundant, factors) == pytest.approx(2 / 3)


def test_an_angle_on_a_circle_of_two_units_has_next_to_no_gap():
    angle = np.tile(np.arange(40), 10)
    polar = np.stack((np.cos(2 * np.pi * (angle + 0.5) / 40), np.sin(2 * np.pi * (angle + 0.5) / 40)), axis=1)
    assert mutual_information_gap(polar, angle[:, None]) == pytest.approx(0, abs=1e-9)


def test_information_is_scikit_learns(noisy, factors):
    ours = mutual_information(noisy, factors)
    bins = discretize(noisy, 20)
    theirs = [[mutual_info_score(b, f) for f in factors.T] for b in bins.T]
    assert ours == pytest.approx(np.array(theirs), abs=1e-12)


def test_the_gap_needs_two_units(perfect, factors):
    with pytest.raises(ValueError, match="needs two units or more"):
        mutual_information_gap(perfect[:, :1], factors)
