from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from bvae.checkpoints.recipes import build, describe
from bvae.losses import Context, Factor, Posterior, Sample
from bvae.losses.factor import permute
from bvae.optimizers import Muon
from bvae.training import Training

AT = Context(torch.tensor(0), dataset_size=1_000)


def of(latents: torch.Tensor) -> Sample:
    """A batch of these latents, from posteriors that are the prior, whose reconstruction costs 64·log 2."""
    images = torch.zeros(len(latents), 1, 8, 8)
    return Sample(images, images, Posterior(torch.zeros_like(latents), torch.zeros_like(latents)), latents)


def small(**arguments: float) -> Factor:
    torch.manual_seed(0)
    return Factor(**{"latent_dim": 2, "discriminator_width": 5, "discriminator_depth": 2} | arguments)


def test_two_images_by_hand():
    loss = small(gamma=10, discriminator_depth=1, discriminator_width=1)
    first, _, last = loss.discriminator
    with torch.no_grad():  # h = z_0 + z_1 after the leak, D₀ = h, D₁ = −h
        first.weight.fill_(1)
        last.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    terms = loss(of(torch.tensor([[1.0, 2.0], [-1.0, -4.0]])), AT)
    h = torch.tensor([3.0, 0.2 * -5.0])
    assert terms["tc"].item() == pytest.approx((2 * h).mean().item())
    assert terms["loss"].item() == pytest.approx(64 * math.log(2) + 10 * 2.0)
    # Permuted, the batch is the same (3, −5), or with the units swapped (−3, 1).
    kept, swapped = torch.tensor([3.0, 0.2 * -5.0]), torch.tensor([0.2 * -3.0, 1.0])
    ours = (2 * h).sigmoid().log().mean()
    possible = [-0.5 * (ours + (-2 * other).sigmoid().log().mean()).item() for other in (kept, swapped)]
    accuracies = [0.5 * (0.5 + 0.5), 0.5 * (0.5 + 0.5)]
    assert any(
        (terms["discriminator_loss"].item(), terms["discriminator_accuracy"].item()) == pytest.approx(pair)
        for pair in zip(possible, accuracies, strict=True)
    )


@pytest.mark.parametrize(("logit", "accuracy"), [(0.1, 0.5), (-0.1, 0.5), (0.0, 0.0)])
def test_a_discriminator_that_is_nearly_undecided_takes_a_side_and_one_that_is_has_told_nothing(logit, accuracy):
    loss = small()
    loss.log_ratio = lambda latents, weights: torch.full((len(latents),), logit)  # of whatever it is shown
    terms = loss(of(torch.randn(8, 2)), AT)
    assert terms["discriminator_accuracy"] == accuracy
    assert terms["discriminator_loss"].item() == pytest.approx(
        0.5 * (math.log1p(math.exp(-logit)) + math.log1p(math.exp(logit)))
    )


def test_the_discriminator_is_the_papers():
    loss = Factor(latent_dim=7)
    layers = list(loss.discriminator)
    linear = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert linear == [(7, 1000)] + [(1000, 1000)] * 5 + [(1000, 2)]
    assert [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)] == [0.2] * 6
    assert isinstance(layers[-1], nn.Linear)
    for layer in layers[::2]:  # Xavier-uniform, and biases of 0
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert not layer.bias.any()
    (group,) = loss.parameter_groups()
    assert (group["lr"], group["betas"]) == (1e-4, (0.5, 0.9))


def test_neither_trains_the_other_although_one_backward_pass_serves_both():
    def gradients(gamma: float, weigh_discriminator: bool = True) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        loss, latents = small(gamma=gamma), torch.linspace(-2, 2, 8).reshape(4, 2).requires_grad_()
        torch.manual_seed(1)
        terms = loss(of(latents), AT)
        (terms["loss"] if weigh_discriminator else terms["discriminator_loss"]).backward()
        return latents.grad, [weight.grad for weight in loss.discriminator.parameters()]

    to_encoder, to_discriminator = gradients(gamma=0)
    assert to_encoder.abs().max() == 0  # of the discriminator's loss, the encoder has no gradient
    assert any(gradient.abs().max() > 0 for gradient in to_discriminator)
    to_encoder, with_tc = gradients(gamma=1e3)
    assert to_encoder.abs().max() > 0
    assert all(map(torch.equal, with_tc, to_discriminator))  # of the TC, the discriminator has none
    assert gradients(gamma=1e3, weigh_discriminator=False)[0] is None


def test_the_loss_is_the_vaes_objective_and_its_gradient_that_of_finite_differences():
    loss = small(gamma=35).double()
    latents = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    terms = loss(of(latents), AT)
    assert terms["loss"].item() == (terms["reconstruction"] + terms["kl"] + 35 * terms["tc"]).item()

    def at_latents(latents: torch.Tensor) -> torch.Tensor:
        return loss(of(latents), AT)["loss"]

    assert torch.autograd.gradcheck(at_latents, latents)


def test_units_are_permuted_one_by_one_within_the_batch():
    torch.manual_seed(0)
    latents = torch.arange(300.0).reshape(100, 3)
    permuted = permute(latents)
    assert torch.equal(permuted.sort(dim=0).values, latents)
    orders = permuted.argsort(dim=0).T
    assert len({tuple(order.tolist()) for order in orders} | {tuple(range(100))}) == 4


def test_a_discriminator_learns_to_tell_correlated_units():
    torch.manual_seed(0)
    loss = Factor(latent_dim=2, discriminator_width=32, discriminator_depth=2)
    optimizer = torch.optim.Adam(loss.parameter_groups())
    optimizer.param_groups[0]["lr"] = 1e-2
    for _ in range(60):
        common = torch.randn(128, 1)
        terms = loss(of(common + 0.1 * torch.randn(128, 2)), AT)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    assert terms["discriminator_accuracy"] > 0.8
    assert terms["tc"] > 1  # −½ log(1 − ρ²) = 1.97 nats


def test_without_gradients_the_terms_are_there_and_another_number_of_units_is_refused():
    loss = small().eval()
    with torch.inference_mode():
        assert loss(of(torch.randn(1, 2)), AT)["loss"].isfinite()
    with pytest.raises(ValueError, match=r"loss.latent_dim must be that of the model, 3, got 2"):
        loss(of(torch.randn(4, 3)), AT)


def training(optimizer: type[torch.optim.Optimizer], **arguments) -> Training:
    encoder, decoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), nn.Linear(2, 64)
    return Training(encoder, decoder, small(), partial(optimizer, lr=1e-2), **arguments)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, Muon])
def test_the_discriminator_has_a_group_of_its_own_which_the_schedule_scales(optimizer):
    halved = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 0.5)
    model, own = training(optimizer, scheduler=halved).configure_optimizers()["optimizer"].param_groups
    assert (len(model["params"]), model["lr"], own["lr"], own["betas"]) == (4, 0.5e-2, 0.5e-4, (0.5, 0.9))
    assert {id(weight) for weight in own["params"]}.isdisjoint(id(weight) for weight in model["params"])


def test_an_optimizer_that_would_not_use_the_betas_is_refused():
    with pytest.raises(ValueError, match="sets their betas, which Adagrad doesn't take"):
        training(torch.optim.Adagrad).configure_optimizers()


def test_a_checkpoint_can_describe_it():
    loss = small(gamma=7, discriminator_lr=1e-3)
    again = build(describe(loss))
    assert describe(again) == describe(loss)
    again.load_state_dict(loss.state_dict())
