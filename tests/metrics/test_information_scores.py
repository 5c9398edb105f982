"""MIG-sup, DCIMIG and JEMMIG, of the same table of mutual information as MIG."""

from __future__ import annotations

import math

import numpy as np
import pytest
from grids import grid

from bvae.metrics import dcimig, jemmig, mig_sup

BITS = np.tile(grid(2, 2), (5, 1))
# The first unit is the first bit, and the second unit is both.
CODES = np.stack((BITS[:, 0], 2 * BITS[:, 0] + BITS[:, 1]), axis=1)


def test_a_tiny_example_by_hand():
    assert mig_sup(CODES, BITS, num_bins=4) == pytest.approx((1 + 0) / 2)
    assert dcimig(CODES, BITS, num_bins=4) == pytest.approx((math.log(2) + 0) / (2 * math.log(2)))
    # The second bit: H(f, z*) = 2 log 2, I* = log 2, I° = 0; log 2 + log 4 to be divided by.
    assert jemmig(CODES, BITS[:, 1:], num_bins=4) == pytest.approx(1 - 1 / 3)


def test_a_factor_counts_by_its_best_unit_and_one_without_a_unit_as_nothing():
    bits = np.tile(grid(2, 2, 2), (5, 1))
    wrong = np.arange(len(bits)) // 8 == 0  # once in five, whatever the bits
    codes = np.stack((bits[:, 0] ^ wrong, bits[:, 0], bits[:, 1]), axis=1)
    assert dcimig(codes, bits, num_bins=2) == pytest.approx(2 / 3)


def test_mig_sup_weighs_each_information_by_its_factors_entropy():
    factors = np.tile(grid(2, 4), (5, 1))
    both = factors[:, :1] * 4 + factors[:, 1:]
    assert mig_sup(both, factors, num_bins=8) == pytest.approx(0)
    assert dcimig(both, factors, num_bins=8) == pytest.approx((math.log(4) - math.log(2)) / math.log(8))


def test_codes_of_known_score(perfect, rotated, noise, constant, factors):
    for score in (mig_sup, dcimig):
        assert score(perfect, factors) == pytest.approx(1)
        assert score(perfect[:, [0, 0, 1, 2]], factors) == pytest.approx(1)  # redundant units are no fault
        assert score(rotated, factors[:, :2]) == pytest.approx(0, abs=1e-9)
        assert score(noise, factors) < 0.05
        assert score(constant, factors) == 0
        with pytest.raises(ValueError, match="compares factors, and only one varies"):
            score(perfect, factors[:, :1])
    assert jemmig(perfect, factors) == pytest.approx(1)
    assert jemmig(perfect[:, [0, 0, 1, 2]], factors) < 0.95
    finer = np.stack((BITS[:, 0], 2 * BITS[:, 0] + BITS[:, 1]), axis=1)  # both tell the bit, one something else too
    assert jemmig(finer, BITS[:, :1], num_bins=4) == jemmig(finer[:, ::-1], BITS[:, :1], num_bins=4)
    entropies = np.log([5, 5, 4])
    assert jemmig(constant, factors) == pytest.approx(np.mean(np.log(20) / (entropies + np.log(20))))
    with pytest.raises(ValueError, match=r"two units or more, got codes of shape \(1000, 1\)"):
        jemmig(perfect[:, :1], factors)
