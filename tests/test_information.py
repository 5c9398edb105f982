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
        {"information": lambda step: 0.0, "kl": lambda step: 5.0},  # nats that don't rise
        {"information": lambda step: 0.0, "kl": lambda step: 5.0 + 0.09 * (step > 2_000)},  # nor by a tenth of a nat
        {"information": lambda step: 0.5, "kl": lambda step: 5.0 * (1 - 1e-9 * (step == 50))},  # a tenth of it
        {"kl": lambda step: 0.1, "capacity": lambda step: 0.0},  # a tenth of a nat
        {"kl": lambda step: 0.0, "capacity": lambda step: 0.2},  # which is to be larger
        {"kl": lambda step: 0.01 if step % 2_500 else 0.2},  # it opens now and then
        {"kl": lambda step: 0.5, "reconstruction": lambda step: 100.0 if step < 3_000 else 99.0},  # by a hundredth
        {"kl": lambda step: 0.5 if step < 3_000 else 1.0, "reconstruction": lambda step: 100.0},
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
            {"information": lambda step: 0.0, "kl": lambda step: 5.0 + 0.11 * (step > 2_000)},
            r"at step 3,050 the latent code carries 0.00 of 5.11 nats and has told nothing of the images for 3,000 ",
        ),
        (
            {"kl": lambda step: 0.5, "reconstruction": lambda step: 100.0 if step < 3_000 else 99.01},
            r"at step 3,050 the reconstruction is 99.0 nats, as it was at step 50",
        ),
        (
            {"kl": lambda step: 0.2 if step == 1_000 else 0.09},  # from step 1,050 on
            r"at step 4,050 the KL is 0.09 nats and has been near 0 for 3,000 steps",
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


def test_all_that_is_known_is_kept_in_a_checkpoint(caplog):
    """Each rule's own beginning, and that it was said."""
    for terms in (
        {"kl": lambda step: 0.01},
        {"kl": lambda step: 0.5, "reconstruction": lambda step: 100.0},
        {"information": lambda step: 0.0, "kl": lambda step: step / 4_000},
    ):
        once = InformationCheck(3_000)
        found = remarks(caplog, terms, once, range(50, 2_001, 50))
        for first in range(2_050, 9_000, 1_000):
            state, once = once.state_dict(), InformationCheck(3_000)
            once.load_state_dict(state)
            found += remarks(caplog, terms, once, range(first, first + 1_000, 50))
        assert found == remarks(caplog, terms, steps=range(50, 9_001, 50))
        assert len(found) == 1


def test_between_two_logging_steps_and_beside_the_first_process_nothing_is_said(caplog):
    terms = {"kl": lambda step: 0.01 if step % 50 == 0 else 9.0}
    assert len(remarks(caplog, terms, steps=range(1, 3_060))) == 1  # what is logged changes at those alone
    caplog.clear()
    check = InformationCheck(100)
    trainer = SimpleNamespace(log_every_n_steps=50, is_global_zero=False, logged_metrics={"train/kl": 0.0})
    for trainer.global_step in range(50, 1_000, 50):
        check.on_train_batch_end(trainer, None, None, None, 0)
    assert (caplog.records, check._said) == ([], True)
