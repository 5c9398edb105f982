"""What holds for any input: the render's, the scores' and the objectives'."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bvae import metrics
from bvae.data import render
from bvae.data.dsprites.render import FACTOR_SIZES
from bvae.losses import Annealed, Beta, Capacity, Context, FreeBits, Gaussian, Posterior, Sample
from bvae.losses.schedules import piecewise

indices = st.tuples(*(st.integers(0, size - 1) for size in FACTOR_SIZES))
numbers = st.one_of(st.integers(-5, 10**6), st.floats(), st.booleans(), st.none(), st.text(max_size=3))


@given(indices)
def test_every_sprite_is_whole_and_moves_with_its_position(classes):
    shape, scale, orientation, x, y = classes
    (image,) = render(*classes)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) == {0, 1}
    assert not image[[0, -1]].any()  # nowhere cut off
    assert not image[:, [0, -1]].any()
    (mirrored,) = render(shape, scale, orientation, 31 - x, y)
    assert abs(int(mirrored.sum()) - int(image.sum())) <= 0.1 * image.sum() + 8


@given(indices, st.integers(0, 4), st.one_of(st.integers(-9, -1), st.integers(41, 99), st.floats(0, 1), st.text()))
def test_an_index_out_of_range_is_refused(classes, place, wrong):
    classes = list(classes)
    classes[place] = wrong
    with pytest.raises((ValueError, TypeError), match="must"):
        render(*classes)


@st.composite
def tables(draw) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, d, k = draw(st.integers(140, 200)), draw(st.integers(2, 6)), draw(st.integers(2, 4))
    factors = rng.integers(0, draw(st.integers(2, 12)), size=(n, k)) + draw(st.integers(-50, 50))
    factors[0], factors[1] = factors.min() - 1, factors.max() + 1  # each takes two values at least
    codes = rng.normal(size=(n, d)) * 10.0 ** draw(st.integers(-6, 6))
    codes[:, 0] = factors[:, 0] if draw(st.booleans()) else 3.0
    return codes, factors


SCORES = (
    metrics.mutual_information_gap,
    metrics.modularity,
    metrics.interventional_robustness,
)


@given(tables())
@settings(deadline=None, max_examples=30)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_units_order(table):
    codes, factors = table
    for score in SCORES:
        value = score(codes, factors)
        assert -1e-9 <= value <= 1 + 1e-9, score
        assert score(codes[:, ::-1], factors) == pytest.approx(value, abs=1e-6), score
    assert metrics.total_correlation(codes) >= 0
    assert metrics.wasserstein_correlation(codes) >= 0
    assert 0 <= metrics.active_units(codes) <= codes.shape[1]


@given(st.sampled_from([Beta, Capacity, Annealed, Gaussian, FreeBits]), st.data())
@settings(deadline=None)
def test_an_objective_takes_a_number_or_says_why_not(objective, data):
    """Whatever is typed for one of its settings: the loss is then finite, or the sentence names the setting."""
    code = objective.__init__.__code__
    name = data.draw(st.sampled_from([n for n in code.co_varnames[1 : code.co_argcount] if n != "likelihood"]))
    value = data.draw(st.lists(st.tuples(numbers, numbers), max_size=3) if objective is FreeBits else numbers)
    try:
        made = objective(**{name: value})
    except (ValueError, TypeError) as error:
        if name not in str(error):
            raise
        return
    loss = made if objective is not Gaussian else Beta(likelihood=made)
    images = torch.zeros(2, 1, 8, 8)
    sample = Sample(images, images, Posterior(torch.ones(2, 3), torch.zeros(2, 3)), torch.ones(2, 3))
    terms = loss(sample, Context(torch.tensor(7), dataset_size=2))
    assert not terms["loss"].isnan()


@pytest.mark.parametrize("steps", [2**63, 2**64, 1.8446744073709552e19, 1e30])
def test_more_steps_than_a_tensor_holds_are_refused(steps):
    with pytest.raises(ValueError, match="anneal_steps must be 9223372036854775807 or less"):
        Capacity(anneal_steps=steps)


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1000)), min_size=1), st.integers(0, 2000))
@example([(0, 5e-324), (2, 1.0)], 1)  # their ratio is no number of double precision
def test_a_schedule_stays_within_its_points(points, step):
    points = sorted(points, key=lambda point: point[0])
    value = float(piecewise(torch.tensor(step), points))
    low, high = min(v for _, v in points), max(v for _, v in points)
    assert low * (1 - 1e-5) - 1e-30 <= value <= high * (1 + 1e-5) + 1e-30  # of single precision
    assert math.isfinite(value)
