"""Angles that two units tell together, as a sine and a cosine that may count from another angle in each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvae.data.image_set import Factors
from bvae.evaluation.latent_table import category_of
from bvae.metrics import Codes
from bvae.metrics.arrays import is_continuous

_TURNS = (1, 2, 3, 4)  # in which an outline repeats itself: 2 for an ellipse, 4 for a square
_TILES = 4  # a side of the image, within which the angle that is counted from is taken as the same
_SAMPLE = 20_000  # images, of more than which some are drawn
_IMAGES = 100  # of a tile at least, half of them to fit and half to judge
_CONSTANT = 1e-9  # the variance of a cosine and sine that don't vary
_TOLD = 0.5  # of the variance, from which on units turn with the angle


@dataclass(frozen=True)
class Turn:
    """Two units that turn with an angle, over the images of one class of the category."""

    angle: str  # the factor
    category: str  # the factor whose class is given; empty where there is none
    shown: int  # the class
    classes: int  # how many the category has
    units: tuple[int, int]  # the lower one first
    turns: int  # how often the pair goes round in a whole turn
    explained: float  # the share of variance of the cosine and sine that the pair explains, the median over the tiles


def turning(codes: Codes, factors: Factors | None) -> list[Turn]:
    """Find the pairs of active units that turn with an angle, for each class of the first category.

    A pair turns where least squares from its means explains half or more of the variance of the cosine and sine of
    1, 2, 3 or 4 times the angle. They are fitted to every other image and judged by the rest, within each tile of
    4×4 positions, where the factors have positions. Classes with fewer than 100 images in every tile are left out, and
    so are factors that are no classes but continuous. Of more than 20,000 images as many are drawn.
    """
    means, classes, active = codes.mean.numpy(), codes.factors.numpy(), np.flatnonzero(codes.active().numpy())
    if len(means) > _SAMPLE:
        drawn = np.random.default_rng(0).choice(len(means), _SAMPLE, replace=False)
        means, classes = means[drawn], classes[drawn]
    if factors is None or len(active) < 2 or is_continuous(classes):
        return []
    category = category_of(factors, classes)
    column = classes[:, factors.names.index(category)] if category else np.zeros(len(classes))
    present = np.unique(column).astype(int).tolist()
    found = []
    for angle in factors.angles:
        steps = factors.steps_around(angle)
        around = 2 * np.pi * classes[:, factors.names.index(angle)] / max(steps, 1)
        told = [times for times in _TURNS if 2 * times < steps]  # more can't be told from fewer by so few classes
        for shown in present:
            tiles = _tiles(classes, factors, column == shown)
            pairs = [(*_pair(means, active, times * around, tiles), times) for times in told if tiles]
            explained, units, times = max(pairs, default=(0.0, (0, 0), 0))
            if explained >= _TOLD:
                found.append(Turn(angle, category, shown, len(present), units, times, explained))
    return found


def _tiles(classes: np.ndarray, factors: Factors, chosen: np.ndarray) -> list[np.ndarray]:
    """List the images, by their places, of each tile that has enough of the chosen ones."""
    tile = np.zeros(len(classes), np.int64)
    for name in factors.positions:
        k = factors.names.index(name)
        tile = tile * _TILES + classes[:, k] * _TILES // factors.sizes[k]
    places = (np.flatnonzero(chosen & (tile == number)) for number in np.unique(tile))
    return [place for place in places if len(place) >= _IMAGES]


def _pair(
    means: np.ndarray, active: np.ndarray, angle: np.ndarray, tiles: Sequence[np.ndarray]
) -> tuple[float, tuple[int, int]]:
    """Find the unit that tells most of the angle, and the one that adds most to it."""
    target = np.stack((np.cos(angle), np.sin(angle)), axis=1)

    def explained(*units: int) -> float:
        inputs = np.column_stack((means[:, units], np.ones(len(means)))).astype(np.float64)
        return float(np.median([_explained(inputs[tile], target[tile]) for tile in tiles]))

    first = max(active.tolist(), key=explained)
    second = max((unit for unit in active.tolist() if unit != first), key=lambda unit: explained(first, unit))
    return explained(first, second), (min(first, second), max(first, second))


def _explained(inputs: np.ndarray, target: np.ndarray) -> float:
    """The share of the target's variance that least squares from the inputs explains, on the images not fitted to."""
    fit = np.linalg.lstsq(inputs[::2], target[::2], rcond=None)[0]
    judged = target[1::2]
    whole = ((judged - judged.mean(axis=0)) ** 2).sum()
    is_constant = whole < _CONSTANT * len(judged)
    return 0.0 if is_constant else 1 - float(((judged - inputs[1::2] @ fit) ** 2).sum() / whole)
