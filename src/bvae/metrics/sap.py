from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_classes, check_parts, remark_on_scale
from bvae.metrics.metric import Codes, SplitMetric


def sap(
    codes_train: ArrayLike,
    factors_train: ArrayLike,
    codes_test: ArrayLike,
    factors_test: ArrayLike,
    continuous: bool = False,
) -> float:
    """The separated attribute predictability (SAP): Section 3 of Kumar et al. (2018), arXiv:1711.00848.

    For each factor, how well the best single unit predicts it less how well the second does; averaged over the factors
    that vary. Protocol of Locatello et al. (2019), arXiv:1811.12359: a linear SVM (C = 0.01, classes balanced) on one
    unit, scored by its accuracy on the test part.

    Args:
        codes_train, codes_test: posterior means, (N, D) float with D of 2 or more.
        factors_train, factors_test: (N, K) int; floats for continuous ones, with `continuous`.
        continuous: take the factors as numbers and score a unit by R², its squared correlation with the factor, in
            place of the accuracy. It is taken on the test part, where the protocol has the training part: it learns
            nothing.

    Returns a number in [0, 1]. The SVM's penalty makes it depend on the units' scale; R² does not. Raises ValueError
    for NaN, for shapes that don't fit, where no factor varies, and for parts of fewer than two rows for each value of a
    factor that is taken as classes, as few of them are then seen in both. R² is refused for fewer than ten rows, as it
    is 1 / (N − 1) by chance.
    """
    if not continuous:
        check_classes(check(codes_train, factors_train)[1], "SAP by a classifier", ", unless continuous=True scores R²")
    codes_train, factors_train, codes_test, factors_test = check_parts(
        codes_train, factors_train, codes_test, factors_test, classes=not continuous
    )
    if codes_train.shape[1] < 2:
        raise ValueError(f"the gap needs two units or more, got codes of shape {codes_train.shape}")
    if continuous:
        predictability = _squared_correlation(codes_test, factors_test)
    else:
        predictability = _accuracies(codes_train, factors_train, codes_test, factors_test)
    second, first = np.sort(predictability, axis=0)[-2:]
    return float((first - second).mean())


def _accuracies(
    codes_train: np.ndarray, factors_train: np.ndarray, codes_test: np.ndarray, factors_test: np.ndarray
) -> np.ndarray:
    """(D, K): the test accuracy of each unit's SVM for each factor."""
    # Imported where it is used: it takes seconds, which a training that asks for none of this shouldn't wait for.
    from joblib import Parallel, delayed
    from sklearn.svm import LinearSVC

    def accuracy(unit: int, factor: int) -> float:
        svm = LinearSVC(C=0.01, class_weight="balanced", dual=False)  # primal, as rows outnumber units
        svm.fit(codes_train[:, [unit]], factors_train[:, factor])
        return svm.score(codes_test[:, [unit]], factors_test[:, factor])

    shape = codes_train.shape[1], factors_train.shape[1]
    jobs = (delayed(accuracy)(unit, factor) for unit, factor in np.ndindex(shape))
    return np.reshape(Parallel(n_jobs=-1, prefer="threads")(jobs), shape)


def _squared_correlation(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(D, K); 0 for what is constant."""
    codes, factors = _standard(codes), _standard(factors)
    return (codes.T @ factors) ** 2


def _standard(values: np.ndarray) -> np.ndarray:
    """Center each column (N, D) and scale it to a norm of 1; 0 for what is constant."""
    ranges = np.ptp(values, axis=0)
    centred = (values - values.mean(axis=0)) / np.where(ranges > 0, ranges, 1.0)  # by which no square underflows
    return np.where(ranges > 0, centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300), 0.0)


class SAP(SplitMetric):
    """`sap` as a torchmetric."""

    def __init__(
        self,
        num_train: int = 10_000,
        num_test: int = 5_000,
        continuous: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_train, num_test, seed, **kwargs)
        if not isinstance(continuous, bool):
            raise ValueError(f"continuous must be true or false, got {continuous!r}")
        self.continuous = continuous

    def protocol(self, n: int) -> str:
        predictor = (
            "squared correlation" if self.continuous else "accuracy of a linear SVM (C = 0.01, classes balanced)"
        )
        return f"Kumar et al. 2018: gap of the two units of largest {predictor}, mean over factors; {self.rows(n)}"

    def remark(self, codes: Codes) -> str:
        return "" if self.continuous else remark_on_scale(codes.mean)

    def chance(self, codes: Codes) -> float:
        return 0.0

    def score(self, codes: Codes) -> float:
        return sap(*self.parts(codes), self.continuous)
