from __future__ import annotations

import math

import pytest
import torch

from bvae.losses import (
    ELBO,
    Annealed,
    Bernoulli,
    Beta,
    Capacity,
    Context,
    FreeBits,
    Gaussian,
    LearnedGaussian,
    Posterior,
    Sample,
    kl_divergence,
    offset,
    suited_likelihood,
)


def example(kl: float, batch: int = 4, units: int = 3) -> Sample:
    """Images, logits, a posterior with this KL in nats, all in its first unit's mean, and latents."""
    images = torch.zeros(batch, 1, 8, 8)
    mean = torch.zeros(batch, units)
    mean[:, 0] = math.sqrt(2 * kl)
    return Sample(images, torch.zeros(batch, 1, 8, 8), Posterior(mean, torch.zeros(batch, units)), mean)


def at(step: int) -> Context:
    return Context(torch.tensor(step), dataset_size=1_000)


RECONSTRUCTION = 64 * math.log(2)  # of 64 pixels at even odds


def test_kl_of_known_gaussians():
    mean = torch.tensor([[0.0, 1.0, 0.0, 2.0]])
    log_variance = torch.tensor([[0.0, 0.0, math.log(4.0), math.log(0.25)]])
    expected = [0.0, 0.5, 0.5 * (4 - math.log(4) - 1), 0.5 * (4 + 0.25 + math.log(4) - 1)]
    assert kl_divergence(Posterior(mean, log_variance))[0].tolist() == pytest.approx(expected)
    other = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0, 1)
    )
    assert torch.allclose(kl_divergence(Posterior(mean, log_variance)), other)


def test_terms_are_sums_over_pixels_and_units_and_means_over_the_batch():
    terms = ELBO()(example(kl=3.0), at(0))
    assert terms["reconstruction"].item() == pytest.approx(RECONSTRUCTION)
    assert terms["kl"].item() == pytest.approx(3.0)
    assert terms["kl_per_unit"].tolist() == pytest.approx([3.0, 0.0, 0.0])
    assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + 3.0)


def test_the_kl_parts_into_offset_and_information_by_the_moments_of_the_batch():
    # Two images, two units. The first has means 1 and 3 and variance 1: m = 2, v = 1 + 1; the second is the same for
    # both images, so that all of its KL is an offset.
    mean = torch.tensor([[1.0, 0.5], [3.0, 0.5]])
    posterior = Posterior(mean, torch.tensor([[0.0, math.log(0.5)]]).repeat(2, 1))
    first, second = 0.5 * (4 + 2 - math.log(2) - 1), 0.5 * (0.25 + 0.5 - math.log(0.5) - 1)
    assert offset(posterior).tolist() == pytest.approx([first, second])
    images = torch.zeros(2, 1, 8, 8)
    terms = ELBO()(Sample(images, images, posterior, mean), at(0))
    assert terms["kl"].item() == pytest.approx(0.25 + 2.25 + second)
    assert terms["offset"].item() == pytest.approx(first + second)
    assert terms["information"].item() == pytest.approx(2.5 - first)


def test_a_single_image_has_no_offset_and_capacity_is_as_published():
    posterior = Posterior(torch.tensor([[2.0, 1.0]]), torch.zeros(1, 2))
    assert offset(posterior).tolist() == [0, 0]
    image = torch.zeros(1, 1, 8, 8)
    found, published = (
        Capacity(gamma=10, max_capacity=8, anneal_steps=1, charge_offset=charged)(
            Sample(image, image, posterior, posterior.mean), at(5)
        )
        for charged in (True, False)
    )
    assert found["information"].item() == 2.5
    assert found["loss"] == published["loss"] == found["reconstruction"] + 10 * 5.5


def test_beta_weighs_the_kl():
    assert Beta()(example(kl=3.0), at(0))["loss"].item() == pytest.approx(RECONSTRUCTION + 4 * 3.0)


@pytest.mark.parametrize(("kl", "step", "gap"), [(3.0, 0, 3.0), (3.0, 50, 2.0), (3.0, 100, 7.0), (12.0, 500, 2.0)])
def test_capacity_as_published_is_charged_on_both_sides_to_the_bit(kl, step, gap):
    loss = Capacity(gamma=1000, max_capacity=10, anneal_steps=100, charge_offset=False)
    terms = loss(example(kl), at(step))
    assert terms["capacity"] == min(step / 10, 10)
    assert terms["capacity_gap"].item() == pytest.approx(gap)
    assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + 1000 * gap, rel=1e-5)
    assert torch.equal(terms["loss"], terms["reconstruction"] + 1000 * (terms["kl"] - min(step / 10, 10)).abs())


