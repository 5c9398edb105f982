"""What a run that has learned too little, too much or the images by heart is told to change."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from bvae import losses
from bvae.app.advice import advice
from bvae.evaluation import Evaluation, LatentUnit
from bvae.evaluation.errors import Errors
from bvae.losses import Loss
from bvae.metrics import Codes

IDLE, ACTIVE = LatentUnit(0, 0.99, 0.0, False), LatentUnit(1, 0.01, 2.0, True)
NAMED = LatentUnit(2, 0.01, 2.0, True, name="x")
OBJECTIVES = [kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, Loss)]
ANNEALED = {"_target_": "bvae.losses.Annealed", "beta_start": 60.0, "beta_end": 12}
CAPACITY = {"_target_": "bvae.losses.Capacity", "gamma": 1000, "max_capacity": 25, "anneal_steps": 5}


def found(*table: LatentUnit, mean: float = 0.0, errors: Errors | None = None, means_only: bool = False) -> Evaluation:
    """Codes that are all the same, whose one unit has this mean and a variance of 1."""
    log_variance = None if means_only else torch.zeros(4, 1)
    codes = Codes(torch.full((4, 1), mean), log_variance, torch.empty(4, 0))
    return Evaluation(codes, None, list(table), (), errors=errors)


@pytest.mark.parametrize(
    ("loss", "lower", "more"),
    [
        (ANNEALED, "lower loss.beta_start, now 60; ", "raise loss.beta_start, now 60; "),
        (
            CAPACITY,
            "lower loss.gamma, now 1000; raise loss.max_capacity, now 25; ",
            "raise loss.gamma, now 1000; lower loss.max_capacity, now 25; ",
        ),
        ({"_target_": "mine.Loss", "beta": 4}, "", ""),
        (None, "", ""),
    ],
)
def test_the_objectives_own_keys_are_named_with_their_values(loss, lower, more):
    assert advice(found(IDLE, IDLE), loss) == [f"To open units: {lower}train for longer, with trainer.max_steps."]
    [said] = advice(found(ACTIVE, NAMED), loss)
    assert said == (
        f"All 2 units are active, which mixes factors. To close some: {more}or give the model more units, with "
        "model.latent_dim."
    )
    assert advice(found(IDLE, ACTIVE), loss) == advice(found(NAMED, NAMED), loss) == []


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_opens_units_is_an_argument(kind):
    for name, what in kind.opens_units:
        assert name in inspect.signature(kind).parameters
        assert what in ("lower", "raise")


def test_an_offset_is_explained_from_half_a_nat_on():
    assert advice(found(IDLE, ACTIVE, mean=0.99), None) == []  # a mean of m costs m²/2 nats
    [said] = advice(found(IDLE, ACTIVE, mean=1.1), None)
    assert said.startswith("0.6 nats of the KL are an offset")
    assert "trainer.max_steps" in said
    assert advice(found(IDLE, ACTIVE, mean=9.0, means_only=True), None) == []


@pytest.mark.parametrize(
    ("trained", "held_out", "picture", "times"),
    [
        (0.002, 0.006, 0.01, "3.0"),
        (0.002, 0.0039, 0.01, ""),  # less than twice
        (0.0001, 0.0005, 0.01, ""),  # both are next to nothing beside the mean picture
        (0.0001, 0.0007, 0.01, "7.0"),
        (0.002, math.nan, 0.01, ""),
    ],
)
def test_images_that_are_memorised_are_told(trained, held_out, picture, times):
    said = advice(found(IDLE, ACTIVE, errors=Errors(trained, held_out, picture)), None)
    assert [f"{times} times the error" in line for line in said] == [True] * bool(times)
    assert all("trainer.max_steps" in line for line in said)
    assert all("data.size=32" in line for line in said)
