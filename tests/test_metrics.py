from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bvae.metrics import discretize, entropy, mutual_information, mutual_information_gap

FACTORS = np.stack(np.unravel_index(np.arange(4 * 5 * 10), (4, 5, 10)), axis=1)  # a full grid


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


def test_a_perfect_code_scores_1_and_a_redundant_or_constant_one_0():
    assert mutual_information_gap(FACTORS.astype(float), FACTORS) == pytest.approx(1)
    assert mutual_information_gap(np.tile(FACTORS, 2).astype(float), FACTORS) == pytest.approx(0)
    assert mutual_information_gap(np.zeros((200, 3)), FACTORS) == pytest.approx(0)


def test_rotating_a_perfect_code_lowers_the_score():
    codes = FACTORS.astype(float)
    angle = np.pi / 4
    codes[:, 1:] = codes[:, 1:] @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert mutual_information_gap(codes, FACTORS) < 0.6  # one of three factors is left alone


def test_permuting_and_rescaling_units_and_relabelling_factors_changes_nothing():
    rng = np.random.default_rng(0)
    codes = FACTORS + rng.normal(size=FACTORS.shape)
    score = mutual_information_gap(codes, FACTORS)
    assert mutual_information_gap(codes[:, [2, 0, 1]] * [3, -7, 0.1] + 5, FACTORS) == pytest.approx(score, abs=0.05)
    assert mutual_information_gap(codes[:, [2, 0, 1]] * [3, 7, 0.1], FACTORS * 100 - 3) == pytest.approx(score)


def test_factors_that_do_not_vary_are_left_out_and_torch_is_taken():
    factors = np.concatenate((FACTORS, np.full((200, 1), 7)), axis=1)
    codes = torch.from_numpy(FACTORS).float()
    assert mutual_information_gap(codes, torch.from_numpy(factors)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.full((200, 3), np.nan), FACTORS, "codes must be finite"),
        (np.zeros((199, 3)), FACTORS, r"with one N, got \(199, 3\) and \(200, 3\)"),
        (np.zeros((200, 3)), FACTORS / 2, "factors must be integers, got float64"),
        (np.zeros((200, 1)), FACTORS, "needs two units or more"),
        (np.zeros((200, 3)), FACTORS * 0, "no factor varies"),
    ],
)
def test_what_cannot_be_scored_is_refused(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_gap(codes, factors)