@pytest.mark.parametrize(("spread", "step"), [(2.0, 50), (2.0, 100), (4.0, 50)])
def test_capacity_counts_the_information_and_charges_the_offset(spread, step):
    # Half of the images at 1 + spread, half at 1 − spread, variance 1: m = 1, v = 1 + spread².
    images, logits, posterior, latents = example(kl=0.0)
    posterior.mean[:, 0] = 1 + spread * torch.tensor([1.0, -1.0, 1.0, -1.0])
    o = 0.5 * (1 + spread**2 - math.log(1 + spread**2))
    i = 0.5 * math.log(1 + spread**2)  # a Gaussian channel's, of this power over its noise
    terms = Capacity(gamma=1000, max_capacity=1, anneal_steps=100)(Sample(images, logits, posterior, latents), at(step))
    assert terms["offset"].item() == pytest.approx(o, rel=1e-5)
    assert terms["capacity_gap"].item() == pytest.approx(abs(i - step / 100), rel=1e-4)
    assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + 1000 * (abs(i - step / 100) + o), rel=1e-5)


@pytest.mark.parametrize(("kl", "sign"), [(3.0, -1), (7.0, 1)])
def test_capacity_drives_the_kl_towards_c(kl, sign):
    images, logits, posterior, latents = example(kl)
    posterior.mean.requires_grad_()
    loss = Capacity(gamma=10, max_capacity=5, anneal_steps=1, charge_offset=False)
    loss(Sample(images, logits, posterior, latents), at(1))["loss"].backward()
    gradient = posterior.mean.grad[:, 0]
    assert torch.allclose(gradient, sign * 10 * posterior.mean[:, 0].detach() / len(images))


def test_capacity_takes_the_batch_mean_before_the_bars():
    images, logits, posterior, latents = example(kl=0.0, batch=2)
    posterior.mean[0, 0] = math.sqrt(2 * 10)  # one image at 10 nats, one at 0: the mean is C
    loss = Capacity(gamma=10, max_capacity=5, anneal_steps=1, charge_offset=False)
    assert loss(Sample(images, logits, posterior, latents), at(1))["capacity_gap"].item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_annealed_falls_from_start_to_end_after_the_hold():
    loss = Annealed(beta_start=64, beta_end=1, anneal_steps=6, hold_steps=10)
    for step, beta in ((0, 64), (10, 64), (11, 32), (13, 8), (16, 1), (100, 1)):
        terms = loss(example(kl=3.0), at(step))
        assert terms["beta"].item() == pytest.approx(beta)
        assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + beta * 3.0, rel=1e-5)


def test_free_bits_charge_what_lies_over_the_free_nats_of_each_unit():
    loss = FreeBits(beta=[[0, 10], [100, 2]], free_nats=[[0, 0], [100, 2]])
    for step, kl, cost in ((0, 3.0, 10 * 3), (100, 3.0, 2 * (3 + 2 + 2)), (500, 0.5, 2 * (2 + 2 + 2))):
        terms = loss(example(kl), at(step))
        assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + cost, rel=1e-5)
        assert (terms["beta"], terms["free_nats"]) == ((10, 0) if step == 0 else (2, 2))
    images, logits, posterior, latents = example(kl=3.0)
    posterior.mean[:, 1] = 1.0  # half a nat
    posterior.mean.requires_grad_()
    loss(Sample(images, logits, posterior, latents), at(100))["loss"].backward()
    assert posterior.mean.grad.ne(0).any(dim=0).tolist() == [True, False, False]


def test_concave_free_bits_charge_the_less_the_more_nats_a_unit_has():
    loss = FreeBits(beta=[[0, 6]], free_nats=[[0, 0]], concavity=[[0, 0], [100, 2]])
    for step, cost in ((0, 6 * 3.0), (100, 6 * math.log(7) / 2)):
        terms = loss(example(kl=3.0), at(step))
        assert terms["loss"].item() == pytest.approx(RECONSTRUCTION + cost, rel=1e-5)
        assert terms["concavity"] == step / 50
    images, logits, posterior, latents = example(kl=3.0)
    posterior.mean[:, 1] = 0.1
    posterior.mean.requires_grad_()
    loss(Sample(images, logits, posterior, latents), at(100))["loss"].backward()
    price = posterior.mean.grad / posterior.mean.detach() * len(images)  # of a nat
    assert torch.allclose(price[:, 0], torch.tensor(6 / (1 + 2 * 3.0)))
    assert torch.allclose(price[:, 1], torch.tensor(6 / (1 + 2 * 0.005)))


@pytest.mark.parametrize("concavity", [5.0, 0.05, 1e-3, 5e-5, 0.0])
def test_any_concavity_counts(concavity):
    loss = FreeBits(beta=[[0, 6]], free_nats=[[0, 0]], concavity=[[0, concavity]])
    cost = 6 * math.log1p(3 * concavity) / concavity if concavity else 6 * 3  # of 0.05, 16.77
    assert loss(example(kl=3.0), at(9))["loss"].item() == pytest.approx(RECONSTRUCTION + cost, abs=2e-4)


