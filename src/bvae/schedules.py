"""Schedules as pure functions of the step: time is an argument, so nothing is lost when a run resumes."""

from __future__ import annotations


def _progress(step: int, steps: int, hold: int) -> float:
    return min(max((step - hold) / steps, 0.0), 1.0)


def linear(step: int, start: float, end: float, steps: int, hold: int = 0) -> float:
    """From start to end in equal steps over `steps` steps after `hold` steps at start, then constant."""
    return start + (end - start) * _progress(step, steps, hold)


def geometric(step: int, start: float, end: float, steps: int, hold: int = 0) -> float:
    """From start to end by one factor a step over `steps` steps after `hold` steps at start, then constant."""
    return start * (end / start) ** _progress(step, steps, hold)
