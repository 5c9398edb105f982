from __future__ import annotations

import numpy as np
import pytest
from grids import grid

from bvae.metrics import interventional_robustness


def test_a_tiny_example_by_hand():
    # Held by the first factor, the unit lies ½ from its class's mean, by the second 1; at most it lies 1½ from its own.
    codes = np.tile([[0.0], [1.0], [2.0], [3.0]], (5, 1))
    assert interventional_robustness(codes, np.tile(grid(2, 2), (5, 1))) == pytest.approx(1 - 0.5 / 1.5)


def test_units_weigh_by_their_largest_deviation():
    bits = np.tile(grid(2, 2), (5, 1))
    codes = np.stack((bits[:, 0] * 6.0, (2 * bits[:, 0] + bits[:, 1]) * 1.0), axis=1)  # 1 and 2/3; 3 and 1½
    assert interventional_robustness(codes, bits) == pytest.approx((3 * 1 + 1.5 * 2 / 3) / 4.5)


def test_codes_of_known_robustness(perfect, rotated, constant, factors):
    assert interventional_robustness(perfect, factors) == pytest.approx(1)
    assert interventional_robustness(np.concatenate((perfect, constant), axis=1), factors) == pytest.approx(1)
    assert interventional_robustness(constant, factors) == 0
    # A turned unit goes as far as either factor takes it: half of its way once one is held.
    assert interventional_robustness(rotated, factors[:, :2], quantile=1.0) == pytest.approx(0.5)


def test_noise_is_as_robust_as_its_tails():
    noise = np.random.default_rng(0).normal(size=(100_000, 3))  # many rows, as the best factor is the luckiest
    factors = np.tile(grid(5, 4), (5_000, 1))
    # Holding a factor leaves noise its 0.99 quantile, 2.58 deviations; the weights cancel the division.
    largest = np.abs(noise - noise.mean(axis=0)).max(axis=0)
    assert interventional_robustness(noise, factors) == pytest.approx(1 - 3 * 2.576 / largest.sum(), abs=0.01)


def test_classes_of_few_images_are_held_in_bins():
    noise = np.random.default_rng(0).normal(size=(4_000, 2))
    every_row_its_own = np.random.default_rng(1).permutation(4_000)[:, None]
    assert interventional_robustness(noise, every_row_its_own) < 0.4
    with pytest.raises(ValueError, match="4,000 rows are too few for a factor of 4,000 values: 40,000 or more"):
        interventional_robustness(noise, every_row_its_own, num_bins=4_000)


def test_the_quantile_is_checked(perfect, factors):
    for wrong in (99, 0):
        with pytest.raises(ValueError, match=rf"quantile must be in \(0, 1\], got {wrong}"):
            interventional_robustness(perfect, factors, quantile=wrong)


def test_classes_count_by_their_order_whatever_their_names(noisy, factors):
    expected = interventional_robustness(noisy, factors)
    for names in ([0, 1, 10, 100, 1000], [-9, -8, 0, 1, 2]):
        assert interventional_robustness(noisy, np.array(names)[factors]) == pytest.approx(expected, abs=1e-12)
    codes = np.repeat(np.arange(5), 10)[:, None]
    assert interventional_robustness(codes, np.array([0, 1, 10, 100, 1000])[codes]) == 1  # five classes, held apart
    # Two bins of the five: 0 and 1, and 2, 3 and 4; ½ and 1 of at most 2.
    assert interventional_robustness(codes, codes, quantile=1, num_bins=2) == pytest.approx(1 - (0.5 + 1) / 2 / 2)


def test_ten_rows_for_each_class_that_is_held_are_enough(perfect):
    classes = np.arange(50)[:, None] % 5
    assert interventional_robustness(classes, classes) == 1
    with pytest.raises(ValueError, match="49 rows are too few for a factor of 5 values: 50 or more"):
        interventional_robustness(classes[:49], classes[:49])


def test_continuous_factors_are_held_in_equal_bins(uneven):
    codes, factors = uneven[0], uneven[0][:, :2] + 1
    for num_bins, options in ((20, {}), (4, {"num_bins": 4})):
        bins = np.stack([np.digitize(f, np.linspace(f.min(), f.max(), num_bins + 1)[1:-1]) for f in factors.T], axis=1)
        score = interventional_robustness
        assert score(np.tile(codes, (40, 1)), np.tile(factors, (40, 1)), **options) == pytest.approx(
            score(np.tile(codes, (40, 1)), np.tile(bins, (40, 1)), **options)
        )
