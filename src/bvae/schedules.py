"""Schedules as pure functions of the step: time is an argument, so nothing is lost when a run resumes."""

from __future__ import annotations

from collections.abc import Sequence


def _progress(step: int, steps: int, hold: int) -> float:
    return min(max((step - hold) / steps, 0.0), 1.0)


def linear(step: int, start: float, end: float, steps: int, hold: int = 0) -> float:
    """From start to end in equal steps over `steps` steps after `hold` steps at start, then constant."""
    return start + (end - start) * _progress(step, steps, hold)


def geometric(step: int, start: float, end: float, steps: int, hold: int = 0) -> float:
    """From start to end by one factor a step over `steps` steps after `hold` steps at start, then constant."""
    progress = _progress(step, steps, hold)
    return start ** (1 - progress) * end**progress


def piecewise(step: int, points: Sequence[Sequence[float]]) -> float:
    """Through (step, value) points in the order of their steps, constant before the first and after the last.

    Between two positive values by one factor a step, else in equal steps; two points at one step are a jump.
    """
    before = [point for point in points if point[0] <= step]
    after = points[len(before) :]
    if not before or not after:
        return (after[0] if after else before[-1])[1]
    (since, start), (until, end) = before[-1], after[0]
    along = geometric if start > 0 and end > 0 else linear
    return along(step - since, start, end, until - since)
