"""The β-VAE and FactorVAE scores, whose points share the value of a factor."""

from __future__ import annotations

import numpy as np
import pytest
from grids import grid

from bvae.metrics import beta_vae_score, factor_vae_score
from bvae.metrics.shared_values import SharedValues

FEW = {"num_train": 2_000, "num_test": 1_000}


def test_partners_share_the_value_and_are_drawn_evenly():
    factors = np.concatenate((grid(3, 4), grid(3, 4)[:2])) * 10 - 3  # values twice over, on a scale of their own
    generator = np.random.default_rng(0)
    rows = generator.integers(len(factors), size=(500, 40))
    for factor in range(2):
        partners = SharedValues(factors).draw(factor, rows, generator)
        assert partners.shape == rows.shape
        assert (factors[partners, factor] == factors[rows, factor]).all()
    same = np.flatnonzero(factors[:, 0] == factors[0, 0])  # six rows
    drawn = SharedValues(factors).draw(0, np.zeros(60_000, dtype=int), generator)
    assert np.unique(drawn).tolist() == same.tolist()
    assert np.bincount(drawn)[same] / 60_000 == pytest.approx(np.full(6, 1 / 6), abs=0.01)


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_codes_of_known_score(score, perfect, rotated, noise, constant, factors):
    assert score(perfect, factors, **FEW) == pytest.approx(1)
    assert score(perfect[:, [0, 0, 1, 2]], factors, **FEW) == pytest.approx(1)
    chance = 0.08  # what 1,000 test points and a learner that fits noise leave open
    assert score(rotated, factors[:, :2], **FEW) == pytest.approx(1 / 2, abs=chance)
    assert score(noise, factors, **FEW) == pytest.approx(1 / 3, abs=chance)
    expected = 0 if score is factor_vae_score else pytest.approx(1 / 3, abs=chance)
    assert score(constant, factors, **FEW) == expected


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_an_angle_on_a_circle_of_two_units_is_told_from_another_factor(score):
    angle, size = grid(40, 5).T
    polar = np.stack((np.cos(np.pi * angle / 20), np.sin(np.pi * angle / 20), size), axis=1)
    assert score(polar, grid(40, 5), **FEW) == pytest.approx(1)


def test_units_that_hardly_move_have_no_vote(rotated, perfect, factors):
    codes = np.concatenate((rotated, perfect[:, :2] * 0.01), axis=1)  # two small units are perfect
    assert factor_vae_score(codes, factors[:, :2], min_std=0.0, **FEW) == pytest.approx(1)
    assert factor_vae_score(codes, factors[:, :2], **FEW) == pytest.approx(1 / 2, abs=0.08)


def test_a_seed_gives_the_same_score_again(noisy, factors):
    for score in (beta_vae_score, factor_vae_score):
        assert score(noisy, factors, seed=1, **FEW) == score(noisy, factors, seed=1, **FEW)
    assert factor_vae_score(noisy, factors, batch_size=2, seed=1, **FEW) != factor_vae_score(
        noisy, factors, batch_size=2, seed=2, **FEW
    )


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_what_cannot_be_scored_is_refused(score, perfect, factors):
    with pytest.raises(ValueError, match="VAE score tells factors apart, and only one varies"):
        score(perfect, factors[:, :1])
    with pytest.raises(ValueError, match="num_train must be 1 or more, got 0"):
        score(perfect, factors, num_train=0)
    with pytest.raises(ValueError, match="batch_size must be 2 or more, got 1"):
        factor_vae_score(perfect, factors, batch_size=1)
    with pytest.raises(ValueError, match="min_std must not be negative, got -1"):
        factor_vae_score(perfect, factors, min_std=-1)


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_what_is_learned_is_scored_on_points_of_its_own(score, noise, factors):
    # Twelve votes, or forty points of thirty units, are learned by heart where they tell nothing.
    few, units = (12, 3) if score is factor_vae_score else (40, 30)
    codes = np.random.default_rng(0).normal(size=(1_000, units))
    assert score(codes, factors, num_train=few, num_test=3_000) == pytest.approx(1 / 3, abs=0.05)
    # Nor is it learned on the points that are scored: of twelve, or forty, more would be right by luck.
    scores = [score(codes, factors, num_train=200, num_test=few, seed=seed) for seed in range(10)]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.12)
    sevenths = score(noise, factors, num_train=50, num_test=7) * 7
    assert sevenths == pytest.approx(round(sevenths))  # the share of seven points
    assert 0 < sevenths < 7


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_more_points_than_are_held_at_once_are_scored_once_each(score, perfect, factors):
    assert score(perfect[:, :2], factors[:, :2], num_train=300, num_test=3_401) == 1