def test_likelihoods_are_those_of_torch_distributions():
    images, logits = torch.rand(3, 1, 8, 8).round(), torch.randn(3, 1, 8, 8)
    bernoulli = torch.distributions.Bernoulli(logits=logits).log_prob(images).sum(dim=(1, 2, 3))
    assert torch.allclose(Bernoulli().log_prob(images, logits), bernoulli, atol=1e-4)
    gaussian = torch.distributions.Normal(logits.sigmoid(), 0.3).log_prob(images).sum(dim=(1, 2, 3))
    assert torch.allclose(Gaussian(variance=0.09).log_prob(images, logits), gaussian, atol=1e-3)
    terms = Beta(likelihood=Gaussian(variance=0.09))(
        Sample(images, logits, Posterior(*torch.zeros(2, 3, 2)), torch.zeros(3, 2)), at(0)
    )
    assert terms["reconstruction"].item() == pytest.approx(-gaussian.mean().item(), rel=1e-5)


@pytest.mark.parametrize("loss", [ELBO(), Beta(), Capacity(), Annealed(), FreeBits()])
@pytest.mark.parametrize("log_variance", [-80.0, 80.0])
def test_gradients_stay_finite_at_extreme_variances(loss, log_variance):
    images, logits, posterior, latents = example(kl=1.0)
    posterior = Posterior(posterior.mean, torch.full_like(posterior.mean, log_variance).requires_grad_())
    terms = loss(Sample(images, logits, posterior, latents), at(0))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"])
    assert torch.isfinite(posterior.log_variance.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beta(beta=-1), "beta must not be negative, got -1"),
        (lambda: Beta(beta="big"), "beta must be a number, got 'big'"),
        (lambda: Beta(beta=math.nan), "beta must be finite, got nan"),
        (lambda: FreeBits(free_nats=[[0, 3.41e38]]), "a value of free_nats must be at most 3.4e.38 in size, got 3.41e"),
        (lambda: Capacity(gamma=-5), "gamma must not be negative, got -5"),
        (lambda: Capacity(max_capacity=-1), "max_capacity must not be negative, got -1"),
        (lambda: Capacity(charge_offset="no"), "charge_offset must be true or false, got 'no'"),
        (lambda: Capacity(anneal_steps=0), "anneal_steps must be 1 or more, got 0"),
        (lambda: Capacity(anneal_steps=0.5), "anneal_steps must be an integer, got 0.5"),
        (lambda: Annealed(beta_end=0), "beta_end must be positive, got 0"),
        (lambda: Annealed(hold_steps=-1), "hold_steps must be 0 or more, got -1"),
        (lambda: FreeBits(beta=3), r"beta must be pairs of a step and a value, as \[\[0,60\],\[1000,4\]\], got 3"),
        (lambda: FreeBits(beta=[]), "beta must be pairs"),
        (lambda: FreeBits(beta=[[0, 1], [9, -1]]), "a value of beta must not be negative, got -1"),
        (lambda: FreeBits(free_nats=[[9, 1], [3, 1]]), "the steps of free_nats must be in order"),
        (lambda: FreeBits(free_nats=[[0.5, 1]]), "a step of free_nats must be an integer"),
        (lambda: FreeBits(concavity=[[0, -1]]), "a value of concavity must not be negative, got -1"),
        (lambda: Gaussian(variance=0), "variance must be positive, got 0"),
        (lambda: Beta(likelihood="gaussian"), "use loss/likelihood=bernoulli or"),
    ],
)
def test_impossible_values_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_gaussian_of_unbounded_means_and_one_that_learns_its_variance():
    images, logits = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    expected = torch.distributions.Normal(logits, 0.3).log_prob(images).flatten(1).sum(dim=1)
    learned = LearnedGaussian(variance=0.09)
    for likelihood in (Gaussian(variance=0.09, bounded=False), learned):
        assert torch.allclose(likelihood.log_prob(images, logits), expected, atol=1e-3)
        assert torch.equal(likelihood.mean(logits), logits.clamp(0, 1))
    # The variance is a weight like others, and is at its best where it is the mean squared error.
    squared = (images - logits).square().mean()
    LearnedGaussian.log_prob(learned, images, logits).mean().backward()
    assert learned.log_variance.grad.item() == pytest.approx(0.5 * 48 * (squared.item() / 0.09 - 1), rel=1e-4)


def test_the_likelihood_follows_the_number_of_channels():
    assert isinstance(suited_likelihood((1, 64, 64)), Bernoulli)
    assert isinstance(suited_likelihood((3, 64, 64)), Gaussian)
    assert not suited_likelihood((3, 64, 64)).bounded
