"""Objectives, one a file; each reads as its equation."""

from bvae.losses.annealed import Annealed
from bvae.losses.beta import Beta
from bvae.losses.btcvae import BetaTC
from bvae.losses.capacity import Capacity
from bvae.losses.control import Control
from bvae.losses.dip import DIP1, DIP2
from bvae.losses.factor import Factor
from bvae.losses.free_bits import FreeBits
from bvae.losses.likelihoods import Bernoulli, Gaussian, LearnedGaussian, Likelihood, suited_likelihood
from bvae.losses.loss import Context, Loss, Posterior, Sample, kl_divergence, offset
from bvae.losses.paced import Paced
from bvae.losses.vae import ELBO

__all__ = [
    "DIP1",
    "DIP2",
    "ELBO",
    "Annealed",
    "Bernoulli",
    "Beta",
    "BetaTC",
    "Capacity",
    "Context",
    "Control",
    "Factor",
    "FreeBits",
    "Gaussian",
    "LearnedGaussian",
    "Likelihood",
    "Loss",
    "Paced",
    "Posterior",
    "Sample",
    "kl_divergence",
    "offset",
    "suited_likelihood",
]
