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
    """Codes as (N, D) float64 and factors as (N, K): integers, whose values are classes, or float64, continuous ones.

    What is stored as floats is continuous, whole numbers too. Raises ValueError for shapes that don't fit, for NaN and
    for factors that aren't numbers.
    """
    codes, factors = check_codes(codes), _array(factors)
    if factors.ndim != 2 or not factors.shape[1] or len(codes) != len(factors):
        raise ValueError(f"codes must be (N, D) and factors (N, K) with one N, got {codes.shape} and {factors.shape}")
    if np.issubdtype(factors.dtype, np.floating):
        if not np.isfinite(factors).all():
            raise ValueError("continuous factors must be finite, got NaN or infinity")
        return codes, factors.astype(np.float64, copy=False)
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(f"factors must be integers (classes) or floats (continuous), got {factors.dtype}")
    return codes, factors


def is_continuous(factors: Any) -> bool:
    """Tell whether factors, NumPy's or torch's, are continuous, which floats are, or classes."""
    return bool(np.issubdtype(_array(factors[:1]).dtype, np.floating))


def check_classes(factors: np.ndarray, score: str, instead: str = "") -> None:
    """Raise ValueError for continuous factors, which `score` doesn't take; `instead` says what does."""
    if is_continuous(factors):
        raise ValueError(
            f"{score} needs factors that are classes, integers, got {factors.dtype}{instead}; where each value is a "
            "class, they become class indices by "
            "np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)"
        )


def binned(factors: np.ndarray, num_bins: int = 20) -> np.ndarray:
    """Integer factors (N, K) as they are, continuous ones as their bins out of num_bins equal ones."""
    return discretize(factors, num_bins) if is_continuous(factors) else factors


def discretize(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Each column's bin out of num_bins equal ones from its minimum to its maximum: (N, D) -> (N, D) int64."""
    if num_bins < 2:
        raise ValueError(f"num_bins must be 2 or more, got {num_bins}")
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.where(high > low, high - low, 1.0)  # a constant column lies in one bin
    return ((values - low) / width * num_bins).astype(np.int64).clip(0, num_bins - 1)


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

    Raises ValueError where the parts don't fit and for too few rows: where factors are taken as classes, fewer than two
    for each value of a factor, else, for R², fewer than ten, of which it is 1 / (N − 1) by chance.
    """
    codes_train, factors_train = check(codes_train, factors_train)
    codes_test, factors_test = check(codes_test, factors_test)
    for name, train, test in (("codes", codes_train, codes_test), ("factors", factors_train, factors_test)):
        if train.shape[1] != test.shape[1]:
            raise ValueError(f"{name} for training and test must have one width, got {train.shape} and {test.shape}")
    if is_continuous(factors_train) != is_continuous(factors_test):
        kinds = f"{factors_train.dtype} and {factors_test.dtype}"
        raise ValueError(f"factors for training and test must both be classes or both continuous, got {kinds}")
    factors_train, factors_test = varying(factors_train, factors_test)
    for part, factors in (("training", factors_train), ("testing", factors_test)):
        if classes:
            check_rows(factors, part=f" for {part}")
        elif len(factors) < 10:
            raise ValueError(f"{len(factors)} rows for {part} are too few for R²: 10 or more are needed")
    return codes_train, factors_train, codes_test, factors_test


def split(total: int, num_train: int, num_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and test, drawn without replacement; of a table with too few, all rows in the same ratio."""
    num_train, num_test = _sizes(total, num_train, num_test)
    drawn = np.random.default_rng(seed).choice(total, num_train + num_test, replace=False)
    return drawn[:num_train], drawn[num_train:]


def sample(total: int, num_rows: int, seed: int) -> np.ndarray:
    """Rows drawn without replacement, in their order; all of a table with no more than num_rows."""
    if num_rows < 1:
        raise ValueError(f"num_rows must be 1 or more, got {num_rows}")
    if total <= num_rows:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, num_rows, replace=False))


def rows(total: int, num_train: int, num_test: int) -> str:
    """How many rows `split` takes of so many, in words."""
    return "{:,} training and {:,} test rows".format(*_sizes(total, num_train, num_test))


def remark_on_scale(codes: ArrayLike) -> str:
    """Say that codes are too small for a penalised classifier, whose scale is the prior's; empty where they aren't."""
    largest = check_codes(codes).std(axis=0).max()
    if largest >= 0.1:
        return ""
    return f"no unit deviates by more than {largest:.2g}, and the classifier's penalty takes this score to chance there"


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
