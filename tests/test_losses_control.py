from __future__ import annotations

import math

import pytest
import torch

from bvae.losses import Context, Control, Posterior, Sample


def of(kl: float) -> Sample:
    """Two images whose mean KL is this, and whose reconstruction costs 64·log 2."""
    images, mean = torch.zeros(2, 1, 8, 8), torch.full((2, 1), math.sqrt(2 * kl))
    return Sample(images, images, Posterior(mean, torch.zeros(2, 1)), mean)


def at(step: int) -> Context:
    return Context(torch.tensor(step), dataset_size=1_000)


def test_three_steps_by_hand():
    loss = Control(target_start=2, target_end=4, anneal_steps=2, k_p=0.5, k_i=0.1, beta_min=1, beta_max=1.9)
    # e = 2 − 6, 3 − 6, 4 − 1: the sum is 0.4, 0.7, 0.4.
    for step, kl, target, beta in (
        (0, 6.0, 2, 1 + 0.4 + 0.5 / (1 + math.exp(-4))),
        (1, 6.0, 3, 1.9),  # 1 + 0.7 + 0.48 is beyond the largest
        (2, 1.0, 4, 1 + 0.4 + 0.5 / (1 + math.exp(3))),
    ):
        terms = loss(of(kl), at(step))
        assert terms["target_kl"].item() == target
        assert terms["beta"].item() == pytest.approx(beta)
        assert terms["loss"].item() == pytest.approx(64 * math.log(2) + beta * kl)


def test_beta_is_a_constant_to_the_gradient():
    loss = Control()
    images, logits, posterior, latents = of(8.0)
    posterior.mean.requires_grad_()
    terms = loss(Sample(images, logits, posterior, latents), at(0))
    loss(of(3.0), at(1))  # the next step doesn't reach this one's graph
    terms["loss"].backward()
    assert torch.allclose(posterior.mean.grad, terms["beta"] * posterior.mean.detach() / 2)


def test_published_gains_raise_beta_where_the_kl_is_over_its_target_and_lower_it_where_it_is_under():
    for kl, target in ((20.0, 10.0), (10.0, 20.0)):
        loss = Control(target_start=target, target_end=target)
        loss.integral.fill_(5)
        betas = [loss(of(kl), at(step))["beta"].item() for step in range(5)]
        assert betas == sorted(betas, reverse=kl < target)
        assert betas[-1] - betas[0] == pytest.approx(4 * 0.001 * (kl - target), rel=1e-3)


def test_no_windup_keeps_beta_at_its_bounds():
    loss = Control(target_start=20, target_end=20, k_i=0.01, beta_min=1, beta_max=2)
    for _ in range(100):
        assert loss(of(1.0), at(0))["beta"] == pytest.approx(1, abs=1e-6)  # the KL is far under its target
    assert loss(of(30.0), at(0))["beta"] == pytest.approx(1 + 0.1 + 0.01)
    for _ in range(100):
        loss(of(500.0), at(0))
    assert loss(of(500.0), at(0))["beta"] == 2
    assert loss(of(10.0), at(0))["beta"] == pytest.approx(2 - 0.1)


def test_the_kl_comes_to_its_target():
    # A model whose KL pays 30·log(1 + KL) of the reconstruction, so that KL = 30/β − 1.
    loss, kl = Control(target_start=1, target_end=5, anneal_steps=100, k_i=0.02), 0.5
    for step in range(600):
        terms = loss(of(kl), at(step))
        kl += 0.05 * (30 / (1 + kl) - terms["beta"].item())
        kl = max(kl, 0.0)
    assert kl == pytest.approx(5, abs=0.05)
    assert terms["beta"].item() == pytest.approx(5, abs=0.1)


def test_validation_takes_beta_as_it_is_and_a_checkpoint_holds_it():
    loss = Control()
    for step in range(3):
        trained = loss(of(9.0), at(step))
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    assert set(state) == {"integral", "beta"}
    loss.eval()
    assert loss(of(500.0), at(3))["beta"] == trained["beta"]
    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())
    resumed = Control()
    resumed.load_state_dict(state)
    assert torch.equal(resumed.train()(of(7.0), at(3))["loss"], loss.train()(of(7.0), at(3))["loss"])


def test_impossible_gains_are_named():
    with pytest.raises(ValueError, match=r"k_i must not be negative, got -0.001"):
        Control(k_i=-0.001)
    with pytest.raises(ValueError, match=r"beta_max must be beta_min, 1.0, or more, got 0.5"):
        Control(beta_max=0.5)
