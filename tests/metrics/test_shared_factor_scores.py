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
    with pytest.raises(ValueError, match="only one varies"):
        score(perfect, factors[:, :1])
    with pytest.raises(ValueError, match="num_train must be 1 or more, got 0"):
        score(perfect, factors, num_train=0)
    with pytest.raises(ValueError, match="batch_size must be 2 or more, got 1"):
        factor_vae_score(perfect, factors, batch_size=1)
    with pytest.raises(ValueError, match="min_std must not be negative, got -1"):
        factor_vae_score(perfect, factors, min_std=-1)
