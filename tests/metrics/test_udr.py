from __future__ import annotations

import math

import numpy as np
import pytest

from bvae.metrics import unsupervised_disentanglement_ranking as udr


def units(n: int = 4_000, d: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_the_same_units_in_another_order_and_sign_are_alike_but_for_the_penalty():
    codes = units()
    moved = 3 * codes[:, [2, 0, 3, 1]] * [1, -1, 1, -1] + 5
    assert udr([codes, moved, codes]) == pytest.approx(np.full(3, 0.9), abs=0.02)  # a Lasso's coefficient is 1 − 0.1


def test_mixed_units_are_less_alike_and_independent_ones_not_at_all():
    codes = units()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    mixed = udr([codes, codes @ rotation])
    assert (mixed < 0.7).all()
    assert udr([codes, units(seed=2)]) == pytest.approx([0, 0], abs=1e-9)


def test_a_model_that_found_something_else_ranks_last():
    codes = units()
    values = udr([codes, codes[:, ::-1], -codes, units(seed=3)])
    assert values.argmin() == 3
    assert values[:3].min() > 0.8


def test_units_that_know_nothing_do_not_count():
    codes = units(d=6)
    other = codes.copy()
    other[:, 4:] = units(d=2, seed=5)
    informative = np.array([True] * 4 + [False] * 2)
    assert (udr([codes, other], [informative, informative]) > 0.85).all()
    assert (udr([codes, other]) < 0.7).all()
    other[:, 4:] = 1.0  # a collapsed unit
    assert (udr([codes[:, :4], other]) > 0.85).all()
    assert udr([codes, np.zeros_like(codes)]) == pytest.approx([0, np.nan], nan_ok=True)  # one has nothing to be like


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="a ranking needs the codes of two models or more, got 1"):
        udr([units()])
    with pytest.raises(ValueError, match=r"every model must have encoded the same images, got \[4000, 10\] of them"):
        udr([units(), units(10)])
    with pytest.raises(ValueError, match=r"informative must say of each of 4 units, got shape \(1,\)"):
        udr([units(), units()], [[True], [True]])


def test_likeness_counts_the_units_of_both_models(noise):
    # Four of the five units have a partner of similarity 0.9, and the third of noise has none.
    assert udr([noise[:, :2], noise]) == pytest.approx([4 / 5 * 0.9] * 2, abs=0.01)
    assert udr([noise, noise], alpha=0.3) == pytest.approx([0.7, 0.7], abs=0.01)


def test_a_models_rank_is_the_median_over_the_others():
    codes = units()
    # Alike with two of three others, 0.9; with the third not at all, 0.
    assert udr([codes, -codes, codes[:, ::-1], units(seed=3)]) == pytest.approx([0.9, 0.9, 0.9, 0], abs=0.02)


def test_a_unit_without_a_partner_is_shared_by_none():
    codes = units(d=2)
    both = codes.sum(axis=1, keepdims=True)
    # Either unit explains 1/√2 − 0.1 of their sum, which they share: x² / 2x for the sum, x for each of the two.
    x = math.sqrt(1 / 2) - 0.1
    assert udr([codes, both]) == pytest.approx([(x / 2 + x + x) / 3] * 2, abs=0.01)
