"""What the scores share as torchmetrics: a buffer of codes and factors, scored whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class CodesMetric(Metric, ABC):
    """Collects codes (N, D) and factors (N, K) over updates and scores them together.

    All scores keep the same states, so that those of a `MetricCollection` share one buffer; over several processes
    they are gathered. A subclass keeps its constructor's arguments as attributes and defines `score` and `protocol`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = True
    seed: int | None = None  # of what is drawn at random, where something is
    looks_at_factors = True  # by how much units follow them, however little a unit moves

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: those of `torchmetrics.Metric`."""
        super().__init__(**kwargs)
        self.add_state("codes", default=[], dist_reduce_fx="cat")
        self.add_state("factors", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def protocol(self, n: int) -> str:
        """How the score of n rows is computed, in a line to stand beside it."""

    @abstractmethod
    def score(self, codes: Tensor, factors: Tensor) -> float | dict[str, float]:
        """The score of all codes (N, D) and factors (N, K)."""

    def update(self, codes: Tensor | np.ndarray, factors: Tensor | np.ndarray) -> None:
        """Add codes (B, D) and factors (B, K) of the same B images, or raise ValueError and add nothing.

        D and K are those of the update before.
        """
        codes, factors = torch.as_tensor(codes), torch.as_tensor(factors)
        if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
            shapes = f"{tuple(codes.shape)} and {tuple(factors.shape)}"
            raise ValueError(f"codes must be (B, D) and factors (B, K) with one B, got {shapes}")
        for name, kept, new in (("codes", self.codes, codes), ("factors", self.factors, factors)):
            if len(kept) and kept[0].shape[1:] != new.shape[1:]:
                raise ValueError(f"{name} had the shape {tuple(kept[0].shape)} before, got {tuple(new.shape)}")
        self.codes.append(codes)
        self.factors.append(factors)

    def compute(self) -> Tensor | dict[str, Tensor]:
        if not len(self.codes):
            raise ValueError(f"{type(self).__name__} has no codes yet: call update(codes, factors) first")
        score = self.score(dim_zero_cat(self.codes), dim_zero_cat(self.factors))
        if isinstance(score, dict):
            return {name: _scalar(value) for name, value in score.items()}
        return _scalar(score)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
