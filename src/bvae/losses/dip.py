from __future__ import annotations

from torch import Tensor

from bvae.checks import not_negative
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Posterior, Sample
from bvae.losses.processes import gathered


class DIP1(Loss):
    """The DIP-VAE-I: reconstruction + KL + λ_od·Σ_{i≠j} C_ij² + λ_d·Σ_i (C_ii − 1)², C the covariance of the means.

    Eqs. 5 and 6 of Kumar et al. (2018), arXiv:1711.00848. C is taken over the batch, of all processes where several
    train together.

    Args:
        off_diagonal: λ_od.
        diagonal_ratio: λ_d / λ_od.
        likelihood: see `Loss`.
    """

    def __init__(
        self, off_diagonal: float = 10.0, diagonal_ratio: float = 10.0, likelihood: Likelihood | None = None
    ) -> None:
        super().__init__(likelihood)
        self.off_diagonal = not_negative("off_diagonal", off_diagonal)
        self.diagonal_ratio = not_negative("diagonal_ratio", diagonal_ratio)

    def covariance(self, posterior: Posterior) -> Tensor:
        """Compute C (D, D) of a batch: Cov[μ(x)]."""
        return covariance_of_means(posterior)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        covariance = self.covariance(sample.posterior)
        variance = covariance.diagonal()
        off_diagonal = (covariance - variance.diag()).square().sum()
        diagonal = (variance - 1).square().sum()
        penalty = self.off_diagonal * (off_diagonal + self.diagonal_ratio * diagonal)
        loss = terms["reconstruction"] + terms["kl"] + penalty
        return {"loss": loss, **terms, "dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}


class DIP2(DIP1):
    """The DIP-VAE-II: as `DIP1`, with C the covariance of q(z), Eqs. 4 and 7: what a unit is unsure of counts too.

    Args:
        off_diagonal: λ_od.
        diagonal_ratio: λ_d / λ_od.
        likelihood: see `Loss`.
    """

    def __init__(
        self, off_diagonal: float = 10.0, diagonal_ratio: float = 1.0, likelihood: Likelihood | None = None
    ) -> None:
        super().__init__(off_diagonal, diagonal_ratio, likelihood)

    def covariance(self, posterior: Posterior) -> Tensor:
        """Compute C (D, D) of a batch: Cov[μ(x)] + E[diag σ²(x)]."""
        return covariance_of_means(posterior) + gathered(posterior.log_variance).exp().mean(dim=0).diag()


def covariance_of_means(posterior: Posterior) -> Tensor:
    """Compute the covariance (D, D) of the means over the batch, divided by B; no product that autocast would round."""
    mean = gathered(posterior.mean)
    centred = mean - mean.mean(dim=0)
    return (centred[:, :, None] * centred[:, None, :]).mean(dim=0)
