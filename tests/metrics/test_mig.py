from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from bvae.metrics import (
    ActiveMutualInformationGap,
    conditional_information,
    discretize,
    entropy,
    mutual_information,
    mutual_information_gap,
)


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
    with pytest.raises(ValueError, match=rf"the gap needs two units or more, got codes of shape \({len(perfect)}, 1\)"):
        mutual_information_gap(perfect[:, :1], factors)


def test_the_correction_for_few_rows_adds_the_values_that_were_seen():
    """Miller (1955): an entropy is (values − 1) / 2N too low, so that information is I + (U + F − B − 1) / 2N."""
    factor = np.repeat(np.arange(10), 100)[:, None]
    unit = np.insert(factor, 1, 0, axis=1)
    found = mutual_information(unit, factor, correction=True)
    assert found[:, 0] == pytest.approx([math.log(10) + 9 / 2_000, 0])  # ten values each and ten pairs; 1, 10 and 10
    assert mutual_information(unit, factor)[:, 0] == pytest.approx([math.log(10), 0])
    # All four pairs of two bits: 2 + 2 − 4 − 1 of 2 · 40, which leaves nothing below 0.
    bits = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
    assert mutual_information(bits[:, :1], bits[:, 1:], correction=True).tolist() == [[0]]
    told = mutual_information(bits[:39, :1], bits[:39, :1], num_bins=5, correction=True)
    p = 20 / 39
    assert told.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p) + 1 / 78)


def test_conditional_information_is_averaged_over_the_images_of_each_class():
    factor = np.repeat(np.arange(10), 100)[:, None]
    assert conditional_information(factor, factor, np.zeros(1_000)).item() == pytest.approx(math.log(10) + 9 / 2_000)
    # A bit in three images of ten, and nothing to tell in the others.
    bit, given = np.zeros((1_000, 1), dtype=int), np.repeat([4, 2], [300, 700])
    bit[:300:2] = 1
    assert conditional_information(bit, bit, given).item() == pytest.approx(0.3 * (math.log(2) + 1 / 600))
    assert conditional_information(bit, bit, given.tolist(), num_bins=2).item() == pytest.approx(
        0.3 * (math.log(2) + 1 / 600)
    )


def test_what_two_factors_tell_together_is_conditional_information_alone():
    bits = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (250, 1))
    both = (bits[:, :1] ^ bits[:, 1:]) * 2.0  # tells either bit of an image whose other bit is known
    units = np.hstack((both, bits[:, :1]))
    assert mutual_information(units, bits) == pytest.approx(np.array([[0, 0], [math.log(2), 0]]), abs=1e-12)
    # Within a class: 2 values of the unit, 2 of the factor and 2 pairs, of 500 images. A constant factor has no more.
    found = conditional_information(units, bits, given=bits[:, 1])
    assert found == pytest.approx(np.array([[math.log(2) + 1 / 1_000, 0], [math.log(2) + 1 / 1_000, 0]]))


def test_bins_are_those_asked_for():
    codes = np.arange(8.0)[:, None]
    assert mutual_information(codes, codes.astype(int), num_bins=2).item() == pytest.approx(math.log(2))
    assert mutual_information(codes, codes, num_bins=4).item() == pytest.approx(math.log(4))
    # Large and small by turns: each half of the unit has as many of either, and knows nothing but the values.
    turns = np.array([[0, 7, 1, 6, 2, 5, 3, 4]]).T
    assert mutual_information(codes, turns * 1.0, num_bins=2).item() == pytest.approx(0)
    assert mutual_information(codes, turns, num_bins=2).item() == pytest.approx(math.log(2))
    assert conditional_information(codes, codes, np.zeros(8), num_bins=4).item() == pytest.approx(math.log(4) + 3 / 16)
    many = np.arange(1_000.0)[:, None]
    assert mutual_information(many, many).item() == pytest.approx(math.log(20))
    assert conditional_information(many, many, np.zeros(1_000)).item() == pytest.approx(math.log(20) + 19 / 2_000)


def test_the_gap_of_active_units_needs_two(perfect, factors):
    metric = ActiveMutualInformationGap()
    for idle, active in ((0, 3), (1, 2), (2, 1)):
        metric.reset()
        log_variances = np.where(np.arange(3) < idle, 5.0, -5.0) * np.ones_like(perfect)
        metric.update(perfect, factors, log_variances)
        if active > 1:
            assert metric.compute().item() == pytest.approx(active / 3)  # of a factor in an idle unit there is no gap
            continue
        with pytest.warns(UserWarning, match="can't be computed: a gap needs two active units or more, got 1 of 3"):
            assert metric.compute().isnan()
