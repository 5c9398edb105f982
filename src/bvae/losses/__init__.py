"""Objectives, one a file; each reads as its equation."""

from bvae.losses.annealed import Annealed
from bvae.losses.beta import Beta
from bvae.losses.capacity import Capacity
from bvae.losses.free_bits import FreeBits
from bvae.losses.likelihoods import Bernoulli, Gaussian, LearnedGaussian, Likelihood, suited_likelihood
from bvae.losses.loss import Context, Loss, Posterior, Sample, kl_divergence, offset
from bvae.losses.vae import ELBO

__all__ = [
    "ELBO",
    "Annealed",
    "Bernoulli",
    "Beta",
    "Capacity",
    "Context",
    "FreeBits",
    "Gaussian",
    "LearnedGaussian",
    "Likelihood",
    "Loss",
    "Posterior",
    "Sample",
    "kl_divergence",
    "offset",
    "suited_likelihood",
]
