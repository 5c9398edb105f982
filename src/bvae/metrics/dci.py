from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from rich.progress import Progress

from bvae.metrics.arrays import check, check_parts, is_continuous
from bvae.metrics.metric import Codes, SplitMetric
from bvae.terminal import console

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin, RegressorMixin


@dataclass(frozen=True)
class DCI:
    """What `dci` returns; `disentanglement, completeness, informativeness = dci(…)` works too."""

    disentanglement: float
    completeness: float
    informativeness: float  # accuracy, or R² of continuous factors, on the test part
    informativeness_train: float
    importances: np.ndarray  # (D, K') of the units for each factor that varies

    def __iter__(self) -> Iterator[float]:
        return iter((self.disentanglement, self.completeness, self.informativeness))


def dci(
    codes_train: ArrayLike,
    factors_train: ArrayLike,
    codes_test: ArrayLike,
    factors_test: ArrayLike,
    learner: ClassifierMixin | None = None,
    seed: int = 0,
    progress: bool = True,
    regressor: RegressorMixin | None = None,
) -> DCI:
    """Disentanglement, completeness and informativeness (DCI): Section 2 of Eastwood & Williams (2018), ICLR.

    A classifier learns each factor from all units, and says how important each unit was. Disentanglement is 1 less the
    entropy of a unit's importances over the factors, weighted by the unit's share of all importance; completeness is 1
    less the entropy of a factor's importances over the units, weighted likewise; informativeness is the accuracy,
    averaged over the factors. Protocol of Locatello et al. (2019), arXiv:1811.12359: gradient-boosted trees as in
    scikit-learn's defaults, on 10,000 rows for training and 5,000 for testing.

    Boosting fits a hundred trees for each class: docs/scores.md says how long that takes on dSprites, and what a faster
    learner changes. Factors are learned side by side on all cores.

    Args:
        codes_train, codes_test: posterior means, (N, D) float.
        factors_train, factors_test: (N, K) int, or float for continuous ones.
        learner: a scikit-learn classifier with `feature_importances_`, in place of gradient-boosted trees.
        seed: of the learner, where it takes one.
        progress: show a bar, where the output is a terminal.
        regressor: the same for continuous factors, whose informativeness is R².

    Each part is in [0, 1], but for an R² below 0, that of the mean; with one unit or one factor, completeness or
    disentanglement is 1, as there is nothing to share with, and where no unit has any importance, both are 0. Raises
    ValueError for NaN, for shapes that don't fit, where no factor varies, and for parts of fewer than two rows for each
    value of a factor, as few of them are then seen in both, or of fewer than ten with continuous factors.
    """
    # Imported where it is used: it takes seconds, which a training that asks for none of this shouldn't wait for.
    from joblib import Parallel, delayed
    from sklearn.base import clone
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    continuous = is_continuous(check(codes_train, factors_train)[1])
    codes_train, factors_train, codes_test, factors_test = check_parts(
        codes_train, factors_train, codes_test, factors_test, classes=not continuous
    )
    # Trees take what differs by less than 1e-7 as equal. A power of two rounds nothing.
    deviations = codes_train.std(axis=0)
    scale = 2.0 ** -np.round(np.log2(np.where(deviations > 0, deviations, 1.0)))
    train: np.ndarray = codes_train * scale
    test: np.ndarray = codes_test * scale
    chosen = regressor if continuous else learner
    published = GradientBoostingRegressor() if continuous else GradientBoostingClassifier()
    learner = clone(chosen) if chosen is not None else published
    if "random_state" in learner.get_params():
        learner.set_params(random_state=seed)
    classes = [1 if continuous else len(np.unique(factor)) for factor in factors_train.T]

    with Progress(transient=True, disable=not (progress and console().is_terminal)) as bar:
        task = bar.add_task("DCI: learning the factors", total=sum(classes))

        def learn(k: int) -> tuple[np.ndarray, float, float]:
            model, y, y_test = clone(learner), factors_train[:, k], factors_test[:, k]
            monitored = "monitor" in inspect.signature(model.fit).parameters

            def stage(i: int, fitted: Any, variables: dict) -> bool:
                bar.advance(task, classes[k] / fitted.n_estimators)
                return False

            model.fit(train, y, **({"monitor": stage} if monitored else {}))
            if not monitored:
                bar.advance(task, classes[k])
            return model.feature_importances_, model.score(test, y_test), model.score(train, y)

        longest_first = np.argsort(classes)[::-1]
        results = Parallel(n_jobs=-1, prefer="threads")(delayed(learn)(k) for k in longest_first)
    importances = np.empty((train.shape[1], len(classes)))
    for k, (of_factor, _, _) in zip(longest_first, results, strict=True):
        importances[:, k] = of_factor
    return DCI(
        disentanglement=_concentration(importances),
        completeness=_concentration(importances.T),
        informativeness=float(np.mean([tested for _, tested, _ in results])),
        informativeness_train=float(np.mean([trained for _, _, trained in results])),
        importances=importances,
    )


def _concentration(importances: np.ndarray) -> float:
    """1 less each row's entropy over its greatest, the rows weighted by their shares of the sum."""
    if importances.sum() == 0:
        return 0.0
    rows = importances[importances.sum(axis=1) > 0]
    if rows.shape[1] == 1:
        return 1.0
    p = rows / rows.sum(axis=1, keepdims=True)
    entropies = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1) / np.log(rows.shape[1])
    return float(np.average(1 - entropies, weights=rows.sum(axis=1)))


class DCIScores(SplitMetric):
    """`dci` as a torchmetric.

    `compute` returns `dci_disentanglement`, `dci_completeness` and `dci_informativeness`.
    """

    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness")

    def __init__(
        self,
        num_train: int = 10_000,
        num_test: int = 5_000,
        learner: ClassifierMixin | None = None,
        seed: int = 0,
        progress: bool = True,
        regressor: RegressorMixin | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_train, num_test, seed, **kwargs)
        self.learner = learner
        self.progress = progress
        self.regressor = regressor

    def protocol(self, n: int) -> str:
        learner = "gradient-boosted trees" if self.learner is None else str(self.learner)
        return (
            f"Eastwood & Williams 2018: importances of {learner}, one classifier a factor, informativeness by its "
            f"accuracy (chance is the share of a factor's most frequent class); {self.rows(n)}"
        )

    def remark(self, codes: Codes) -> str:
        if not is_continuous(codes.factors):
            return ""
        regressor = "gradient-boosted trees" if self.regressor is None else str(self.regressor)
        return f"continuous factors: importances of {regressor}, one regressor a factor, informativeness by R²"

    def chance(self, codes: Codes) -> dict[str, float] | None:
        counts = [factor.unique(return_counts=True)[1] for factor in codes.factors.T]
        largest = [int(of_factor.max()) for of_factor in counts if len(of_factor) > 1]
        if is_continuous(codes.factors) or not largest:
            return None
        return {"dci_informativeness": sum(largest) / len(largest) / len(codes.factors)}

    def score(self, codes: Codes) -> dict[str, float]:
        parts = self.parts(codes)
        scores = dci(*parts, self.learner, self.seed, self.progress, self.regressor)
        return dict(zip(self.names, scores, strict=True))
