from __future__ import annotations

import math

import pytest
import torch

from bvae.losses import Bernoulli, Context, Gaussian, Paced, Posterior, Sample


def of(kl: float, images: torch.Tensor | None = None) -> Sample:
    """Two images, black unless given, decoded into grey, whose mean KL is this."""
    mean = torch.full((2, 1), math.sqrt(2 * kl))
    images = torch.zeros(2, 1, 8, 8) if images is None else images
    return Sample(images, torch.zeros_like(images), Posterior(mean, torch.zeros(2, 1)), mean)


def at(step: int) -> Context:
    return Context(torch.tensor(step), dataset_size=1_000)


def one_white_one_black(share: float = 1.0) -> torch.Tensor:
    images = torch.zeros(2, 1, 8, 8)
    images[0] = share
    return images


def test_the_scale_is_what_the_mean_picture_loses():
    # The mean picture is grey: each of 64 pixels loses log 2 of a Bernoulli's nats, or (1/2)²/(2·0.1) of a Gaussian's.
    for likelihood, pixel in ((Bernoulli(), math.log(2)), (Gaussian(0.1, bounded=False), 0.25 / 0.2)):
        loss = Paced(likelihood=likelihood)
        loss(of(0.0, one_white_one_black()), at(0))
        # Of two images each is half of the mean, which halves what it loses.
        assert loss.scale.item() == pytest.approx(2 * 64 * pixel, rel=1e-4)


def test_the_scale_is_the_mean_of_the_first_hundred_batches():
    loss = Paced(likelihood=Gaussian(0.5, bounded=False))
    for step in range(150):
        # (a/2)² of 64 pixels over 2·0.5, twice: 32·a²
        loss(of(0.0, one_white_one_black(1.0 if step % 2 else 0.5)), at(step))
        if step == 2:
            assert loss.scale.item() == pytest.approx(32 * (0.25 + 1 + 0.25) / 3)
    assert loss.scale.item() == pytest.approx(32 * (0.25 + 1) / 2)
    loss(of(0.0, one_white_one_black(0.0)), at(100))
    assert loss.scale.item() == pytest.approx(32 * (0.25 + 1) / 2)


def test_three_steps_by_hand():
    loss = Paced(target_start=1, target_end=3, anneal_steps=2, share_max=0.5, share_min=0.1, rate=0.2)
    share, kl_mean, target = math.log(0.5), 0.0, 1.0
    # The moving average is too far behind the target until a batch of 40 nats.
    # Then the target is 2, and two more such batches bring the average over it.
    for step, (kl, rise) in enumerate([(0.5, 0), (0.9, 0), (40.0, 1), (40.0, 0), (40.0, 1), (1.6, 0)]):
        terms = loss(of(kl, one_white_one_black()), at(step))
        kl_mean += 0.02 * (kl - kl_mean)
        target += rise
        error = kl_mean - target
        share = min(share + 0.2 * (max(error / 0.3, -1) if error < 0 else min(10 * error, 60)), math.log(0.5))
        assert loss.kl.item() == pytest.approx(kl_mean)
        assert terms["target_kl"].item() == pytest.approx(target)
        assert terms["beta"].item() == pytest.approx(math.exp(share) * 128 * math.log(2), rel=1e-4)
        expected = terms["reconstruction"] + terms["beta"] * kl
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_beta_stays_between_its_shares_and_pressure_comes_back_ten_times_as_fast():
    loss = Paced(target_start=8, target_end=8, share_max=0.4, share_min=0.1, rate=0.05)
    loss.scale.fill_(100)
    for _ in range(100):
        terms = loss(of(0.0), at(200))
    assert terms["beta"].item() == pytest.approx(10, rel=1e-5)
    loss.kl.fill_(8.1)
    assert loss(of(8.1), at(200))["beta"].item() == pytest.approx(10 * math.exp(0.05 * 10 * (8.1 - 8)), rel=1e-5)
    for _ in range(100):
        terms = loss(of(500.0), at(200))
    assert terms["beta"].item() == pytest.approx(40, rel=1e-5)
    assert terms["target_kl"] == 8


def test_beta_is_a_constant_to_the_gradient_and_the_next_step_leaves_its_terms():
    loss = Paced()
    images, logits, posterior, latents = of(8.0, one_white_one_black())
    posterior.mean.requires_grad_()
    terms = loss(Sample(images, logits, posterior, latents), at(0))
    beta, target = terms["beta"].item(), terms["target_kl"].item()
    for step in range(1, 50):
        loss(of(3.0), at(step))
    assert (terms["beta"].item(), terms["target_kl"].item()) == (beta, target)
    terms["loss"].backward()
    assert torch.allclose(posterior.mean.grad, beta * posterior.mean.detach() / 2)


def test_validation_takes_beta_as_it_is_and_a_checkpoint_holds_it():
    loss = Paced()
    for step in range(3):
        trained = loss(of(9.0, one_white_one_black()), at(step))
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    assert set(state) == {"scale", "log_share", "target", "kl"}
    loss.eval()
    assert loss(of(1.0), at(3))["beta"] == trained["beta"]
    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())
    other = Paced()
    other.load_state_dict(state)
    assert torch.equal(loss.train()(of(2.0), at(3))["beta"], other(of(2.0), at(3))["beta"])


def test_the_least_share_is_no_more_than_the_largest():
    with pytest.raises(ValueError, match=r"share_min must be share_max, 0\.1, or less, got 0\.2"):
        Paced(share_min=0.2)
