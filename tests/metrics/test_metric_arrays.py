"""What every score does with codes and factors before it looks at them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bvae.metrics import arrays
from bvae.metrics.mutual_information import check_bins, remark_on_extremes

CODES = np.arange(6.0).reshape(3, 2)
FACTORS = np.arange(3)[:, None]


@pytest.mark.parametrize(
    "codes",
    [
        [[0, 1], [2, 3], [4, 5]],
        CODES.astype(np.float16),
        CODES.astype(np.uint8),
        torch.from_numpy(CODES).bfloat16(),
        torch.from_numpy(CODES).requires_grad_(),
        torch.from_numpy(CODES).int(),
    ],
)
def test_codes_become_doubles(codes):
    checked = arrays.check_codes(codes)
    assert checked.dtype == np.float64
    assert checked.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_codes_that_are_doubles_are_not_copied():
    assert arrays.check_codes(CODES) is CODES


def test_factors_keep_their_kind():
    for kind in (np.uint8, np.int32, np.int64):
        assert arrays.check(CODES, FACTORS.astype(kind))[1].dtype == kind
    for kind in (np.float16, np.float32, np.float64):
        checked = arrays.check(CODES, FACTORS.astype(kind))[1]
        assert checked.dtype == np.float64
        assert checked.tolist() == [[0], [1], [2]]
    for factors, continuous in ((FACTORS, False), (FACTORS * 1.0, True)):
        assert arrays.is_continuous(factors) is continuous
        assert arrays.is_continuous(torch.from_numpy(factors)) is continuous


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (CODES[None], FACTORS, r"codes must be \(N, D\), got shape \(1, 3, 2\)"),
        (CODES[:, :0], FACTORS, r"codes must be \(N, D\), got shape \(3, 0\)"),
        (CODES * 1j, FACTORS, "codes must be real numbers, got complex128"),
        (CODES > 1, FACTORS, "codes must be real numbers, got bool"),
        (np.where(CODES == 5, np.inf, CODES), FACTORS, "codes must be finite"),
        (CODES, FACTORS[:, 0], r"factors \(N, K\) with one N, got \(3, 2\) and \(3,\)"),
        (CODES, FACTORS[:, :0], r"factors \(N, K\) with one N, got \(3, 2\) and \(3, 0\)"),
        (CODES, FACTORS[:2], r"factors \(N, K\) with one N, got \(3, 2\) and \(2, 1\)"),
        (CODES, np.array([[0.0], [1.0], [np.inf]]), "continuous factors must be finite, got NaN or infinity"),
        (
            CODES,
            np.array([["a"], ["b"], ["c"]]),
            r"factors must be integers \(classes\) or floats \(continuous\), got <U1",
        ),
    ],
)
def test_what_are_no_codes_or_factors_is_refused(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        arrays.check(codes, factors)


def test_a_value_on_an_edge_is_in_the_bin_above_and_the_largest_in_the_last():
    values = np.array([[0.0, -8.0], [0.24, -7.0], [0.25, -6.0], [0.5, -5.0], [0.75, -4.0], [1.0, 8.0]])
    assert arrays.discretize(values, 4).T.tolist() == [[0, 0, 1, 2, 3, 3], [0, 0, 0, 0, 1, 3]]
    assert arrays.discretize(values, 2).T.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]
    assert arrays.discretize(np.array([[1], [2], [9]]), 20).T.tolist() == [[0, 2, 19]]
    with pytest.raises(ValueError, match="num_bins must be 2 or more, got 1"):
        arrays.discretize(values, 1)


def test_rows_for_each_value_are_counted_for_the_factor_of_most_values():
    factors = np.stack((np.arange(10) % 5, np.arange(10) % 2), axis=1)
    arrays.check_rows(factors)
    with pytest.raises(ValueError, match="9 rows are too few for a factor of 5 values: 10 or more are needed"):
        arrays.check_rows(factors[:9])
    arrays.check_rows(np.tile(factors, (5, 1)), per_value=10)
    with pytest.raises(ValueError, match="49 rows in all are too few for a factor of 5 values: 50 or more are needed"):
        arrays.check_rows(np.tile(factors, (5, 1))[:49], per_value=10, part=" in all")
    check_bins(np.arange(40)[:, None] % 20, 40)
    with pytest.raises(ValueError, match="39 rows are too few for 40 bins: 40 or more are needed"):
        check_bins(np.arange(39)[:, None] % 2, 40)
    with pytest.raises(ValueError, match="39 rows are too few for a factor of 20 values"):
        check_bins(np.arange(39)[:, None] % 20, 20)


def test_factors_that_vary_are_those_that_vary_in_the_first_part():
    first, second = np.array([[1, 5, 0], [1, 6, 0], [1, 6, 1]]), np.array([[1, 2, 3], [2, 2, 3]])
    assert [part.tolist() for part in arrays.varying(first, second)] == [[[5, 0], [6, 0], [6, 1]], [[2, 3], [2, 3]]]
    with pytest.raises(ValueError, match="every factor has one value only, so there is nothing to follow"):
        arrays.varying(first[:, :1], second[:, 1:2])


def test_classes_are_numbered_in_the_order_of_their_values():
    assert arrays.classes_of(np.array([[100, 1], [-3, 1], [7, 0], [7, 1]])).T.tolist() == [[2, 0, 1, 1], [1, 1, 0, 1]]


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ((12, 3, 2, 12, 2, 2), {}, r"codes for training and test must have one width, got \(12, 3\) and \(12, 2\)"),
        ((12, 3, 2, 12, 3, 1), {}, r"factors for training and test must have one width, got \(12, 2\) and \(12, 1\)"),
        ((7, 3, 2, 12, 3, 2), {}, "7 rows for training are too few for a factor of 4 values"),
        ((12, 3, 2, 7, 3, 2), {}, "7 rows for testing are too few for a factor of 4 values"),
        ((9, 3, 2, 12, 3, 2), {"classes": False}, "9 rows for training are too few for R²: 10 or more"),
        ((12, 3, 2, 9, 3, 2), {"classes": False}, "9 rows for testing are too few for R²: 10 or more"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, options, message):
    n, d, k, n_test, d_test, k_test = parts
    train, test = np.arange(n)[:, None] % 4, np.arange(n_test)[:, None] % 4
    with pytest.raises(ValueError, match=message):
        arrays.check_parts(
            np.zeros((n, d)), train.repeat(k, 1), np.zeros((n_test, d_test)), test.repeat(k_test, 1), **options
        )


def test_parts_that_fit_come_back_in_order_with_the_factors_that_vary_in_training():
    train, test = np.insert(np.arange(8)[:, None] % 4, 0, 1, axis=1), np.arange(16).reshape(8, 2) % 2
    found = arrays.check_parts(np.full((8, 1), 1), train, np.full((8, 1), 2), test)
    expected = np.full((8, 1), 1), train[:, 1:], np.full((8, 1), 2), test[:, 1:]
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    ten = np.arange(10.0)[:, None]
    assert len(arrays.check_parts(ten, ten, ten, ten, classes=False)[3]) == 10


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ((1_000, 30, 20), (30, 20)),
        ((50, 30, 20), (30, 20)),
        ((600, 10_000, 5_000), (400, 200)),
        ((49, 30, 20), (29, 20)),
        ((3, 1, 10_000), (1, 2)),
        ((3, 10_000, 1), (2, 1)),
        ((2, 5, 5), (1, 1)),
    ],
)
def test_a_split_takes_rows_once_and_of_few_in_the_same_ratio(sizes, taken):
    train, test = arrays.split(*sizes, seed=0)
    assert (len(train), len(test)) == taken
    assert len({*train, *test}) == sum(taken)
    assert {*train, *test} <= set(range(sizes[0]))
    assert arrays.rows(*sizes) == "{} training and {} test rows".format(*taken)


def test_a_split_is_drawn_by_the_seed_evenly_over_the_table():
    first, again, other = (arrays.split(10_000, 600, 400, seed) for seed in (0, 0, 1))
    for part, same, different in zip(first, again, other, strict=True):
        assert part.tolist() == same.tolist() != different.tolist()
        assert part.mean() == pytest.approx(5_000, abs=600)  # 4 deviations of 10,000 / √12 / √400
    assert arrays.rows(10**6, 10_000, 5_000) == "10,000 training and 5,000 test rows"
    for total, num_train, num_test in ((10, 0, 5), (10, 5, 0), (1, 5, 5)):
        said = (
            f"training and test need a row or more each, got num_train={num_train} and num_test={num_test} of {total}"
        )
        with pytest.raises(ValueError, match=said):
            arrays.split(total, num_train, num_test, seed=0)


def test_a_sample_is_drawn_by_the_seed_once_each_and_in_order():
    assert arrays.sample(5, 5, 0).tolist() == arrays.sample(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    rows = arrays.sample(1_000, 300, 0)
    assert len(rows) == 300
    assert (np.diff(rows) > 0).all()
    assert rows.mean() == pytest.approx(500, abs=60)
    assert rows.tolist() == arrays.sample(1_000, 300, 0).tolist() != arrays.sample(1_000, 300, 1).tolist()
    assert len(arrays.sample(5, 1, 0)) == 1
    with pytest.raises(ValueError, match="num_rows must be 1 or more, got 0"):
        arrays.sample(5, 0, 0)


def test_codes_smaller_than_a_tenth_of_the_priors_deviation_are_remarked_on():
    signs = np.array([[1.0, 1.0], [-1.0, -1.0]])
    assert arrays.remark_on_scale(signs * [0.01, 0.1]) == ""  # the largest unit decides
    assert arrays.remark_on_scale(signs * [0.01, 0.09] + 5).startswith("no unit deviates by more than 0.09, and")


def test_units_with_a_value_more_than_ten_deviations_out_are_named():
    # A single 1 among n − 1 zeros lies √(n − 1) deviations from the mean.
    codes = np.zeros((145, 4))
    codes[0, 1:] = 1.0, -1.0, 1.0
    codes[1:60, 3] = 1.0
    said = remark_on_extremes(codes, "the bins span")
    assert (
        said
        == "few values lie far out in units 1 (12), 2 (12) (their deviations from the mean), and the bins span them"
    )
    assert remark_on_extremes(codes[:100], "the bins span") == ""
    assert "units 1 (10), 2 (10) (" in remark_on_extremes(codes[:103], "the bins span")
    assert "units 1 (4), 2 (4) (" in remark_on_extremes(codes[:17], "the bins span", most=3.9)
