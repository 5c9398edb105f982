"""Codes and factors as every score takes them: checked, factors as classes, rows split for training and test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def check_codes(codes: ArrayLike) -> np.ndarray:
    """Codes as (N, D) float64, from NumPy, lists or torch on any device; raises ValueError for what is none."""
    codes = _array(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"codes must be (N, D), got shape {codes.shape}")
    if not np.issubdtype(codes.dtype, np.integer) and not np.issubdtype(codes.dtype, np.floating):
        raise ValueError(f"codes must be real numbers, got {codes.dtype}")
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite, got NaN or infinity")
    return codes.astype(np.float64, copy=False)  # scores call one another with what is checked already


def check(codes: ArrayLike, factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Codes as (N, D) float64 and factors as (N, K) integers.

    Raises ValueError for shapes that don't fit, for NaN and for factors that aren't integers. Of other numbers, such as
    dSprites' `latents_values`, each different value is a class of its own; rounding them would merge classes.
    """
    codes, factors = check_codes(codes), _array(factors)
    if factors.ndim != 2 or not factors.shape[1] or len(codes) != len(factors):
        raise ValueError(f"codes must be (N, D) and factors (N, K) with one N, got {codes.shape} and {factors.shape}")
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(
            f"factors must be integers, got {factors.dtype}; where each value is a class, they become class indices by "
            "np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)"
        )
    return codes, factors


def check_rows(factors: np.ndarray, per_value: int = 2, part: str = "") -> None:
    """Raise ValueError where factors (N, K) have fewer rows than `per_value` for each value, on average.

    With one row for each value nothing varies within a value, and every unit seems to follow every factor.
    """
    values = max(len(np.unique(factor)) for factor in factors.T)
    if len(factors) < per_value * values:
        raise ValueError(
            f"{len(factors):,} rows{part} are too few for a factor of {values:,} values: "
            f"{per_value * values:,} or more are needed"
        )


def varying(*factors: np.ndarray) -> list[np.ndarray]:
    """The given parts of a table without the factors that have one value only in the first: each (N, K) -> (N, K').

    Raises ValueError where none varies.
    """
    keep = (factors[0] != factors[0][0]).any(axis=0)
    if not keep.any():
        raise ValueError("every factor has one value only, so there is nothing to follow")
    return [part[:, keep] for part in factors]


def classes_of(factors: np.ndarray) -> np.ndarray:
    """Factors (N, K) of any integers as class indices 0, 1, … in the order of their values."""
    return np.stack([np.unique(factor, return_inverse=True)[1] for factor in factors.T], axis=1)


def check_parts(
    codes_train: ArrayLike,
    factors_train: ArrayLike,
    codes_test: ArrayLike,
    factors_test: ArrayLike,
    classes: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both parts checked, with the factors that vary in the first.

    Raises ValueError where the parts don't fit and, where factors are taken as classes, for parts of fewer than two
    rows for each value of a factor.
    """
    codes_train, factors_train = check(codes_train, factors_train)
    codes_test, factors_test = check(codes_test, factors_test)
    for name, train, test in (("codes", codes_train, codes_test), ("factors", factors_train, factors_test)):
        if train.shape[1] != test.shape[1]:
            raise ValueError(f"{name} for training and test must have one width, got {train.shape} and {test.shape}")
    factors_train, factors_test = varying(factors_train, factors_test)
    if classes:
        check_rows(factors_train, part=" for training")
        check_rows(factors_test, part=" for testing")
    return codes_train, factors_train, codes_test, factors_test


def split(total: int, num_train: int, num_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and test, drawn without replacement; of a table with too few, all rows in the same ratio."""
    num_train, num_test = _sizes(total, num_train, num_test)
    drawn = np.random.default_rng(seed).choice(total, num_train + num_test, replace=False)
    return drawn[:num_train], drawn[num_train:]


def rows(total: int, num_train: int, num_test: int) -> str:
    """How many rows `split` takes of so many, in words."""
    return "{:,} training and {:,} test rows".format(*_sizes(total, num_train, num_test))


def _sizes(total: int, num_train: int, num_test: int) -> tuple[int, int]:
    if min(num_train, num_test) < 1 or total < 2:
        raise ValueError(
            f"training and test need a row or more each, got num_train={num_train} and num_test={num_test} of {total}"
        )
    if total < num_train + num_test:
        num_train = min(max(round(total * num_train / (num_train + num_test)), 1), total - 1)
        num_test = total - num_train
    return num_train, num_test


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # NumPy has no bfloat16
    return np.asarray(values)
