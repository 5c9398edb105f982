"""What the parts are made with unless they are told otherwise, and the least that each setting takes."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from torch import nn
from torch.optim import Adam

from bvae.architectures import ConvDecoder, ConvEncoder, LocatelloDecoder, LocatelloEncoder, MLPDecoder, MLPEncoder
from bvae.callbacks import InformationCheck, LatentPictures, WakeIdleUnits
from bvae.losses import (
    DIP1,
    DIP2,
    ELBO,
    Annealed,
    Bernoulli,
    Beta,
    BetaTC,
    Capacity,
    Control,
    Factor,
    FreeBits,
    Gaussian,
    LearnedGaussian,
    Paced,
)
from bvae.optimizers import Muon, orthogonalized
from bvae.training import Training

DEFAULTS = {
    ELBO: {},
    Beta: {"beta": 4},  # of Higgins et al. for dSprites
    Annealed: {"beta_start": 60, "beta_end": 12, "anneal_steps": 11_000, "hold_steps": 1_000},
    BetaTC: {"alpha": 1, "beta": 6, "gamma": 1, "stratified": False},  # of Chen et al. for dSprites
    # of Burgess et al. for dSprites
    Capacity: {"gamma": 1000, "max_capacity": 25, "anneal_steps": 100_000, "charge_offset": True},
    # K_p, K_i and the bounds are those of Shao et al. for dSprites
    Control: {
        **{"target_start": 0.5, "target_end": 18, "anneal_steps": 100_000, "k_p": 0.01, "k_i": 0.001},
        **{"beta_min": 1, "beta_max": 100},
    },
    DIP1: {"off_diagonal": 10, "diagonal_ratio": 10},  # the ratios are those of Locatello et al.
    DIP2: {"off_diagonal": 10, "diagonal_ratio": 1},
    # of Kim & Mnih for dSprites
    Factor: {
        **{"gamma": 35, "latent_dim": 10, "discriminator_width": 1000, "discriminator_depth": 6},
        **{"discriminator_lr": 1e-4},
    },
    FreeBits: {"beta": ((0, 1),), "free_nats": ((0, 0.1),), "concavity": ((0, 0),)},
    Paced: {
        **{"target_start": 0.3, "target_end": 12, "anneal_steps": 10_000},
        **{"share_max": 0.1, "share_min": 0.01, "rate": 2e-4},
    },
}
NETWORK = {"latent_dim": 10, "activation": None, "image_shape": (1, 64, 64)}
OTHERS = {
    Gaussian: {"variance": 0.1, "bounded": True},
    LearnedGaussian: {"variance": 0.1},
    **dict.fromkeys((ConvEncoder, LocatelloEncoder, MLPEncoder, MLPDecoder), NETWORK),
    **{part: NETWORK | {"fast": True} for part in (ConvDecoder, LocatelloDecoder)},
    Muon: {
        **{"lr": 2e-3, "momentum": 0.95, "iterations": 5, "betas": (0.9, 0.999), "eps": 1e-8},
        **{"first_step": 0, "adam_lr": 1},
    },
    orthogonalized: {"iterations": 5},
    InformationCheck: {"patience": 3_000},
    LatentPictures: {"every_n_steps": 5_000, "metrics": None},
    WakeIdleUnits: {"units": 2, "beta": ((0, 1),), "free_nats": ((0, 0),)},
}


def defaults_of(made) -> dict:
    return {name: p.default for name, p in signature(made).parameters.items() if p.default is not p.empty}


@pytest.mark.parametrize("loss", DEFAULTS, ids=lambda loss: loss.__name__)
def test_an_objective_has_the_papers_settings_and_keeps_those_that_it_is_given(loss):
    assert defaults_of(loss) == DEFAULTS[loss] | {"likelihood": None}
    made = loss()
    for name, value in DEFAULTS[loss].items():
        given = [[3, 0.25]] if isinstance(value, tuple) else not value if isinstance(value, bool) else value / 2 or 3
        given = int(given) if isinstance(value, int) and name.endswith(("steps", "dim", "width", "depth")) else given
        assert getattr(made, name) == ([*map(list, value)] if isinstance(value, tuple) else value)
        assert getattr(loss(**{name: given}), name) == given
    assert isinstance(made.likelihood, Bernoulli)
    assert loss(likelihood=Gaussian(0.5)).likelihood.variance == 0.5


@pytest.mark.parametrize("part", OTHERS, ids=lambda part: part.__name__)
def test_other_parts_have_the_documented_settings(part):
    assert defaults_of(part) == OTHERS[part]


def test_a_training_takes_adams_steps_of_5e_4_and_keeps_its_rate():
    configured = Training(nn.Linear(2, 2), nn.Linear(2, 2), ELBO()).configure_optimizers()
    assert set(configured) == {"optimizer"}
    (group,) = configured["optimizer"].param_groups
    assert isinstance(configured["optimizer"], Adam)
    assert (group["lr"], group["betas"], group["weight_decay"], group["fused"]) == (5e-4, (0.9, 0.999), 0, True)
    assert len(group["params"]) == 4


@pytest.mark.parametrize(
    ("make", "name", "least"),
    [
        *((loss, "anneal_steps", 1) for loss in (Annealed, Capacity, Control, Paced)),
        (Annealed, "hold_steps", 0),
        *((Factor, name, 1) for name in ("latent_dim", "discriminator_width", "discriminator_depth")),
        (InformationCheck, "patience", 1),
        (lambda **given: LatentPictures(".", **given), "every_n_steps", 1),
        (lambda **given: WakeIdleUnits(2, 5, **given), "units", 1),
        (lambda **given: WakeIdleUnits(last_step=5, **given), "first_step", 0),
        (lambda **given: WakeIdleUnits(2, **given), "last_step", 2),
        (lambda **given: Muon([nn.Parameter(torch.ones(1))], **given), "iterations", 1),
        (lambda **given: Muon([nn.Parameter(torch.ones(1))], **given), "first_step", 0),
        *((ConvEncoder, name, 1) for name in ("latent_dim",)),
    ],
)
def test_whole_numbers_have_a_least(make, name, least):
    make(**{name: least})
    with pytest.raises(ValueError, match=f"{name} must be .*{least} or more, got {least - 1}"):
        make(**{name: least - 1})


@pytest.mark.parametrize(
    ("make", "names", "takes_zero"),
    [
        (Beta, ("beta",), True),
        (Annealed, ("beta_start", "beta_end"), False),
        (BetaTC, ("alpha", "beta", "gamma"), True),
        (Capacity, ("gamma", "max_capacity"), True),
        (Control, ("target_start", "target_end", "k_p", "k_i", "beta_min"), True),
        (lambda **given: Control(beta_min=0, **given), ("beta_max",), True),
        (Paced, ("target_start", "target_end"), True),
        (Paced, ("rate",), False),
        (lambda **given: Paced(share_min=1e-12, **given), ("share_max",), False),
        (lambda **given: Paced(share_max=9, **given), ("share_min",), False),
        (DIP1, ("off_diagonal", "diagonal_ratio"), True),
        (DIP2, ("off_diagonal", "diagonal_ratio"), True),
        (Factor, ("gamma",), True),
        (Factor, ("discriminator_lr",), False),
        (Gaussian, ("variance",), False),
        (LearnedGaussian, ("variance",), False),
        (lambda **given: Muon([nn.Parameter(torch.ones(1))], **given), ("lr", "adam_lr", "momentum"), True),
        (lambda **given: Muon([nn.Parameter(torch.ones(1))], **given), ("eps",), False),
    ],
)
def test_numbers_are_not_negative_or_positive(make, names, takes_zero):
    for name in names:
        for value in (-1e-9,) if takes_zero else (-1e-9, 0):
            with pytest.raises(ValueError, match=f"{name} must (not be negative|be )"):
                make(**{name: value})
        make(**{name: 0 if takes_zero else 1e-9})


def test_switches_are_true_or_false():
    for make, name in ((BetaTC, "stratified"), (Capacity, "charge_offset"), (Gaussian, "bounded")):
        with pytest.raises(TypeError, match=f"{name} must be true or false, got 1"):
            make(**{name: 1})
    for decoder in (ConvDecoder, LocatelloDecoder):
        with pytest.raises((TypeError, ValueError), match="fast must be true or false, got 1"):
            decoder(fast=1)
