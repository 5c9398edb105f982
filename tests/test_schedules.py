from __future__ import annotations

import pytest
import torch

from bvae.losses.schedules import geometric, linear, piecewise


def test_linear_rises_in_equal_steps_and_stays():
    steps = torch.tensor([0, 50_000, 100_000, 250_000])
    assert linear(steps, 0, 25, 100_000).tolist() == [0, 12.5, 25, 25]
    assert linear(torch.tensor([0, 5, 10, 15, 16]), 4, 2, 10, hold=5).tolist() == [4, 4, 3, 2, 2]


def test_geometric_falls_by_one_factor_a_step():
    steps = torch.tensor([0, 2, 3, 5, 8, 9])
    assert geometric(steps, 64, 1, 6, hold=2).tolist() == pytest.approx([64, 64, 32, 8, 1, 1])


def test_piecewise_goes_from_point_to_point():
    points = [[0, 64], [2, 64], [8, 1], [8, 3], [10, 0]]
    found = piecewise(torch.tensor([0, 2, 3, 5, 7, 8, 9, 10, 99]), points)
    assert found.tolist() == pytest.approx([64, 64, 32, 8, 2, 3, 1.5, 0, 0])
    assert {float(piecewise(torch.tensor(step), [[5, 7]])) for step in (0, 5, 9)} == {7}
