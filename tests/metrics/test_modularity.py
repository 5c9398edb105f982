from __future__ import annotations

import numpy as np
import pytest
from grids import grid

from bvae.metrics import modularity


def test_a_tiny_example_by_hand():
    bits = np.tile(grid(2, 2), (5, 1))
    codes = np.stack((bits[:, 0], 2 * bits[:, 0] + bits[:, 1]), axis=1)
    assert modularity(codes, bits) == pytest.approx((1 + 0) / 2)  # one factor alone; both alike
    three = np.tile(grid(2, 2, 2), (3, 1))
    both = three[:, :1] * 2 + three[:, 1:2]
    assert modularity(both, three) == pytest.approx(1 - 1 / 2)  # one of the two other factors


def test_codes_of_known_modularity(perfect, rotated, noise, constant, factors):
    assert modularity(perfect, factors) == pytest.approx(1)
    assert modularity(perfect[:, [0, 0, 1, 2]], factors) == pytest.approx(1)  # redundant units are modular
    assert modularity(rotated, factors[:, :2]) == pytest.approx(0, abs=1e-9)
    assert modularity(constant, factors) == 0
    assert modularity(np.concatenate((perfect, constant[:, :1]), axis=1), factors) == pytest.approx(3 / 4)
    # A unit of noise has a little information about each factor, none of which stands out much.
    assert modularity(noise, factors) < 0.9


def test_one_factor_has_nothing_to_be_told_from(perfect, factors):
    with pytest.raises(ValueError, match="modularity compares factors, and only one varies"):
        modularity(perfect, factors[:, :1])
