from __future__ import annotations

import math
import re
from copy import deepcopy

import pytest
import torch
from torch import nn

from bvae.optimizers import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (32, 32)])
def test_orthogonalized_brings_every_singular_value_near_one(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(1, 0.05, min(shape))
    result = orthogonalized(u @ torch.diag(values) @ v)
    found = torch.linalg.svdvals(result)
    assert found.min() > 0.6
    assert found.max() < 1.3
    torch.testing.assert_close(u.T @ result @ v.T, torch.diag(torch.diagonal(u.T @ result @ v.T)), atol=1e-4, rtol=0)


def test_a_matrix_of_zeros_stays_one():
    assert orthogonalized(torch.zeros(3, 4)).eq(0).all()


@pytest.mark.parametrize("size", [1e-12, 1e-19, 1e-22, 1e-25, 1e-36, 1e-44])
def test_a_gradient_that_vanishes_moves_a_weight_by_its_step_at_most(size):
    # An average of gradients does so once a layer is dead: by 0.95 a step.
    found = orthogonalized(size * torch.randn(32, 64))
    assert found.isfinite().all()
    assert torch.linalg.matrix_norm(found, 2) < 1.3


@pytest.mark.parametrize("shape", [(8, 6), (8, 4, 4, 4)])
def test_a_step_has_a_fifth_of_the_learning_rate_in_every_direction(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape)
    Muon([weight], lr=0.1).step()
    matrix = weight.detach().flatten(1)
    values = torch.linalg.svdvals(matrix) / (0.2 * 0.1 * math.sqrt(max(matrix.shape)))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (weight * weight.grad).sum() < 0  # downhill


def test_it_learns_a_direction_that_the_gradient_hardly_shows():
    """A regression whose 16 inputs differ a hundredfold in size and are mixed: no single weight stands for one."""
    torch.manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16))
    scales = torch.logspace(0, -2, 16)
    target = torch.linalg.qr(torch.randn(16, 16))[0]

    def remaining(optimizer_of) -> float:
        weight = nn.Parameter(torch.zeros(16, 16))
        optimizer = optimizer_of([weight])
        for _ in range(300):
            optimizer.zero_grad()
            error = (weight - target) @ rotation * scales
            error.square().sum().backward()
            optimizer.step()
        return float((weight.detach() - target).square().mean())

    assert remaining(lambda p: Muon(p, lr=0.02)) < 0.2 * remaining(lambda p: torch.optim.Adam(p, lr=0.02))


def test_biases_take_adams_steps():
    torch.manual_seed(0)
    ours, adams = (nn.Parameter(torch.ones(5)) for _ in range(2))
    muon, adam = Muon([ours], lr=0.1), torch.optim.Adam([adams], lr=0.1)
    for _ in range(5):
        ours.grad = torch.randn(5)
        adams.grad = ours.grad.clone()
        muon.step()
        adam.step()
        torch.testing.assert_close(ours, adams)


def test_before_its_first_step_weights_take_adams_steps():
    torch.manual_seed(0)
    ours, adams = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    muon, adam = Muon([ours], lr=0.4, first_step=3, adam_lr=0.25), torch.optim.Adam([adams], lr=0.1)
    for step in range(3):
        ours.grad = torch.randn(4, 3)
        adams.grad = ours.grad.clone()
        muon.step()
        adam.step()
        torch.testing.assert_close(ours, adams, msg=str(step))
    for _ in range(2):
        before = ours.detach().clone()
        muon.step()
        moved = torch.linalg.svdvals(ours.detach() - before) / (0.2 * 0.4 * 2)
        assert 0.6 < moved.min() < moved.max() < 1.3


def test_its_state_is_saved_and_loaded():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    optimizers = [Muon([weight]) for weight in weights]
    gradients = torch.randn(3, 4, 3)

    def go(i: int, gradient: torch.Tensor) -> None:
        weights[i].grad = gradient.clone()
        optimizers[i].step()

    go(0, gradients[0])
    with torch.no_grad():
        weights[1].copy_(weights[0])
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    for gradient in gradients[1:]:
        go(0, gradient)
        go(1, gradient)
    assert torch.equal(*weights)


