from __future__ import annotations

import pytest

from bvae.schedules import geometric, linear, piecewise


def test_linear_rises_in_equal_steps_and_stays():
    assert [linear(step, 0, 25, 100_000) for step in (0, 50_000, 100_000, 250_000)] == [0, 12.5, 25, 25]
    assert [linear(step, 4, 2, 10, hold=5) for step in (0, 5, 10, 15, 16)] == [4, 4, 3, 2, 2]


def test_geometric_falls_by_one_factor_a_step():
    assert [geometric(step, 64, 1, 6, hold=2) for step in (0, 2, 3, 5, 8, 9)] == pytest.approx([64, 64, 32, 8, 1, 1])


def test_piecewise_goes_from_point_to_point():
    points = [[0, 64], [2, 64], [8, 1], [8, 3], [10, 0]]
    found = [piecewise(step, points) for step in (0, 2, 3, 5, 7, 8, 9, 10, 99)]
    assert found == pytest.approx([64, 64, 32, 8, 2, 3, 1.5, 0, 0])
    assert piecewise(0, [[5, 7]]) == piecewise(5, [[5, 7]]) == piecewise(9, [[5, 7]]) == 7
