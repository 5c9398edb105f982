from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvae.metrics.arrays import check, check_rows, is_continuous, sample, varying
from bvae.metrics.metric import Codes, CodesMetric


def infomec(codes: ArrayLike, factors: ArrayLike, num_neighbors: int = 10, seed: int = 0) -> dict[str, float]:
    """InfoMEC, modularity, explicitness and compactness: Section 4 of Hsu et al. (2023), arXiv:2305.18378.

    NMI_ij = I(s_i; z_j) / H(s_i) of S factors and the L units whose range is over a twentieth of the widest one's, each
    standardised, the information by the distances to the 10 nearest neighbours (Ross 2014).
    InfoM = (mean_j max_i NMI_ij / Σ_i NMI_ij − 1/S) / (1 − 1/S), InfoC = (mean_i max_j NMI_ij / Σ_j NMI_ij − 1/L) /
    (1 − 1/L), without the units and factors whose sum is 0, and InfoE = mean_i (H_null − H_logreg) / H_null, the part
    of a factor's entropy that a logistic regression on all units, without penalty and on the same rows, takes away. The
    authors' code weights the classes to be balanced, which dSprites' are, and stops it after 100 iterations; this one
    goes on until it has converged.

    Of continuous factors, H is I(s_i; s_i) by the same estimate, and InfoE the R² of a linear regression, as in the
    authors' later code.

    Args:
        codes: posterior means, (N, D) float.
        factors: (N, K) int, or float for continuous ones.
        num_neighbors: of the estimate of information.
        seed: of the noise, 1e-10 deviations, by which the estimate tells equal values apart.

    Returns `infom`, `infoe` and `infoc`, in [0, 1]. By chance, InfoM is far from 0: ten units of noise have about
    0.6 with five factors, as the estimate's errors are cut off at 0. InfoM is NaN where one factor varies, and InfoC
    where one unit is left, as there is nothing to share with. Raises ValueError for NaN, for shapes that don't fit,
    where no factor varies, no unit does or none tells anything of a factor, and for fewer than two rows for each value
    of a factor, or no more than num_neighbors with continuous ones.
    """
    # Imported where it is used: it takes seconds, which a training that asks for none of this shouldn't wait for.
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    codes, factors = check(codes, factors)
    (factors,) = varying(factors)
    continuous = is_continuous(factors)
    if num_neighbors < 1:
        raise ValueError(f"num_neighbors must be 1 or more, got {num_neighbors}")
    if not continuous:
        check_rows(factors)
    elif len(factors) <= num_neighbors:
        raise ValueError(f"{len(factors)} rows are too few for {num_neighbors} neighbours: more than that are needed")
    kept = _moves(codes)
    if not kept.any():
        raise ValueError("every unit is constant, and tells nothing of any factor")
    deviations = codes.std(axis=0)
    standard = (codes - codes.mean(axis=0)) / np.where(np.ptp(codes, axis=0) > 0, deviations, 1.0)
    targets: np.ndarray = (factors - factors.mean(axis=0)) / factors.std(axis=0) if continuous else factors
    estimate = mutual_info_regression if continuous else mutual_info_classif
    options = {"discrete_features": False, "n_neighbors": num_neighbors, "random_state": seed}
    nmi = np.empty((targets.shape[1], kept.sum()))
    for i, factor in enumerate(targets.T):
        whole = estimate(factor[:, None], factor, **options)[0] if continuous else _entropy(factor)
        nmi[i] = estimate(standard[:, kept], factor, **options) / whole
    if not nmi.any():
        raise ValueError("no unit tells anything of any factor")
    explained = _r_squared if continuous else _entropy_explained
    return {
        "infom": _mean_share(nmi.T),
        "infoe": float(np.mean([explained(standard, factor) for factor in targets.T])),
        "infoc": _mean_share(nmi),
    }


def _moves(codes: np.ndarray) -> np.ndarray:
    """Tell which units (D,) have a range over a twentieth of the widest."""
    ranges = np.ptp(codes, axis=0)
    return ranges > ranges.max() / 20


def _mean_share(nmi: np.ndarray) -> float:
    """How much of each row's sum lies in its largest entry, from 0 where all are alike to 1, averaged."""
    alike = 1 / nmi.shape[1]
    if alike == 1:
        return float("nan")
    rows = nmi[nmi.any(axis=1)]
    return float(((rows.max(axis=1) / rows.sum(axis=1)).mean() - alike) / (1 - alike))


def _entropy(factor: np.ndarray) -> float:
    p = np.unique(factor, return_counts=True)[1] / len(factor)
    return float(-(p * np.log(p)).sum())


def _entropy_explained(codes: np.ndarray, factor: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    regression = LogisticRegression(C=np.inf, max_iter=100_000).fit(codes, factor)
    null = _entropy(factor)  # the loss of a regression on nothing
    return (null - log_loss(factor, regression.predict_proba(codes), labels=regression.classes_)) / null


def _r_squared(codes: np.ndarray, factor: np.ndarray) -> float:
    from sklearn.linear_model import LinearRegression

    return float(LinearRegression().fit(codes, factor).score(codes, factor))


class InfoMEC(CodesMetric):
    """`infomec` as a torchmetric, of as many as num_rows of the collected rows.

    `compute` returns `infom`, `infoe` and `infoc`.
    """

    names = ("infom", "infoe", "infoc")
    seed: int

    def __init__(self, num_neighbors: int = 10, num_rows: int = 10_000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_neighbors = num_neighbors
        self.num_rows = num_rows
        self.seed = seed

    def protocol(self, n: int) -> str:
        return (
            f"Hsu et al. 2023: information by {self.num_neighbors} nearest neighbours, units of a range under a "
            "twentieth of the widest left out; InfoE by a logistic regression on all units that has converged (the "
            "authors' stops after 100 iterations, with balanced classes); noise has an InfoM of about 0.6 (ten units, "
            "five factors) and an InfoE near 0; "
            f"{min(n, self.num_rows):,} rows"
        )

    def remark(self, codes: Codes) -> str:
        said = {
            "continuous factors: InfoE by the R² of a linear regression": is_continuous(codes.factors),
            "InfoM isn't defined with one factor": len(codes.sizes()) == 1,
            "InfoC isn't defined with one unit": _moves(codes.mean.cpu().numpy()).sum() == 1,
        }
        return "; ".join(remark for remark, holds in said.items() if holds)

    def chance(self, codes: Codes) -> dict[str, float]:
        return {"infoe": 0.0}

    def score(self, codes: Codes) -> dict[str, float]:
        rows = sample(len(codes.mean), self.num_rows, self.seed)
        return infomec(codes.mean[rows], codes.factors[rows], self.num_neighbors, self.seed)
