from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from bvae.losses import BetaTC, Context, Posterior, Sample
from bvae.losses.btcvae import stratified_weights

PARTS = ("mutual_information", "tc", "dimension_wise_kl")


def of(posterior: Posterior, latents: torch.Tensor) -> Sample:
    images = torch.zeros(len(latents), 1, 8, 8)
    return Sample(images, images, posterior, latents)


def at(dataset_size: int) -> Context:
    return Context(torch.tensor(0), dataset_size)


def three_images() -> Sample:
    torch.manual_seed(0)
    posterior = Posterior(*torch.randn(2, 3, 2, dtype=torch.float64))
    return of(posterior, posterior.sample(torch.randn(3, 2, dtype=torch.float64)))


def by_hand(sample: Sample, weight: Callable[[int, int], float], times: int = 1) -> dict[str, torch.Tensor]:
    """The parts by loops; `weight(i, j)` is image j's at image i's latents, and counts so many times in log q(z)."""
    z, (mean, log_variance) = sample.latents, sample.posterior
    q = [[Normal(m, (0.5 * v).exp()).log_prob(row).exp() for m, v in zip(mean, log_variance, strict=True)] for row in z]
    parts = []
    for i, row in enumerate(q):
        joint = sum(weight(i, j) ** times * density.prod() for j, density in enumerate(row)).log()
        marginals = sum(weight(i, j) * density for j, density in enumerate(row)).log().sum()
        prior = Normal(0, 1).log_prob(z[i]).sum()
        parts.append(torch.stack((row[i].prod().log() - joint, joint - marginals, marginals - prior)))
    return dict(zip(PARTS, torch.stack(parts).mean(dim=0), strict=True))


def its_own(i: int, j: int) -> float:
    """A batch of three of 12 images: the image itself stands for one, each of the two others for 5.5."""
    return 1 / 12 if i == j else 5.5 / 12


def test_three_images_by_hand_and_what_others_get_wrong():
    sample = three_images()
    terms, expected = BetaTC()(sample, at(12)), by_hand(sample, its_own)
    assert [terms[name].item() for name in PARTS] == pytest.approx([expected[name].item() for name in PARTS])
    loss = terms["reconstruction"] + terms["kl"] + 5 * expected["tc"]
    assert terms["loss"].item() == pytest.approx(loss.item())
    once_a_unit = by_hand(sample, its_own, times=2)
    beside_the_image = by_hand(sample, lambda i, j: its_own(i, (j + 1) % 3))
    for wrong in (once_a_unit, beside_the_image):
        assert abs(wrong["tc"] - terms["tc"]) > 0.05


def test_the_parts_are_the_kl_of_the_samples_and_their_weights_are_theirs():
    sample = three_images()
    terms = BetaTC(alpha=2, beta=3, gamma=5)(sample, at(12))
    conditional = Normal(sample.posterior.mean, (0.5 * sample.posterior.log_variance).exp())
    kl_of_samples = (conditional.log_prob(sample.latents) - Normal(0, 1).log_prob(sample.latents)).sum(dim=1).mean()
    mi, tc, dimension_wise_kl = (terms[name] for name in PARTS)
    assert (mi + tc + dimension_wise_kl).item() == pytest.approx(kl_of_samples.item())
    weighted = terms["reconstruction"] + terms["kl"] + 1 * mi + 2 * tc + 4 * dimension_wise_kl
    assert terms["loss"].item() == pytest.approx(weighted.item())


@pytest.mark.parametrize(("stratified", "weight"), [(False, lambda i, j: 1 / 36), (True, its_own)])
def test_the_gradient_is_that_of_the_estimator_whatever_the_constant(stratified, weight):
    sample = three_images()
    mean, log_variance = sample.posterior
    noise = (sample.latents - mean) / (0.5 * log_variance).exp()

    def gradient(objective: Callable[[Sample], torch.Tensor]) -> torch.Tensor:
        both = torch.stack((mean, log_variance)).requires_grad_()
        posterior = Posterior(both[0], both[1])
        return torch.autograd.grad(objective(of(posterior, posterior.sample(noise))), both)[0]

    def expected(sample: Sample) -> torch.Tensor:
        terms = BetaTC(beta=1)(sample, at(12))
        return terms["reconstruction"] + terms["kl"] + 5 * by_hand(sample, weight)["tc"]

    ours = gradient(lambda sample: BetaTC(stratified=stratified)(sample, at(12))["loss"])
    assert torch.allclose(ours, gradient(expected))
    by_weights = BetaTC(alpha=1, beta=6, gamma=1, stratified=stratified)
    assert torch.equal(ours, gradient(lambda sample: by_weights(sample, at(12))["loss"]))
    if stratified:  # else the value, stratified, isn't what the gradient is of
        both = torch.stack((mean, log_variance)).requires_grad_()
        loss = BetaTC(alpha=2, beta=3, gamma=4, stratified=True)
        of_both = lambda both: of(Posterior(*both), Posterior(*both).sample(noise))  # noqa: E731
        assert torch.autograd.gradcheck(lambda both: loss(of_both(both), at(12))["loss"], both)


def test_the_estimates_are_those_of_known_gaussians():
    # Means with correlation 0.8 and variance 0.75, σ² = 0.25: q(z) is Gaussian, its units standard normal, their
    # correlation 0.6; so TC = −½ log(1 − 0.36), and no unit has a KL of its own.
    torch.manual_seed(0)
    covariance = 0.75 * torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    mean = MultivariateNormal(torch.zeros(2), covariance).sample((800,))
    posterior = Posterior(mean, torch.full_like(mean, math.log(0.25)))
    latents = posterior.sample(torch.randn_like(mean))
    tc = -0.5 * math.log(1 - 0.6**2)
    mi = 0.5 * math.log(1 - 0.6**2) - math.log(0.25)
    terms = BetaTC()(of(posterior, latents), at(800))
    assert terms["tc"].item() == pytest.approx(tc, abs=0.04)
    assert terms["mutual_information"].item() == pytest.approx(mi, abs=0.06)
    assert terms["dimension_wise_kl"].item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("stratified", [False, True])
def test_units_that_tell_nothing_have_no_tc_however_large_the_dataset(stratified):
    torch.manual_seed(0)
    posterior = Posterior(torch.zeros(64, 10), torch.zeros(64, 10))
    terms = BetaTC(stratified=stratified)(of(posterior, torch.randn(64, 10)), at(737_280))
    assert [terms[name].item() for name in PARTS] == pytest.approx([0, 0, 0], abs=1e-4)  # not 9·log 737,280 = 122


def test_a_row_of_weights_is_a_whole_and_a_batch_of_all_images_weighs_alike():
    for images, n in ((2, 100), (4, 4), (4, 100), (64, 737_280)):
        weights = stratified_weights(torch.zeros(images, 2), n).exp()
        assert torch.allclose(weights.sum(dim=1), torch.ones(images))
        assert torch.allclose(weights.diagonal(), torch.tensor(1 / n))
    for n in (0, 3, 4):  # unknown, and less than the batch
        assert torch.allclose(stratified_weights(torch.zeros(4, 2), n).exp(), torch.full((4, 4), 1 / 4))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("dataset_size", [0, 1, 50])
def test_one_image_and_one_unit_have_finite_parts_and_gradients(shape, dataset_size):
    mean = torch.randn(shape, requires_grad=True)
    terms = BetaTC()(of(Posterior(mean, torch.zeros(shape)), mean + 1), at(dataset_size))
    terms["loss"].backward()
    assert terms["loss"].isfinite()
    assert mean.grad.isfinite().all()