def test_the_state_of_an_earlier_version_is_taken_on():
    weight = nn.Parameter(torch.ones(4, 3))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn(4, 3)
    optimizer.step()
    earlier = deepcopy(optimizer.state_dict())
    for name in ("first_step", "adam_lr"):
        del earlier["param_groups"][0][name]
    del earlier["state"][0]["taken"]
    again = nn.Parameter(weight.detach().clone())
    resumed = Muon([again], lr=0.1)
    resumed.load_state_dict(earlier)
    again.grad = weight.grad = torch.randn(4, 3)
    optimizer.step()
    resumed.step()
    assert torch.equal(weight, again)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("iterations", 0),
        ("iterations", 2.5),
        ("first_step", -1),
        ("first_step", "abc"),
        ("adam_lr", -0.5),
        ("eps", 0.0),
        ("betas", (0.9,)),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name} must (not )?be .*got {re.escape(repr(value))}"):
        Muon([nn.Parameter(torch.ones(2, 2))], **{name: value})


def step_of(gradients: list[torch.Tensor], momentum: float, iterations: int) -> torch.Tensor:
    """Jordan's step after these gradients of a matrix, in double precision: Nesterov's average, orthogonalized."""
    average = torch.zeros_like(gradients[0])
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient
    x = (1 - momentum) * gradients[-1] + momentum * average
    x = x / x.square().sum().sqrt()
    for _ in range(iterations):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 2, 3)])
def test_three_steps_are_jordans_in_every_group_by_its_own_settings(shape):
    torch.manual_seed(0)
    groups = [{"lr": 0.1, "momentum": 0.9, "iterations": 3}, {"lr": 0.02, "momentum": 0.5, "iterations": 6}]
    weights = [nn.Parameter(torch.randn(shape).double()) for _ in groups]
    still, before = nn.Parameter(torch.ones(2, 2)), [weight.detach().clone() for weight in weights]
    optimizer = Muon([{"params": [weight, still], **group} for weight, group in zip(weights, groups, strict=True)][:1])
    optimizer.add_param_group({"params": [weights[1]], **groups[1]})
    seen = []
    for _ in range(3):
        seen.append(torch.randn(shape).double())
        for weight in weights:
            weight.grad = seen[-1].clone()
        optimizer.step()
        for weight, old, group in zip(weights, before, groups, strict=True):
            step = step_of([gradient.flatten(1) for gradient in seen], group["momentum"], group["iterations"])
            old -= 0.2 * group["lr"] * math.sqrt(max(step.shape)) * step.reshape(shape)
            torch.testing.assert_close(weight.detach(), old)
    assert torch.equal(still, torch.ones(2, 2))  # it has no gradient
    assert not optimizer.state[still]


def test_a_bias_takes_adams_steps_by_the_groups_betas_and_eps_also_before_the_first_step():
    torch.manual_seed(0)
    ours, adams = (nn.Parameter(torch.ones(5)) for _ in range(2))
    settings = {"betas": (0.6, 0.8), "eps": 0.05}
    muon = Muon([ours], lr=0.4, first_step=2, adam_lr=0.25, **settings)
    adam = torch.optim.Adam([adams], **settings)
    for rate in (0.1, 0.1, 0.4, 0.4):
        adam.param_groups[0]["lr"] = rate
        ours.grad = torch.randn(5)
        adams.grad = ours.grad.clone()
        muon.step()
        adam.step()
        torch.testing.assert_close(ours, adams)


def test_a_closure_has_gradients_and_its_loss_is_returned():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([weight])

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) == 4
    assert not torch.equal(weight, torch.ones(2, 2))
    assert optimizer.step() is None


def test_each_setting_is_kept_in_the_groups_of_parameters():
    settings = {"lr": 0.5, "momentum": 0.25, "iterations": 3, "betas": (0.5, 0.75), "eps": 0.1}
    settings |= {"first_step": 7, "adam_lr": 0.2}
    (group,) = Muon([nn.Parameter(torch.ones(2))], **settings).param_groups
    assert {name: group[name] for name in settings} == settings
    for momentum in (0.0, 0.999):
        Muon([nn.Parameter(torch.ones(2))], momentum=momentum, betas=(momentum, 0))
    with pytest.raises(ValueError, match=r"betas\[1\] must be 0 or more and below 1, got 1.0"):
        Muon([nn.Parameter(torch.ones(2))], betas=(0.9, 1.0))
