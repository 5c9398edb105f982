"""Schedules as pure functions of the step: time is an argument, so nothing is lost when a run is resumed.

The step is a 0-dim integer tensor and so is, in single precision, what comes out: no branch of Python's depends on it,
so that a step may be captured as a CUDA graph, or taken for several models at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def _progress(step: Tensor, steps: float, hold: float) -> Tensor:
    return ((step - hold) / steps).clamp(0.0, 1.0)


def linear(step: Tensor, start: float, end: float, steps: float, hold: float = 0) -> Tensor:
    """Go from start to end in equal steps over `steps` steps after `hold` steps at start, then stay."""
    return start + (end - start) * _progress(step, steps, hold)


def geometric(step: Tensor, start: float, end: float, steps: float, hold: float = 0) -> Tensor:
    """Go from start to end by one factor a step over `steps` steps after `hold` steps at start, then stay."""
    progress = _progress(step, steps, hold)
    return start ** (1 - progress) * end**progress


def piecewise(step: Tensor, points: Sequence[Sequence[float]]) -> Tensor:
    """Go through (step, value) points in the order of their steps, constant before the first and after the last.

    Between two positive values by one factor a step, else in equal steps; two points at one step are a jump.
    """
    value = torch.full((), float(points[0][1]), device=step.device)
    for (since, start), (until, end) in pairwise(points):
        if since == until:
            along = torch.full((), float(end), device=step.device)
        else:
            along = (geometric if start > 0 and end > 0 else linear)(step, start, end, until - since, since)
        value = torch.where(step >= since, along, value)
    return value
