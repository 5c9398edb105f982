from __future__ import annotations

import math

import pytest
import torch

from bvae.losses import DIP1, DIP2, Context, Posterior, Sample

AT = Context(torch.tensor(0), dataset_size=1_000)


def of(mean: list | torch.Tensor, log_variance: torch.Tensor | float = 0.0) -> Sample:
    """A batch with this posterior whose reconstruction costs 64·log 2."""
    mean = torch.as_tensor(mean)
    images = torch.zeros(len(mean), 1, 8, 8)
    return Sample(images, images, Posterior(mean, torch.zeros_like(mean) + log_variance), mean)


def test_dip1_charges_the_covariance_of_the_means_over_the_batch():
    sample = of([[2.0, 0.0], [-2.0, 2.0]])  # C = [[4, −2], [−2, 1]], divided by 2, not by 1
    terms = DIP1()(sample, AT)
    assert terms["dip_off_diagonal"].item() == pytest.approx(2 * 2**2)
    assert terms["dip_diagonal"].item() == pytest.approx(3**2)
    kl = (4 + 4 + 4) / 2 / 2
    assert terms["loss"].item() == pytest.approx(64 * math.log(2) + kl + 10 * 8 + 100 * 9, rel=1e-6)
    assert DIP1(off_diagonal=2, diagonal_ratio=3)(sample, AT)["loss"].item() == pytest.approx(
        64 * math.log(2) + kl + 2 * 8 + 2 * 3 * 9, rel=1e-6
    )


def test_dip2_adds_the_variances_to_the_diagonal_alone():
    sample = of([[2.0, 0.0], [-2.0, 2.0]], torch.tensor([[math.log(3.0), 0.0], [math.log(1.0), 0.0]]))
    terms = DIP2()(sample, AT)  # C = [[4 + 2, −2], [−2, 1 + 1]]
    assert terms["dip_off_diagonal"].item() == pytest.approx(8)  # a scalar that is added would make it 0 or 2
    assert terms["dip_diagonal"].item() == pytest.approx(5**2 + 1**2)
    assert terms["loss"].item() == pytest.approx((terms["reconstruction"] + terms["kl"]).item() + 10 * (8 + 26))


def test_dip2_of_uncorrelated_means_with_the_priors_variance_costs_nothing():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * math.sqrt(0.75)
    terms = DIP2()(of(corners, math.log(0.25)), AT)
    assert terms["dip_off_diagonal"].item() == 0
    assert terms["dip_diagonal"].item() == pytest.approx(0, abs=1e-12)
    assert DIP1()(of(corners, math.log(0.25)), AT)["dip_diagonal"].item() == pytest.approx(2 * 0.25**2)


@pytest.mark.parametrize("loss", [DIP1(), DIP2()])
def test_the_gradient_is_that_of_finite_differences(loss):
    torch.manual_seed(0)
    parameters = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: loss(of(both[0], both[1]), AT)["loss"], parameters)


@pytest.mark.parametrize("loss", [DIP1(), DIP2()])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)], ids=str)
def test_one_image_and_one_unit_have_a_covariance(loss, shape):
    assert loss(of(torch.ones(shape)), AT)["loss"].isfinite()


def test_autocast_does_not_round_the_covariance():
    sample = of(torch.randn(64, 10))
    exact = DIP1()(sample, AT)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(DIP1()(sample, AT)["loss"], exact, rtol=1e-6)