def test_a_point_of_the_beta_vae_score_is_a_mean_whose_size_does_not_grow_with_its_pairs(perfect, factors):
    # The penalty of the regression hides differences of a hundredth, however many pairs there are.
    tiny = perfect * 0.003
    for num_pairs in (1, 64):
        assert beta_vae_score(tiny, factors, num_pairs, num_train=500, num_test=1_000) < 0.45
    # The sizes of two differences tell which factor was held; their sum may be 0 for any factor.
    assert beta_vae_score(perfect, factors, num_pairs=2, **FEW) > 0.8


def test_the_least_deviation_of_a_vote_is_that_of_the_codes(perfect, factors):
    codes = perfect / perfect.std(axis=0, ddof=1)
    few = {"num_train": 100, "num_test": 100}
    assert factor_vae_score(codes * 0.1, factors, **few) == 1
    assert factor_vae_score(codes * 0.04, factors, **few) == 0  # none has a vote
    (least,) = perfect[:, :1].std(axis=0, ddof=1)
    assert factor_vae_score(perfect[:, :1], factors[:, :2], min_std=least, **few) > 0.4
    assert factor_vae_score(perfect[:, :1], factors[:, :2], min_std=np.nextafter(least, 9), **few) == 0


def test_a_constant_unit_never_votes(perfect, factors):
    for value in (0.5, 0.7):  # whose mean is exact, and rounded
        codes = np.insert(perfect, 1, value, axis=1)
        assert factor_vae_score(codes, factors, min_std=0.0, num_train=100, num_test=100) == 1


def test_two_codes_make_the_smallest_batch_and_one_point_the_smallest_part(perfect, factors):
    assert 0 <= factor_vae_score(perfect, factors, batch_size=2, num_train=1, num_test=1) <= 1
    assert beta_vae_score(perfect, factors, num_pairs=1, num_train=9, num_test=1) in (0, 1)
    for score, wrong in (
        (beta_vae_score, {"num_pairs": 0}),
        (beta_vae_score, {"num_test": 0}),
        (factor_vae_score, {"num_test": 0}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be 1 or more, got 0"):
            score(perfect, factors, **wrong)


def test_a_vote_goes_to_the_unit_that_varies_least_for_its_scale():
    """Written out, batch by batch, for units that follow their factors with noise and on scales of their own."""
    rng = np.random.default_rng(0)
    factors = np.tile(grid(4, 6), (40, 1))
    codes = (factors + rng.normal(scale=[1.5, 2.5], size=factors.shape)) * [1, 50]
    votes = np.zeros((2, 2))
    for factor in (0, 1):
        for _ in range(1_500):
            shared = rng.choice(factors[:, factor])
            batch = codes[rng.choice(np.flatnonzero(factors[:, factor] == shared), 5)]
            votes[factor, np.argmin(batch.var(axis=0) / codes.var(axis=0))] += 1
    expected = votes.max(axis=0).sum() / votes.sum()
    assert 0.55 < expected < 0.8
    found = factor_vae_score(codes, factors, batch_size=5, num_train=3_000, num_test=6_000)
    assert found == pytest.approx(expected, abs=0.04)
