"""Units that turn with an angle, known beforehand: which, how often, and how well."""

from __future__ import annotations

import numpy as np
import pytest

from bvae.data.dsprites import FACTORS
from bvae.data.image_set import FactorGrid, Factors
from bvae.evaluation import codes_of, latent_table, turning
from bvae.evaluation.finding import finding

SQUARE, ELLIPSE, HEART = range(3)


def classes_of_dsprites() -> np.ndarray:
    return FACTORS.classes_of(np.random.default_rng(0).integers(737_280, size=10_000))


def found_by(means: np.ndarray, classes: np.ndarray, factors: Factors = FACTORS, noise: float = 0.0):
    means = means + np.random.default_rng(1).normal(scale=noise, size=means.shape)
    codes = codes_of(means, classes, np.full(means.shape, -3.0))
    turns = turning(codes, factors)
    return turns, finding(latent_table(codes, factors), factors, turns)


def test_a_pair_that_counts_from_another_angle_in_each_place_turns_with_the_ellipse():
    classes = classes_of_dsprites()
    start = classes[:, 3] // 8 * 1.3 + classes[:, 4] // 8 * 2.1  # of each of the 16 tiles
    angle = 2 * classes[:, 2] / 39 * 2 * np.pi + start
    radius = np.where(classes[:, 0] == ELLIPSE, 2.4, 0.0)
    means = np.stack((classes[:, 3] / 10 - 1.5, radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    (turn,), line = found_by(means, classes, noise=0.1)
    assert (turn.angle, turn.category, turn.shown) == ("orientation", "shape", ELLIPSE)
    assert (turn.units, turn.turns) == ((1, 2), 2)
    assert turn.explained == pytest.approx(1, abs=0.01)
    assert line == "Found: shape, pos X. In part: rotation (ellipse: units 1 and 2). Not found: scale, pos Y."


def test_the_last_orientation_is_the_first_once_more():
    classes = classes_of_dsprites()
    angle = np.array([4, 2, 1])[classes[:, 0]] * classes[:, 2] / 39 * 2 * np.pi
    turns, line = found_by(np.stack((np.cos(angle), np.sin(angle)), axis=1), classes)
    assert [(turn.shown, turn.turns) for turn in turns] == [(SQUARE, 4), (ELLIPSE, 2), (HEART, 1)]
    assert [turn.explained for turn in turns] == pytest.approx([1, 1, 1])
    assert line.startswith("Found: rotation")


def test_a_pair_that_turns_with_every_shape_finds_the_rotation_whatever_it_is_named():
    classes = classes_of_dsprites()
    start = classes[:, 3] // 8 * 1.3 + classes[:, 4] // 8 * 2.1
    angle = np.array([4, 2, 1])[classes[:, 0]] * classes[:, 2] / 39 * 2 * np.pi + start
    less_kl = (classes[:, 1] - 2.5) / 3
    turns, line = found_by(np.stack((less_kl, np.cos(angle), np.sin(angle)), axis=1), classes, noise=0.1)
    assert [turn.units for turn in turns] == [(1, 2)] * 3
    assert line == "Found: rotation (units 1 and 2), scale. Not found: shape, pos X, pos Y."


@pytest.mark.parametrize(("noise", "explained"), [(0.5, [0.5 / 0.75]), (1.0, [])])
def test_half_of_the_variance_must_follow(noise, explained):
    """A cosine of amplitude 1 has a variance of 1/2, so beside noise of variance n it explains 0.5 / (0.5 + n)."""
    classes = np.random.default_rng(0).integers(24, size=(20_000, 1))
    factors = FactorGrid(("azimuth",), (24,), angles=("azimuth",))
    angle = classes[:, 0] / 24 * 2 * np.pi
    turns, _ = found_by(np.stack((np.cos(angle), np.sin(angle)), axis=1), classes, factors, noise)
    assert [turn.explained for turn in turns] == pytest.approx(explained, abs=0.03)


def test_units_that_tell_of_other_factors_turn_with_nothing():
    classes = classes_of_dsprites()
    turns, line = found_by(classes[:, [0, 1, 3, 4]] / [1, 2, 10, 10] - 1.5, classes, noise=0.1)
    assert turns == []
    assert "Not found: rotation" in line


def test_without_angles_or_a_second_unit_there_is_nothing_to_turn():
    classes = classes_of_dsprites()
    angle = classes[:, 2:3] / 39 * 2 * np.pi
    assert found_by(np.cos(angle), classes)[0] == []
    no_angles = FactorGrid(FACTORS.names, FACTORS.sizes)
    assert found_by(np.hstack((np.cos(angle), np.sin(angle))), classes, no_angles)[0] == []
    codes = codes_of(np.hstack((np.cos(angle), np.sin(angle))), classes, np.zeros((10_000, 2)))
    assert turning(codes, None) == []
    assert found_by(np.hstack((np.cos(angle), np.sin(angle))), classes.astype(float))[0] == []  # continuous factors


def test_of_every_image_of_the_grid_some_are_drawn():
    classes = FACTORS.classes_of(np.arange(737_280))
    angle = classes[:, 2] / 39 * 4 * np.pi
    turns, _ = found_by(np.stack((np.cos(angle), np.sin(angle)), axis=1), classes, noise=0.1)
    assert [turn.explained for turn in turns] == pytest.approx([0.98] * 3, abs=0.01)


def test_an_angle_that_does_not_vary_or_has_two_classes_turns_with_nothing():
    rng = np.random.default_rng(0)
    classes = np.stack((rng.integers(40, size=5_000), np.zeros(5_000, np.int64), rng.integers(2, size=5_000)), axis=1)
    factors = FactorGrid(("x", "turn", "half"), (40, 24, 2), angles=("turn", "half"), closed_angles=("half",))
    assert found_by(np.stack((classes[:, 0] / 10, classes[:, 2] * 2.0), axis=1), classes, factors, noise=0.1)[0] == []
    assert FactorGrid(("turn",), (1,), angles=("turn",), closed_angles=("turn",)).steps_around("turn") == 0


def test_many_classes_are_counted_and_those_with_few_images_left_out():
    rng = np.random.default_rng(0)
    names, sizes = ("object", "azimuth", "x", "y"), (8, 24, 4, 4)
    kinds = {"angles": ("azimuth",), "categories": ("object",)}
    factors = FactorGrid(names, sizes, positions=("x",), **kinds)
    classes = np.stack([rng.integers(size, size=8_000) for size in sizes], axis=1)
    radius = np.where(classes[:, 0] < 5, 2.0, 0.0)
    angle = classes[:, 1] / 24 * 2 * np.pi + classes[:, 2] / 4 * 2 * np.pi
    means = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    turns, line = found_by(means, classes, factors, noise=0.3)
    assert [turn.shown for turn in turns] == [0, 1, 2, 3, 4]
    assert "azimuth (5 of 8 classes of object: units 0 and 1)" in line
    of_sixteen_tiles = FactorGrid(names, sizes, positions=("x", "y"), **kinds)  # with some 60 images of an object each
    assert found_by(means, classes, of_sixteen_tiles, noise=0.3)[0] == []
