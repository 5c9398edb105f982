"""Means of what an objective computes over the steps between two logging steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class IntervalMeans:
    """Means of the objective's terms over the batches since the last logging step, summed without waiting for a GPU.

    Args:
        state: of a training that is resumed within an interval, see the method `state`.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {"start": 0, "sums": {}, "counts": {}}
        self._start: int = state["start"]  # the step with which the interval began
        self._sums: dict[str, Tensor] = state["sums"]
        self._counts: dict[str, int] = state["counts"]

    def add(self, step: int, every: int, terms: dict[str, Tensor | float]) -> None:
        """Count a batch in; `step` optimizer steps are done, and each `every` of them are an interval."""
        if step - step % every != self._start:
            self._start, self._sums, self._counts = step - step % every, {}, {}
        values = {name: value.detach() for name, value in terms.items() if isinstance(value, Tensor)}
        for name, value in values.items():
            single = torch.promote_types(value.dtype, torch.float32)  # at least
            known = name in self._sums
            self._sums[name] = self._sums[name].to(value.device) if known else torch.zeros_like(value, dtype=single)
            self._counts[name] = self._counts.get(name, 0) + 1
        torch._foreach_add_([self._sums[name] for name in values], list(values.values()))  # one kernel for all

    def of(self, terms: dict[str, Tensor | float]) -> dict[str, Tensor | float]:
        """Return the terms with their means in place of the last batch's; what is no tensor is a constant."""
        return {name: self._sums[name] / self._counts[name] if name in self._sums else terms[name] for name in terms}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, so that the mean of an interval is the same where it was cut in two."""
        sums = {name: value.to("cpu", copy=True) for name, value in self._sums.items()}
        return {"start": self._start, "sums": sums, "counts": dict(self._counts)}
