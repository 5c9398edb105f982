"""Units that turn with an angle, known beforehand: which, how often, and how well."""

from __future__ import annotations

import numpy as np
import pytest

from bvae.data.dsprites import FACTORS
from bvae.data.image_set import FactorGrid, Factors
from bvae.evaluation import codes_of, latent_table, turning
from bvae.evaluation.finding import finding
from bvae.evaluation.turning import _explained, _pair, _tiles

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
    assert line == "Found: shape, x. In part: rotation (ellipse: units 1 and 2). Not found: scale, y."


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
    assert line == "Found: rotation (units 1 and 2), scale. Not found: shape, x, y."


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


@pytest.mark.parametrize(
    ("classes", "closed", "turns", "told"),
    [
        (5, False, 2, 2),  # 3 turns have the same cosines at 5 angles, and the sines of −2
        (5, False, 3, 2),
        (5, True, 1, 1),  # the last class is the first: 4 angles, at which 2 turns have no sine
        (6, True, 2, 2),
        (9, False, 4, 4),
        (8, False, 3, 3),
        (3, False, 1, 1),
        (2, False, 1, None),
        (12, False, 5, None),
    ],
)
def test_turns_that_few_classes_cant_tell_from_fewer_are_not_reported(classes, closed, turns, told):
    steps = classes - closed
    column = np.arange(400) % classes
    angle = turns * column / steps * 2 * np.pi
    factors = FactorGrid(("turn",), (classes,), angles=("turn",), closed_angles=("turn",) if closed else ())
    found, _ = found_by(np.stack((np.cos(angle), np.sin(angle)), axis=1), column[:, None], factors)
    assert [turn.turns for turn in found] == ([] if told is None else [told])


def test_the_pair_is_of_active_units_the_lower_one_first():
    column = np.arange(400) % 24
    angle = column / 24 * 2 * np.pi
    noise = np.random.default_rng(3).normal(size=400)
    means = np.stack((np.sin(angle), 0.9 * np.sin(angle) + 0.3 * noise, noise, np.cos(angle)), axis=1)
    factors = FactorGrid(("turn",), (24,), angles=("turn",))
    log_variances = np.full(means.shape, -3.0)
    (turn,) = turning(codes_of(means, column[:, None], log_variances), factors)
    assert (turn.units, turn.turns, turn.category, turn.shown, turn.classes) == ((0, 3), 1, "", 0, 1)
    assert turn.explained == pytest.approx(1)
    log_variances[:, 0] = 2.0  # wider than the prior: at work on nothing
    (turn,) = turning(codes_of(means, column[:, None], log_variances), factors)
    assert turn.units == (1, 3)
    # Of what 0.9 s + 0.3 n says of s, of a variance of a half: 0.81 / (0.81 + 2 · 0.09); the cosine is known.
    assert turn.explained == pytest.approx((1 + 0.81 / 0.99) / 2, abs=0.03)


def test_every_other_image_is_fitted_to_and_the_rest_judge():
    inputs = np.array([[0.0, 1], [5, 1], [1, 1], [7, 1]])
    target = np.array([[0.0], [9], [2], [15]])
    # The first and the third say 2 x, so 10 and 14, beside 9 and 15, whose squares about their mean are 9 each.
    assert _explained(inputs, target) == pytest.approx(1 - 2 / 18)
    assert _explained(inputs, np.full((4, 1), 3.0)) == 0  # what doesn't vary isn't explained


def test_a_pair_explains_what_it_does_in_the_median_tile():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, size=600)
    means = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    tiles = np.split(np.arange(600), 3)
    means[tiles[1]] = rng.normal(size=(200, 2))
    explained, units = _pair(means, np.array([0, 1]), angle, tiles)
    assert (explained, units) == (pytest.approx(1), (0, 1))
    means[tiles[0]] = rng.normal(size=(200, 2))
    assert _pair(means, np.array([0, 1]), angle, tiles)[0] < 0.2


def test_a_tile_is_a_sixteenth_of_the_places_with_a_hundred_images():
    factors = FactorGrid(("x", "y", "v"), (8, 6, 2), positions=("x", "y"))
    xy = np.array([(0, 0), (1, 1), (2, 0), (7, 5), (0, 2)])
    counts = [60, 60, 100, 100, 99]
    classes = np.repeat(np.column_stack((xy, [0] * 5)), counts, axis=0)
    found = _tiles(classes, factors, np.ones(len(classes), bool))
    # x = 0 and 1 are a quarter of 8, y = 0 and 1 a quarter of 6, rounded down; y = 2 is the next one.
    assert [place.tolist() for place in found] == [list(range(120)), list(range(120, 220)), list(range(220, 320))]
    chosen = np.arange(len(classes)) >= 120
    assert [place[0] for place in _tiles(classes, factors, chosen)] == [120, 220]
    assert [len(place) for place in _tiles(classes, FactorGrid(("x", "y", "v"), (8, 6, 2)), chosen)] == [299]
