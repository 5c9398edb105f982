from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest

from bvae.callbacks import InformationCheck


def remarks(caplog, terms, check=None, steps=range(50, 10_001, 50)) -> list[str]:
    """What the check says of a training whose terms are functions of the step."""
    caplog.clear()
    check = check or InformationCheck(patience=3_000)
    trainer = SimpleNamespace(log_every_n_steps=50, is_global_zero=True, global_step=0, logged_metrics={})
    with caplog.at_level(logging.WARNING):
        for step in steps:
            trainer.global_step = step
            trainer.logged_metrics = {f"train/{name}": term(step) for name, term in terms.items()}
            check.on_train_batch_end(trainer, None, None, None, step)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("rising", ["kl", "capacity"])
def test_a_code_that_tells_nothing_while_the_nats_rise_is_named_once(caplog, rising):
    still = "capacity" if rising == "kl" else "kl"
    terms = {"information": lambda step: 0.014, rising: lambda step: step / 4_000, still: lambda step: 0.0}
    (said,) = remarks(caplog, terms)
    # From step 600 on, the information is under a tenth of the nats.
    assert (
        "at step 3,600 the latent code carries 0.01 of 0.90 nats and has told nothing of the images for 3,000" in said
    )


@pytest.mark.parametrize(
    "terms",
    [
        {"information": lambda step: step / 4_000, "kl": lambda step: step / 4_000},  # it learns
        {"kl": lambda step: 0.02 if step < 2_000 else 0.2, "reconstruction": lambda step: 900 - step / 200},
        {"kl": lambda step: 25.0, "reconstruction": lambda step: 90.0},  # init_from=…, a trained model
        {"kl": lambda step: 0.5, "reconstruction": lambda step: -300 - 10 * (step == 3_000)},  # improved once
        {"information": lambda step: 1.0 if step % 2_500 == 0 else 0.0, "kl": lambda step: step / 4_000},
        {"loss": lambda step: 1.0},  # an objective without the KL's parts
    ],
)
def test_nothing_is_said_of_others(caplog, terms):
    assert remarks(caplog, terms) == []


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (
            {"information": lambda step: 0.02, "kl": lambda step: 0.02, "reconstruction": lambda step: 9e5 / step},
            "at step 3,050 the KL is 0.02 nats and has been near 0 for 3,000 steps: .* a smaller weight of the KL",
        ),
        (
            {"kl": lambda step: 0.3, "reconstruction": lambda step: 2_840 - step / 1_000},
            r"at step 3,050 the reconstruction is 2,83\d\.\d nats, as it was at step 50: .*larger optimizer.lr",
        ),
    ],
)
def test_a_kl_near_0_and_a_reconstruction_that_stays_are_named_once(caplog, terms, expected):
    (said,) = remarks(caplog, terms)
    assert re.match(expected, said), said


def test_a_resumed_run_goes_on_counting(caplog):
    terms = {"information": lambda step: 0.0, "kl": lambda step: step / 4_000}
    before, after = InformationCheck(3_000), InformationCheck(3_000)
    assert remarks(caplog, terms, before, range(50, 2_001, 50)) == []
    after.load_state_dict(before.state_dict())
    assert len(remarks(caplog, terms, after, range(2_050, 5_001, 50))) == 1
