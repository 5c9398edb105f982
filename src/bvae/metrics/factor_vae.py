from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_classes, check_rows, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.shared_values import SharedValues

_BLOCK = 1_000  # batches held at once


def factor_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    min_std: float = 0.05,
    seed: int = 0,
) -> float:
    """The FactorVAE score: Section 4 of Kim & Mnih (2018), arXiv:1802.05983.

    A batch of 64 codes shares the value of one factor, and votes: for that factor, by the unit of least variance in the
    batch over its variance in the table. Each unit stands for the factor that most training votes give it; the score is
    the share of test votes that agree. Protocol of Locatello et al. (2019), arXiv:1811.12359: units whose deviation in
    the table is under 0.05 have no vote. The batches are drawn from the table: a value as often as images have it, its
    images evenly.

    Args:
        codes: posterior means, (N, D) float, with N of 2 or more.
        factors: (N, K) int, of which two or more vary.
        batch_size: codes of a vote, 2 or more.
        num_train, num_test: votes.
        min_std: of a unit with a vote, in the units of the codes, 1 being the prior's.
        seed: of what is drawn.

    Returns a number in [0, 1]; chance is 1 over the number of factors that vary, and 0 stands where no unit has a vote.
    Raises ValueError for NaN, for shapes that don't fit, where fewer than two factors vary, and for fewer than two rows
    for each value of a factor, where a batch is one image over and over.
    """
    codes, factors = check(codes, factors)
    check_classes(factors, "the FactorVAE score")
    (factors,) = varying(factors)
    if factors.shape[1] < 2:
        raise ValueError("the FactorVAE score tells factors apart, and only one varies")
    check_rows(factors)
    for name, value, least in (("batch_size", batch_size, 2), ("num_train", num_train, 1), ("num_test", num_test, 1)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")
    if min_std < 0:
        raise ValueError(f"min_std must not be negative, got {min_std}")
    variances = codes.var(axis=0, ddof=1)
    voting = (np.sqrt(variances) >= min_std) & (variances > 0)
    if not voting.any():
        return 0.0
    scaled: np.ndarray = codes[:, voting] / np.sqrt(variances[voting])
    generator = np.random.default_rng(seed)
    shared = SharedValues(factors)
    train, test = (_votes(scaled, factors.shape[1], shared, batch_size, n, generator) for n in (num_train, num_test))
    meaning = train.argmax(axis=0)
    return float(test[meaning, np.arange(len(meaning))].sum() / num_test)


def _votes(
    codes: np.ndarray, num_factors: int, shared: SharedValues, batch_size: int, num: int, generator: np.random.Generator
) -> np.ndarray:
    """(K, D): how often each unit varied least in a batch that shared each factor."""
    votes = np.zeros((num_factors, codes.shape[1]), dtype=np.int64)
    for factor, of_factor in enumerate(np.bincount(generator.integers(num_factors, size=num), minlength=num_factors)):
        for start in range(0, of_factor, _BLOCK):
            size = (min(_BLOCK, of_factor - start), 1)
            rows = np.broadcast_to(generator.integers(len(codes), size=size), (size[0], batch_size))
            quietest = codes[shared.draw(factor, rows, generator)].var(axis=1, ddof=1).argmin(axis=1)
            votes[factor] += np.bincount(quietest, minlength=codes.shape[1])
    return votes


class FactorVAEScore(CodesMetric):
    """`factor_vae_score` as a torchmetric."""

    seed: int

    def __init__(
        self,
        batch_size: int = 64,
        num_train: int = 10_000,
        num_test: int = 5_000,
        min_std: float = 0.05,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_size = batch_size
        self.num_train = num_train
        self.num_test = num_test
        self.min_std = min_std
        self.seed = seed

    def protocol(self, n: int) -> str:
        return (
            f"Kim & Mnih 2018: majority vote on the least normalised variance in batches of {self.batch_size}, units "
            f"of deviation under {self.min_std} without a vote (chance is 1 over the number of factors that vary); "
            f"{self.num_train:,} training and {self.num_test:,} test votes"
        )

    def remark(self, codes: Codes) -> str:
        voting = codes.mean.double().std(dim=0) >= self.min_std
        return "" if voting.any() else f"no unit deviates by {self.min_std} or more, so that none has a vote"

    def chance(self, codes: Codes) -> float:
        return 1 / max(len(codes.sizes()), 1)

    def score(self, codes: Codes) -> float:
        return factor_vae_score(
            codes.mean, codes.factors, self.batch_size, self.num_train, self.num_test, self.min_std, self.seed
        )
