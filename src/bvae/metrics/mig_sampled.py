from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bvae.metrics.arrays import binned, check, check_codes, check_rows, is_continuous, sample, varying
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.mutual_information import entropy

_BLOCK = 2**22  # densities held at once


def sampled_mutual_information_gap(
    means: ArrayLike,
    log_variances: ArrayLike,
    factors: ArrayLike,
    num_samples: int = 5_000,
    num_posteriors: int = 5_000,
    seed: int = 0,
) -> float:
    """Chen's own MIG, of samples of q(z|x): Eq. 6 and Appendix C of Chen et al. (2018), arXiv:1802.04942.

    As `mutual_information_gap`, with I(z_j; v_k) = H(z_j) − H(z_j|v_k) in place of the bins. H(z_j) is the mean of
    −log q(z_j) over samples of the posteriors, q(z_j) being the mixture of all images' posteriors; of H(z_j|v_k), the
    mixture of those that share the sample's value of the factor. The authors take all images' posteriors, and four
    factors of dSprites, without the shape.

    Args:
        means, log_variances: of the posteriors, (N, D) float with D of 2 or more.
        factors: (N, K) int, or float for continuous ones, which are taken in 20 equal bins.
        num_samples: rows that samples are drawn of, as many as there are at most.
        num_posteriors: of a mixture at most, drawn from those that belong to it. The sample's own is one of those too,
            and counts as it does among all: where posteriors are narrower than they lie apart, no other is near.
        seed: of what is drawn.

    Returns a number of 0 or more, near 0 for noise; 1 where each factor is followed by one unit only.
    Of few posteriors it is too high, as a sample knows its own among them. Raises ValueError for NaN, for shapes that
    don't fit, where no factor varies, and for fewer than two rows for each value of a factor.
    """
    means, factors = check(means, factors)
    log_variances = check_codes(log_variances)
    if log_variances.shape != means.shape:
        raise ValueError(f"log_variances must have the shape of the means, got {log_variances.shape} and {means.shape}")
    if means.shape[1] < 2:
        raise ValueError(f"the gap needs two units or more, got means of shape {means.shape}")
    if num_posteriors < 1:
        raise ValueError(f"num_posteriors must be 1 or more, got {num_posteriors}")
    (factors,) = varying(factors)
    factors = binned(factors)
    check_rows(factors)
    generator = np.random.default_rng(seed)
    rows = sample(len(means), num_samples, seed)
    noise = generator.normal(size=(len(rows), means.shape[1]))
    samples = means[rows] + np.exp(0.5 * log_variances[rows]) * noise
    mean, log_variance = (torch.from_numpy(part).float() for part in (means, log_variances))
    drawn = torch.from_numpy(samples).float()

    own = torch.from_numpy(-0.5 * (noise**2 + log_variances[rows] + np.log(2 * np.pi))).float()  # log q(z|x)

    def cross_entropies(among: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Sum −log q over the samples `of`, q being the mixture of the posteriors `among`: (D,)."""
        share = torch.tensor(1 / len(among))  # of the sample's own posterior, whether it is drawn or not
        if len(among) > num_posteriors:
            among = np.sort(generator.choice(among, num_posteriors, replace=False))
        is_own = torch.from_numpy(rows[of, None] == among)
        others = _log_mixture(drawn[of], mean[among], log_variance[among], is_own)
        log_density = torch.logaddexp(others + (-share).log1p(), own[of] + share.log())
        return -log_density.double().sum(dim=0).numpy()

    everything = np.arange(len(means))
    marginal = cross_entropies(everything, np.arange(len(rows))) / len(rows)
    gaps = []
    for factor, whole in zip(factors.T, entropy(factors), strict=True):
        given = np.zeros(means.shape[1])
        for value in np.unique(factor[rows]):
            given += cross_entropies(np.flatnonzero(factor == value), np.flatnonzero(factor[rows] == value))
        second, first = np.sort((marginal - given / len(rows)).clip(min=0))[-2:]
        gaps.append((first - second) / whole)
    return float(np.mean(gaps))


def _log_mixture(samples: Tensor, mean: Tensor, log_variance: Tensor, left_out: Tensor) -> Tensor:
    """Log q(z_j), of samples (N, D) under the mixture of posteriors (M, D) but those `left_out` (N, M): (N, D)."""
    log_scale = -0.5 * (log_variance + np.log(2 * np.pi))
    precision = (-0.5 * log_variance).exp() / np.sqrt(2)
    found = torch.empty_like(samples)
    block = max(1, _BLOCK // len(mean))
    for unit in range(samples.shape[1]):
        for start in range(0, len(samples), block):
            rows = slice(start, start + block)
            exponent = samples[rows, unit, None] - mean[:, unit]
            exponent = exponent.mul_(precision[:, unit]).square_().neg_().add_(log_scale[:, unit])
            found[rows, unit] = exponent.masked_fill_(left_out[rows], -torch.inf).logsumexp(dim=1)
    count = len(mean) - left_out.sum(dim=1, keepdim=True)
    return found - count.clamp(min=1).log()  # −∞ where all are left out


class SampledMutualInformationGap(CodesMetric):
    """`sampled_mutual_information_gap` as a torchmetric; it needs the posteriors' log-variances.

    Args:
        factors: indices of the factors to take, all that vary unless given; Chen's four of dSprites are 1, 2, 3 and 4.
        num_samples, num_posteriors, seed: as the function takes them.
        kwargs: those of `torchmetrics.Metric`.
    """

    seed: int

    def __init__(
        self,
        factors: Sequence[int] | None = None,
        num_samples: int = 5_000,
        num_posteriors: int = 5_000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # `factors` is a state. NumPy's integers are integers too.
        self.chosen = None if factors is None else [i.item() if isinstance(i, np.generic) else i for i in factors]
        self.num_samples = num_samples
        self.num_posteriors = num_posteriors
        self.seed = seed

    def protocol(self, n: int) -> str:
        factors = "all factors that vary" if self.chosen is None else f"factors {', '.join(map(str, self.chosen))}"
        return (
            f"Chen et al. 2018: {min(n, self.num_samples):,} samples of q(z|x) under mixtures of at most "
            f"{min(n, self.num_posteriors):,} posteriors, gap of the two largest mutual informations over the factor's "
            f"entropy, mean over {factors} (the paper's are dSprites' without the shape, under all posteriors); "
            "noise is near 0 where posteriors are many"
        )

    def remark(self, codes: Codes) -> str:
        return "continuous factors in 20 equal bins" if is_continuous(codes.factors) else ""

    def chance(self, codes: Codes) -> float:
        return 0.0

    def score(self, codes: Codes) -> float:
        if codes.log_variance is None:
            raise ValueError("samples need the posteriors' log-variances, and these codes are means only")
        k = codes.factors.shape[1]
        if self.chosen is not None and not all(isinstance(i, int) and 0 <= i < k for i in self.chosen):
            raise ValueError(f"factors must be indices from 0 to {k - 1}, got {self.chosen}")
        factors = codes.factors if self.chosen is None else codes.factors[:, self.chosen]
        return sampled_mutual_information_gap(
            codes.mean, codes.log_variance, factors, self.num_samples, self.num_posteriors, self.seed
        )
