from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_classes, check_rows, remark_on_scale, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.shared_values import SharedValues

_BLOCK = 500  # points whose pairs are held at once


def beta_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    num_pairs: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    seed: int = 0,
) -> float:
    """The β-VAE score: Section 3 of Higgins et al. (2017), "β-VAE", ICLR.

    A point is the mean absolute difference of the codes of 64 pairs, each pair sharing the value of the point's factor
    and nothing else. A logistic regression tells the factor from the point; the score is its accuracy on test points.
    Protocol of Locatello et al. (2019), arXiv:1811.12359. The pairs are drawn from the table: an image evenly, its
    partner evenly among those with the same value, itself too: where a value has few images, the score means little.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, of which two or more vary.
        num_pairs: pairs of a point.
        num_train, num_test: points.
        seed: of what is drawn.

    Returns a number in [0, 1]; chance is 1 over the number of factors that vary. Raises ValueError for NaN, for shapes
    that don't fit, where fewer than two factors vary, and for fewer than two rows for each value of a factor, where an
    image's partner is the image itself.
    """
    # Imported where it is used: it takes seconds, which a training that asks for none of this shouldn't wait for.
    from sklearn.linear_model import LogisticRegression

    codes, factors = check(codes, factors)
    check_classes(factors, "the β-VAE score")
    (factors,) = varying(factors)
    if factors.shape[1] < 2:
        raise ValueError("the β-VAE score tells factors apart, and only one varies")
    check_rows(factors)
    for name, value in (("num_pairs", num_pairs), ("num_train", num_train), ("num_test", num_test)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    generator = np.random.default_rng(seed)
    shared = SharedValues(factors)
    held = generator.integers(factors.shape[1], size=num_train + num_test)
    points = np.empty((len(held), codes.shape[1]))
    for factor in range(factors.shape[1]):
        of_factor = np.flatnonzero(held == factor)
        for start in range(0, len(of_factor), _BLOCK):
            block = of_factor[start : start + _BLOCK]
            rows = generator.integers(len(codes), size=(len(block), num_pairs))
            partners = shared.draw(factor, rows, generator)
            points[block] = np.abs(codes[rows] - codes[partners]).mean(axis=1)
    classifier = LogisticRegression(max_iter=1000).fit(points[:num_train], held[:num_train])
    return float(classifier.score(points[num_train:], held[num_train:]))


class BetaVAEScore(CodesMetric):
    """`beta_vae_score` as a torchmetric."""

    seed: int

    def __init__(
        self, num_pairs: int = 64, num_train: int = 10_000, num_test: int = 5_000, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_pairs = num_pairs
        self.num_train = num_train
        self.num_test = num_test
        self.seed = seed

    def protocol(self, n: int) -> str:
        return (
            "Higgins et al. 2017: accuracy of a logistic regression that tells the shared factor from the mean "
            f"absolute difference of {self.num_pairs} pairs (chance is 1 over the number of factors that vary); "
            f"{self.num_train:,} training and {self.num_test:,} test points"
        )

    def remark(self, codes: Codes) -> str:
        return remark_on_scale(codes.mean)

    def chance(self, codes: Codes) -> float:
        return 1 / max(len(codes.sizes()), 1)

    def score(self, codes: Codes) -> float:
        return beta_vae_score(codes.mean, codes.factors, self.num_pairs, self.num_train, self.num_test, self.seed)
