import pytest
import torch

from bvae.report.rounding import compensated, rounded


def changed(weight, inputs, whole, scale) -> float:
    """By how much the products with the inputs change, as a share of them."""
    wanted = inputs @ weight.T
    return float((inputs @ (whole * scale).T - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("columns", [96, 300])  # less than a block, and more than two
def test_errors_in_what_the_inputs_have_in_common_make_up_for_each_other(columns, monkeypatch):
    monkeypatch.setattr("bvae.report.rounding._GROUP", 256)
    torch.manual_seed(0)
    weight = torch.randn(40, columns)
    few = torch.randn(400, 8) @ torch.randn(8, columns)  # of eight directions
    whole, scale = compensated(weight, few, 3)
    assert whole.unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert changed(weight, few, whole, scale) < changed(weight, few, *rounded(weight, 3)) / 4


def test_of_inputs_that_have_nothing_in_common_each_weight_is_rounded_by_itself():
    torch.manual_seed(0)
    weight = torch.randn(40, 64)
    whole, scale = compensated(weight, 8 * torch.eye(64), 4)
    torch.testing.assert_close(whole, (weight / scale).round().clamp(-7, 7))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2, 2)])
def test_the_largest_weight_of_a_row_takes_the_largest_integer(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    weight[1] = 0
    whole, scale = rounded(weight, 8)
    assert whole.flatten(1).abs().amax(dim=1).tolist() == [127, 0, 127]
    assert (whole * scale - weight).abs().max() <= scale.max() / 2 * 1.001
