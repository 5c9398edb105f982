"""What a configuration's numbers may be: each bound from both sides, and what is said beyond it."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from bvae.checks import OtherImages, boolean, finite, integer, not_negative, points, positive, steps

LARGEST = 3.4e38  # about the largest of single precision, 3.4028e38
LARGEST_INTEGER = 9_223_372_036_854_775_807  # of 64 bits with a sign


def in_one(name: str, value: object) -> int:
    return integer(name, value, at_least=1)


def to_nine(name: str, value: object) -> int:
    return integer(name, value, at_least=-2, at_most=9)


def same(found: object, expected: object) -> bool:
    return found == expected and type(found) is type(expected)


TAKEN = [
    (finite, [(0, 0.0), (-1.5, -1.5), (LARGEST, LARGEST), (-LARGEST, -LARGEST), (Fraction(1, 2), 0.5)]),
    (finite, [(np.float32(0.5), 0.5), (np.int64(3), 3.0), (10**38, 1e38)]),
    (positive, [(1e-40, 1e-40), (2, 2.0)]),
    (not_negative, [(0, 0.0), (-0.0, 0.0), (0.25, 0.25)]),
    (in_one, [(1, 1), (100000.0, 100_000), (1e5, 100_000), (np.int64(2), 2)]),
    (in_one, [(2**53 + 1, 2**53 + 1), (LARGEST_INTEGER, LARGEST_INTEGER)]),
    (to_nine, [(-2, -2), (0, 0), (9, 9), (9.0, 9)]),
    (boolean, [(True, True), (False, False)]),
    (steps, [([], []), ([3, 1.0], [3, 1]), ((0, 5), [0, 5])]),
    (points, [([[0, 60], [1000, 4]], [[0, 60.0], [1000, 4.0]]), ([(5, 0.5), (5, 0)], [[5, 0.5], [5, 0.0]])]),
]
REFUSED = [
    (finite, "x must be a number, got {!r}", TypeError, ["1", None, True, [1], 1j]),
    (finite, "x must be finite, got {}", ValueError, [math.nan, math.inf, -math.inf]),
    (finite, "x must be at most 3.4e+38 in size, got {}", ValueError, [3.5e38, -3.5e38, 10**400]),
    (positive, "x must be positive, got {}", ValueError, [0, -0.0, -1e-9]),
    (positive, "x must be a number, got {!r}", TypeError, ["1"]),
    (not_negative, "x must not be negative, got {}", ValueError, [-1e-9, -3]),
    (in_one, "x must be an integer, got {}", ValueError, [1.5, 0.999]),
    (in_one, "x must be 1 or more, got {}", ValueError, [0, -1, 0.0]),
    (in_one, f"x must be {LARGEST_INTEGER} or less, got {{}}", ValueError, [LARGEST_INTEGER + 1]),
    (to_nine, "x must be -2 or more, got {}", ValueError, [-3]),
    (to_nine, "x must be 9 or less, got {}", ValueError, [10]),
    (boolean, "x must be true or false, got {!r}", TypeError, ["no", 0, 1, None]),
    (steps, "x must be a list of steps, as [1000,2000], got {!r}", TypeError, ["12", 12, None, {1: 2}]),
    (points, "x must be pairs of a step and a value, as [[0,60],[1000,4]], got {!r}", ValueError, [5, [], [1, 2]]),
    (points, "x must be pairs of a step and a value, as [[0,60],[1000,4]], got {!r}", ValueError, [[[1, 2, 3]]]),
    (points, "the steps of x must be in order, got {!r}", ValueError, [[[5, 1], [4, 9]], [[0, 1], [2, 1], [1, 1]]]),
]
OF_A_PART = [
    (steps, [5, "a"], "a step of x must be a number, got 'a'"),
    (steps, [5, -1], "a step of x must be 0 or more, got -1"),
    (points, [[0.5, 1]], "a step of x must be an integer, got 0.5"),
    (points, [[-1, 1]], "a step of x must be 0 or more, got -1"),
    (points, [[0, -1]], "a value of x must not be negative, got -1"),
    (points, [[0, "a"]], "a value of x must be a number, got 'a'"),
]


@pytest.mark.parametrize(("check", "cases"), TAKEN)
def test_what_is_allowed_is_given_back_in_its_own_kind(check, cases):
    for value, expected in cases:
        assert same(check("x", value), expected), value


@pytest.mark.parametrize(
    ("check", "said", "error", "values"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_is_not_allowed_is_named_with_what_is(check, said, error, values):
    for value in values:
        with pytest.raises(error, match=f"^{re.escape(said.format(value))}$"):
            check("x", value)


@pytest.mark.parametrize(("check", "value", "said"), OF_A_PART)
def test_a_part_that_is_not_allowed_is_named_as_one(check, value, said):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(said)}$"):
        check("x", value)


def test_other_images_are_a_wrong_value():
    assert issubclass(OtherImages, ValueError)
