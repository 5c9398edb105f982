from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_classes, check_parts
from bvae.metrics.metric import Codes, SplitMetric


def explicitness(
    codes_train: ArrayLike, factors_train: ArrayLike, codes_test: ArrayLike, factors_test: ArrayLike
) -> float:
    """The explicitness of Ridgeway & Mozer (2018), arXiv:1802.05312.

    How well a logistic regression on all units tells each class of a factor from the others: the area under the ROC
    curve on the test part, averaged over the classes and then over the factors that vary. Units are standardised on
    the training part.

    Args:
        codes_train, codes_test: posterior means, (N, D) float.
        factors_train, factors_test: (N, K) int.

    Returns a number in [0, 1], where 0.5 is chance and 1 a perfect ranking. Raises ValueError for NaN, for shapes that
    don't fit, where no factor varies, and for parts of fewer than two rows for each value of a factor, as few of them
    are then seen in both.
    """
    # Imported where it is used: it takes seconds, which a training that asks for none of this shouldn't wait for.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_classes(check(codes_train, factors_train)[1], "explicitness")
    codes_train, factors_train, codes_test, factors_test = check_parts(
        codes_train, factors_train, codes_test, factors_test
    )
    areas = []
    for train, test in zip(factors_train.T, factors_test.T, strict=True):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(codes_train, train)
        probabilities = classifier.predict_proba(codes_test)
        of_factor = [
            roc_auc_score(test == value, probability)
            for value, probability in zip(classifier.classes_, probabilities.T, strict=True)
            if (test == value).any() and (test != value).any()  # no curve without both
        ]
        if of_factor:
            areas.append(np.mean(of_factor))
    if not areas:
        raise ValueError("the test part has no factor with two classes that the training part knows")
    return float(np.mean(areas))


class Explicitness(SplitMetric):
    """`explicitness` as a torchmetric."""

    def protocol(self, n: int) -> str:
        return (
            "Ridgeway & Mozer 2018: one-against-rest area under the ROC curve of a multinomial logistic regression on "
            "all units (chance is 0.5; papers of 2018 and 2019 fitted one classifier a class with liblinear, which "
            f"gives 0.03 to 0.06 less), mean over classes, then factors; {self.rows(n)}"
        )

    def chance(self, codes: Codes) -> float:
        return 0.5

    def score(self, codes: Codes) -> float:
        return explicitness(*self.parts(codes))
