from __future__ import annotations

import math

import numpy as np
import pytest

from bvae.metrics import InfoMEC, infomec


def test_codes_of_known_parts(perfect, rotated, factors):
    assert infomec(perfect, factors) == pytest.approx({"infom": 1, "infoe": 1, "infoc": 1}, abs=0.02)
    redundant = infomec(perfect[:, [0, 0, 1, 2]], factors)
    assert redundant["infom"] == pytest.approx(1, abs=0.02)
    assert redundant["infoc"] == pytest.approx(((1 / 2 + 1 + 1) / 3 - 1 / 4) / (1 - 1 / 4), abs=0.02)
    turned = infomec(rotated, factors[:, :2])
    assert turned["infom"] == pytest.approx(0, abs=0.05)
    assert turned["infoc"] == pytest.approx(0, abs=0.05)
    assert turned["infoe"] == pytest.approx(1, abs=0.02)  # linear all the same


def test_explicitness_is_the_part_of_the_entropy_that_is_taken_away():
    factor = np.repeat([0, 1], 500)
    wrong = np.arange(1_000) % 10 == 0
    codes = (factor ^ wrong)[:, None] * 1e-6
    noise = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))  # bits that the errors leave of one
    found = infomec(codes, factor[:, None])
    assert found["infoe"] == pytest.approx(1 - noise, abs=1e-4)
    assert math.isnan(found["infom"])  # one factor has none to share with, and so has one unit
    assert math.isnan(found["infoc"])


def test_a_unit_of_a_small_range_is_left_out(perfect, factors):
    mixed = perfect.sum(axis=1, keepdims=True) / 500
    for scale, out in ((1, True), (100, False)):
        found = infomec(np.hstack((perfect, mixed * scale)), factors)
        assert (found["infom"] > 0.95) is out


def test_noise_is_modular_by_chance():
    rng = np.random.default_rng(0)
    found = infomec(rng.normal(size=(2_000, 10)), rng.integers(4, size=(2_000, 5)))
    assert found["infom"] == pytest.approx(0.6, abs=0.15)
    assert found["infoe"] < 0.02
    assert "noise has an InfoM of about 0.6" in InfoMEC().protocol(2_000)


def test_continuous_factors_have_a_linear_regression():
    rng = np.random.default_rng(0)
    factors = rng.uniform(size=(1_000, 2))
    found = infomec(factors * [1, -3], factors)
    assert found["infom"] > 0.9
    assert found["infoc"] > 0.9
    assert found["infoe"] == pytest.approx(1)
    assert infomec(factors * [1, -3], factors + 1e10) == pytest.approx(found, abs=0.01)  # wherever they begin
    noise = rng.normal(scale=math.sqrt(1 / 12), size=(1_000, 1))
    halved = infomec(factors[:, :1] + noise, factors[:, :1])
    assert halved["infoe"] == pytest.approx(1 / 2, abs=0.05)  # as much noise as factor


def test_what_cannot_be_scored_is_refused(perfect, constant, factors):
    with pytest.raises(ValueError, match="every unit is constant, and tells nothing of any factor"):
        infomec(constant, factors)
    with pytest.raises(ValueError, match="num_neighbors must be 1 or more, got 0"):
        infomec(perfect, factors, num_neighbors=0)
    with pytest.raises(ValueError, match="10 rows are too few for 10 neighbours"):
        infomec(perfect[:10], factors[:10] * 1.0)
    with pytest.raises(ValueError, match="9 rows are too few for a factor of 5 values: 10 or more are needed"):
        infomec(np.arange(9.0)[:, None], np.arange(9)[:, None] % 5)
    with pytest.raises(ValueError, match="no unit tells anything of any factor"):
        infomec(np.array([[0.0], [1.0], [-1.0], [0.0]]), np.array([[0], [1], [1], [0]]), num_neighbors=1)


def test_a_twentieth_of_the_widest_range_decides_over_a_unit_in_modularity_and_compactness(noisy, factors):
    wide = noisy * [1, 1, 2]  # the widest is not the first
    mixed = noisy.sum(axis=1, keepdims=True)
    mixed = mixed / np.ptp(mixed) * np.ptp(wide, axis=0).max()
    without = infomec(wide, factors)
    out, kept = (infomec(np.hstack((mixed / part, wide)), factors) for part in (25, 15))
    for name in ("infom", "infoc"):
        assert out[name] == pytest.approx(without[name], abs=1e-6)
        assert kept[name] < without[name] - 0.05


def test_all_units_explain_a_factor_however_small(noise):
    factor = np.repeat([0, 1], 500)[:, None]
    wrong = np.arange(1_000) % 10 == 0
    told = (factor[:, 0] ^ wrong)[:, None] * 1e-3  # a thousandth of the noise
    found = infomec(np.hstack((noise, told)), factor)["infoe"]
    lost = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert found == pytest.approx(1 - lost, abs=0.02)
    found = infomec(np.hstack((noise, factor * 1e-3)), factor * 1.0)["infoe"]
    assert found == pytest.approx(1)
