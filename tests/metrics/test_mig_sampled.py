from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from bvae.metrics import (
    Codes,
    SampledMutualInformationGap,
    binned,
    mig_sampled,
    mutual_information_gap,
    sampled_mutual_information_gap,
)

BIT = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (500, 1))


def posteriors(distance: float) -> np.ndarray:
    """Means of a unit that lies this far on either side for the first bit, and of one at the prior."""
    return np.stack((distance * (2 * BIT[:, 0] - 1), np.zeros(len(BIT))), axis=1)


def test_a_bit_between_two_unit_gaussians_has_the_information_of_its_channel():
    # I = 1 − E log₂(1 + exp(−2·d·y)) bits for y ~ N(d, 1), of the one that the factor has.
    y = np.linspace(-9, 11, 20_001)
    for distance in (0.5, 1.0, 2.0):
        density = np.exp(-((y - distance) ** 2) / 2) / math.sqrt(2 * math.pi)
        bits = 1 - (density * np.log2(1 + np.exp(-2 * distance * y))).sum() * (y[1] - y[0])
        found = sampled_mutual_information_gap(posteriors(distance), np.zeros((len(BIT), 2)), BIT[:, :1])
        assert found == pytest.approx(bits, abs=0.03)


def test_what_posteriors_blur_is_no_information_though_their_means_tell_all():
    means = posteriors(0.001)
    assert mutual_information_gap(means, BIT[:, :1]) == pytest.approx(1)
    assert sampled_mutual_information_gap(means, np.zeros_like(means), BIT[:, :1]) == pytest.approx(0, abs=3e-3)
    assert sampled_mutual_information_gap(means, np.full_like(means, -20.0), BIT[:, :1]) == pytest.approx(1, abs=1e-3)


def test_factors_are_chosen_by_index_and_means_alone_are_refused():
    means = torch.from_numpy(posteriors(5.0))
    codes = Codes(means, torch.zeros_like(means), torch.from_numpy(BIT))
    first, second, both = (SampledMutualInformationGap(factors).score(codes) for factors in (np.array([0]), [1], None))
    assert first == pytest.approx(1, abs=0.01)
    assert second == pytest.approx(0, abs=0.01)
    assert both == pytest.approx((first + second) / 2, abs=0.01)
    assert "mean over factors 1, 2" in SampledMutualInformationGap([1, 2]).protocol(2_000)
    with pytest.raises(ValueError, match=r"factors must be indices from 0 to 1, got \[2\]"):
        SampledMutualInformationGap([2]).score(codes)
    with pytest.raises(ValueError, match="samples need the posteriors' log-variances, and these codes are means only"):
        SampledMutualInformationGap().score(codes._replace(log_variance=None))


def test_few_of_many_posteriors_give_nearly_the_same():
    means, log_variances = posteriors(1.0), np.zeros((len(BIT), 2))
    whole = sampled_mutual_information_gap(means, log_variances, BIT[:, :1])
    part = sampled_mutual_information_gap(means, log_variances, BIT[:, :1], num_samples=1_000, num_posteriors=200)
    assert part == pytest.approx(whole, abs=0.06)


def test_posteriors_narrower_than_they_lie_apart_tell_all_in_every_unit():
    """As after γ = 1000 at C = 25: each sample tells its image, and so each of the two units tells the factor."""
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(20_000, 1))
    means = rng.normal(size=(20_000, 2))
    log_variances = np.full((20_000, 2), -30.0)
    found = sampled_mutual_information_gap(means, log_variances, factors, num_samples=500, num_posteriors=300)
    assert found == pytest.approx(0, abs=0.02)
    log_variances[:, 1] = 0.0  # the other unit blurs them
    found = sampled_mutual_information_gap(means, log_variances, factors, num_samples=500, num_posteriors=300)
    assert found == pytest.approx(1, abs=0.05)


def test_the_seed_draws_the_rows_too():
    # Where posteriors are narrow and many the same, a sample's noise cancels: the score is that of the rows drawn.
    wrong = np.arange(len(BIT)) % 5 == 0
    means = np.stack((BIT[:, 0] ^ wrong, np.zeros(len(BIT))), axis=1).astype(float)
    table = means, np.full_like(means, -20.0), BIT[:, :1]
    few = [sampled_mutual_information_gap(*table, num_samples=30, seed=seed) for seed in (0, 1)]
    assert abs(few[0] - few[1]) > 1e-3


def test_how_many_densities_are_held_at_once_changes_nothing(monkeypatch, uneven):
    codes, factors = uneven[0][:, :3] / [1, 10, 1], uneven[1]
    expected = sampled_mutual_information_gap(codes, codes * 0 - 1, factors)
    monkeypatch.setattr(mig_sampled, "_BLOCK", 40_001)  # 100 samples beside 400 posteriors
    assert sampled_mutual_information_gap(codes, codes * 0 - 1, factors) == pytest.approx(expected, abs=1e-6)


def test_continuous_factors_are_taken_in_twenty_bins():
    rng = np.random.default_rng(0)
    factors = rng.uniform(size=(300, 2))
    means = factors + 0.1 * rng.normal(size=factors.shape)
    expected = sampled_mutual_information_gap(means, np.full_like(means, -4.0), binned(factors, 20))
    assert sampled_mutual_information_gap(means, np.full_like(means, -4.0), factors) == expected


def test_of_all_posteriors_the_mixture_is_exact():
    """Written out for twelve images: a narrow unit, in which no posterior is near another, and a wide one."""
    bit = np.arange(12) % 2
    means = np.stack((np.arange(12.0), 2.0 * bit), axis=1)
    deviations = np.tile([0.01, 1.0], (12, 1))
    samples = means + deviations * np.random.default_rng(3).normal(size=(12, 2))

    def cross_entropies(rows: np.ndarray) -> np.ndarray:
        densities = norm.pdf(samples[rows, None], means[rows], deviations[rows])
        return -np.log(densities.mean(axis=1)).sum(axis=0)

    given = cross_entropies(np.flatnonzero(bit == 0)) + cross_entropies(np.flatnonzero(bit == 1))
    narrow, wide = (cross_entropies(np.arange(12)) - given) / 12
    assert narrow == pytest.approx(np.log(2))
    expected = (narrow - wide) / np.log(2)
    found = sampled_mutual_information_gap(means, 2 * np.log(deviations), bit[:, None], seed=3)
    assert found == pytest.approx(expected, abs=1e-4)
