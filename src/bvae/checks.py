"""Checks of what a configuration says, where it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

_LARGEST_INTEGER = 2**63 - 1  # of a tensor
_LARGEST = 3.4e38  # about the largest number of single precision, in which losses are computed
ROUNDING = 1e-4  # by which values of images may leave [0, 1]: interpolation and arithmetic do that
_NEAR = 0.1  # to [0, 1]: images of another range leave it further


def brought(low: float, high: float) -> str:
    """Say how images with values from low to high come to have values in [0, 1]."""
    if low >= -_NEAR and high <= 1 + _NEAR:
        return "images.clip(0, 1) cuts off what is outside"
    if low < 0:
        return "(images + 1) / 2 brings −1 to 1 there"
    return "images / 255 brings 0 to 255 there"


class OtherImages(ValueError):
    """A training is resumed with other images than those that it began with."""


class WrongSize(ValueError):
    """An architecture doesn't take images of this size.

    Args:
        rule: which sizes it takes, as a sentence.
        size: (H, W) of the images.
        nearest: sizes (H, W) near it that the architecture takes.
    """

    def __init__(self, rule: str, size: tuple[int, int], nearest: Sequence[tuple[int, int]]) -> None:
        found = " and ".join(f"{height}×{width}" for height, width in nearest)
        closest = f"the nearest sizes are {found}" if len(nearest) > 1 else f"the nearest size is {found}"
        super().__init__(f"{rule}, got {size[0]}×{size[1]}; {closest}")
        self.nearest = nearest


def finite(name: str, value: float) -> float:
    """The value as a float; raises TypeError unless it is a number, ValueError unless single precision holds it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if value != value or abs(value) == math.inf:  # math.isfinite would fail for the largest of integers
        raise ValueError(f"{name} must be finite, got {value}")
    if abs(value) > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST} in size, got {value}")
    return float(value)


def positive(name: str, value: float) -> float:
    """The value as a float above 0."""
    if finite(name, value) <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """The value as a float of 0 or more."""
    if finite(name, value) < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return float(value)


def integer(name: str, value: float, at_least: int, at_most: int = _LARGEST_INTEGER) -> int:
    """The value as an int from at_least to at_most; 100000.0 and 1e5 count as integers, 0.5 does not."""
    finite(name, value)
    if value != int(value):  # as a float an integer of more than 53 bits is another
        raise ValueError(f"{name} must be an integer, got {value}")
    if value < at_least:
        raise ValueError(f"{name} must be {at_least} or more, got {value}")
    if value > at_most:
        raise ValueError(f"{name} must be {at_most} or less, got {value}")
    return int(value)


def boolean(name: str, value: bool) -> bool:
    """The value, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {value!r}")
    return value


def steps(name: str, value: Sequence[int]) -> list[int]:
    """The value as a list of integers."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a list of steps, as [1000,2000], got {value!r}")
    return [integer(f"a step of {name}", step, 0) for step in value]


def points(name: str, value: Sequence[Sequence[float]]) -> list[list[float]]:
    """The value as [step, value] pairs, the steps integers and in order, the values 0 or more."""
    try:
        pairs = [(step, number) for step, number in value]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        raise ValueError(f"{name} must be pairs of a step and a value, as [[0,60],[1000,4]], got {value!r}")
    checked = [[integer(f"a step of {name}", step, 0), not_negative(f"a value of {name}", n)] for step, n in pairs]
    if checked != sorted(checked, key=lambda pair: pair[0]):
        raise ValueError(f"the steps of {name} must be in order, got {value!r}")
    return checked
