"""What a run without an active unit is told to change."""

from __future__ import annotations

import inspect

import pytest

from bvae import losses
from bvae.app.advice import advice
from bvae.evaluation import LatentUnit
from bvae.losses import Loss

IDLE, ACTIVE = LatentUnit(0, 0.99, 0.0, False), LatentUnit(1, 0.01, 2.0, True)
OBJECTIVES = [kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, Loss)]


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            {"_target_": "bvae.losses.Annealed", "beta_start": 60.0, "beta_end": 12},
            "To open units: lower loss.beta_start, now 60; train for longer, with trainer.max_steps.",
        ),
        (
            {"_target_": "bvae.losses.Capacity", "gamma": 1000, "max_capacity": 25, "anneal_steps": 5},
            "To open units: lower loss.gamma, now 1000; raise loss.max_capacity, now 25; train for longer, with "
            "trainer.max_steps.",
        ),
        ({"_target_": "mine.Loss", "beta": 4}, "To open units: train for longer, with trainer.max_steps."),
        (None, "To open units: train for longer, with trainer.max_steps."),
    ],
)
def test_the_objectives_own_keys_are_named_with_their_values(loss, said):
    assert advice([IDLE, IDLE], loss) == said
    assert advice([IDLE, ACTIVE], loss) == ""


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_opens_units_is_an_argument(kind):
    for name, what in kind.opens_units:
        assert name in inspect.signature(kind).parameters
        assert what in ("lower", "raise")
