"""What the scores share as torchmetrics: a buffer of codes and factors, scored whole."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from bvae.metrics.arrays import rows, split

# A unit is active where the mean variance of its posterior lies below this share of the prior's, which is 1, or of the
# code's own where that is larger, as under DIP-VAE: there a unit of variance 1.3 whose mean moves by 1.6 tells a nat.
ACTIVE_BELOW = 0.85


class Codes(NamedTuple):
    """The posteriors of N images, and the factors that the images were made from."""

    mean: Tensor  # (N, D)
    log_variance: Tensor | None  # (N, D); None for codes that aren't a posterior's
    factors: Tensor  # (N, K), int for classes or float for continuous ones; K is 0 where there are none

    def labelled(self) -> Codes:
        """Take the rows whose factors are all known, none of them NaN: these codes themselves if all are."""
        if not self.factors.is_floating_point() or not self.factors.isnan().any():
            return self
        known = ~self.factors.isnan().any(dim=1)
        factors = self.factors[known]
        is_whole = bool((factors == factors.round()).all())
        log_variance = None if self.log_variance is None else self.log_variance[known]
        return Codes(self.mean[known], log_variance, factors.long() if is_whole else factors)

    def sizes(self) -> list[int]:
        """Count the values of each factor, of those that vary."""
        found = [len(factor.unique()) for factor in self.factors.T]
        return [size for size in found if size > 1]

    def active(self) -> Tensor:
        """Tell which units (D,) are active: E[σ²] < 0.85·max(1, Var[z]), or codes of a variance over 0.01.

        Var[z] = Var[μ] + E[σ²] is near 1 in a VAE whose codes follow the prior, and the rule then that of the papers'
        tables, a mean variance under 0.85.
        """
        spread = self.mean.double().var(dim=0, correction=0)
        if self.log_variance is None:
            return spread > 0.01
        variance = self.log_variance.double().exp().mean(dim=0)
        return variance < ACTIVE_BELOW * (spread + variance).clamp(min=1.0)

    def sample(self, seed: int) -> Tensor:
        """Draw one latent vector from each posterior: (N, D), on the CPU; raises ValueError without log-variances."""
        if self.log_variance is None:
            raise ValueError("samples need the posteriors' log-variances, and these codes are means only")
        mean, log_variance = self.mean.cpu(), self.log_variance.cpu()
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed), dtype=mean.dtype)
        return mean + (0.5 * log_variance).exp() * noise


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
    names: tuple[str, ...] = ()  # of the scores, where `score` gives several
    codes: list[Tensor]
    log_variances: list[Tensor]
    factors: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: those of `torchmetrics.Metric`."""
        super().__init__(**kwargs)
        self.add_state("codes", default=[], dist_reduce_fx="cat")
        self.add_state("log_variances", default=[], dist_reduce_fx="cat")
        self.add_state("factors", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def protocol(self, n: int) -> str:
        """How the score of n rows is computed, in a line to stand beside it."""

    def remark(self, codes: Codes) -> str:
        """What of these codes one must know to read their score, to stand after the protocol; empty for nothing."""
        return ""

    def chance(self, codes: Codes) -> float | dict[str, float] | None:
        """What codes that tell nothing of these factors score, or several such by name; None where nobody knows."""
        return None

    @abstractmethod
    def score(self, codes: Codes) -> float | dict[str, float]:
        """The score of all codes, or several scores by name."""

    def update(
        self,
        codes: Tensor | np.ndarray,
        factors: Tensor | np.ndarray,
        log_variances: Tensor | np.ndarray | None = None,
    ) -> None:
        """Add codes (B, D) and factors (B, K) of the same B images, or raise ValueError and add nothing.

        D and K are those of the update before. Posteriors' log-variances (B, D) are for scores of samples. All are
        copied, without their graph.
        """
        codes, factors = _copied(codes), _copied(factors)
        if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
            shapes = f"{tuple(codes.shape)} and {tuple(factors.shape)}"
            raise ValueError(f"codes must be (B, D) and factors (B, K) with one B, got {shapes}")
        for name, kept, new in (("codes", self.codes, codes), ("factors", self.factors, factors)):
            if len(kept) and kept[0].shape[1:] != new.shape[1:]:
                raise ValueError(f"{name} had the shape {tuple(kept[0].shape)} before, got {tuple(new.shape)}")
        if log_variances is not None:
            log_variances = _copied(log_variances)
            if log_variances.shape != codes.shape:
                shapes = f"{tuple(log_variances.shape)} and {tuple(codes.shape)}"
                raise ValueError(f"log_variances must have the shape of the codes, got {shapes}")
        if len(self.codes) and bool(len(self.log_variances)) != (log_variances is not None):
            raise ValueError("either every update has log_variances or none")
        # New lists, as metrics of a `MetricCollection` share theirs, and its `forward` calls each metric.
        self.codes = [*self.codes, codes]
        self.factors = [*self.factors, factors]
        if log_variances is not None:
            self.log_variances = [*self.log_variances, log_variances]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | dict[str, Tensor]:
        """Add a batch as `update` does, and return the batch's own score: NaN if it has too few rows for one."""
        self.update(*args, **kwargs)
        log_variance = self.log_variances[-1] if len(self.log_variances) else None
        try:
            score = self.score(Codes(self.codes[-1], log_variance, self.factors[-1]))
        except ValueError:
            score = self.undefined
        self._forward_cache = _tensors(score)
        return self._forward_cache

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Score all rows: NaN and a warning with the reason if they can't be scored; ValueError without rows."""
        if not len(self.codes):
            raise ValueError(f"{type(self).__name__} has no codes yet: call update(codes, factors) first")
        log_variance = dim_zero_cat(self.log_variances) if len(self.log_variances) else None
        try:
            score = self.score(Codes(dim_zero_cat(self.codes), log_variance, dim_zero_cat(self.factors)))
        except ValueError as error:  # which would end a training at its first validation
            warnings.warn(f"{type(self).__name__} can't be computed: {error}", stacklevel=3)
            score = self.undefined
        return _tensors(score)

    @property
    def undefined(self) -> float | dict[str, float]:
        """What stands for a score that can't be computed: NaN, or one for each name."""
        return dict.fromkeys(self.names, math.nan) or math.nan

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a result of `forward` or `compute`, or a list of them; what `compute` returns by default.

        Returns the figure, None for axes of yours, and the axes.
        """
        return self._plot(val, ax)


class SplitMetric(CodesMetric):
    """A score with a part for training and one for test, which are drawn from the collected rows."""

    seed: int

    def __init__(self, num_train: int = 10_000, num_test: int = 5_000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_train = num_train
        self.num_test = num_test
        self.seed = seed

    def rows(self, n: int) -> str:
        """How many of n rows the parts have, in words."""
        return rows(n, self.num_train, self.num_test)

    def parts(self, codes: Codes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means and factors for training, and those for test."""
        train, test = split(len(codes.mean), self.num_train, self.num_test, self.seed)
        return codes.mean[train], codes.factors[train], codes.mean[test], codes.factors[test]


def _copied(values: Tensor | np.ndarray) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().clone()
    # torch takes the processor's byte order alone, and no negative strides
    return torch.from_numpy(np.array(values, dtype=np.asarray(values).dtype.newbyteorder("="), order="C"))


def _tensors(score: float | dict[str, float]) -> Tensor | dict[str, Tensor]:
    if isinstance(score, dict):
        return {name: _scalar(value) for name, value in score.items()}
    return _scalar(score)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
