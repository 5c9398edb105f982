"""How many steps a training may take before the trainer or a callback does anything, and what such a step is."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, LightningModule

from bvae.bursts import detached, every_n_steps, is_finite, scales_gradients, steps_until_due, with_gradients
from bvae.training import Training

HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad")
HOOKS += ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def looking(base: type, hook: str, **attributes):
    """A callback or a module that has one of the trainer's hooks."""
    return type("Looking", (base,), {hook: lambda self, *arguments: None, **attributes})()


def trainer(**attributes) -> SimpleNamespace:
    """A trainer that has taken seven steps, and whose next logging step is the fiftieth."""
    batch, total = attributes.pop("batch", 7), attributes.pop("total", 7)
    usual = {
        **{"global_step": 7, "log_every_n_steps": 50, "max_steps": -1, "num_training_batches": 1000},
        **{"accumulate_grad_batches": 1, "world_size": 1, "gradient_clip_val": None, "fast_dev_run": False},
        **{"callbacks": [], "lightning_module": LightningModule(), "precision_plugin": SimpleNamespace()},
        **{"enable_validation": False, "check_val_every_n_epoch": 1, "val_check_batch": 10},
    }
    loop = SimpleNamespace(batch_idx=batch, total_batch_idx=total)
    return SimpleNamespace(fit_loop=loop, **usual | attributes)


VALIDATING = {"enable_validation": True, "val_check_batch": 10}


@pytest.mark.parametrize(
    ("attributes", "steps"),
    [
        ({}, 43),
        ({"global_step": 49}, 1),
        ({"global_step": 50}, 50),
        ({"log_every_n_steps": 0}, 1000 - 7),  # the epoch's last batch
        ({"num_training_batches": 20, "global_step": 107}, 13),
        ({"num_training_batches": 8}, 1),
        ({"max_steps": 38}, 31),
        ({"max_steps": 8}, 1),
        ({**VALIDATING, "total": 108}, 3),  # after the epoch's tenth batch
        ({**VALIDATING, "check_val_every_n_epoch": None, "total": 108}, 2),  # after the training's 110th
        ({"val_check_batch": 10}, 43),  # there is no validation
        ({"callbacks": [looking(Callback, "on_train_batch_end", every_n_steps=10)]}, 3),
        ({"callbacks": [Callback(), looking(Callback, "on_train_batch_end", every_n_steps=None)]}, 43),
        ({"callbacks": [looking(Callback, "on_train_end")]}, 43),
        ({"lightning_module": looking(LightningModule, "on_train_batch_start", every_n_steps=9)}, 2),
        ({"lightning_module": looking(LightningModule, "on_train_epoch_end")}, 43),
        # Where a step is more than what is done in the trainer's place, each is the trainer's.
        ({"accumulate_grad_batches": 2}, 1),
        ({"world_size": 2}, 1),
        ({"gradient_clip_val": 0.5}, 1),
        ({"gradient_clip_val": 0.0}, 43),
        ({"precision_plugin": SimpleNamespace(scaler=object())}, 1),
        ({"precision_plugin": SimpleNamespace(scaler=None)}, 43),
        ({"fast_dev_run": True}, 1),
        ({"_val_check_time_interval": 60.0}, 1),
        ({"_val_check_time_interval": None}, 43),
        ({"num_training_batches": math.inf}, 1),
    ],
)
def test_the_next_due_step_is_the_first_of_all_that_anything_waits_for(attributes, steps):
    assert steps_until_due(trainer(**attributes)) == steps


@pytest.mark.parametrize("hook", HOOKS)
def test_each_of_the_hooks_for_steps_is_called_at_each_step(hook):
    for base, key in ((Callback, "callbacks"), (LightningModule, "lightning_module")):
        part = looking(base, hook)
        assert every_n_steps(part) == 1
        assert steps_until_due(trainer(**{key: [part] if base is Callback else part})) == 1


def test_a_training_looks_at_no_step():
    assert every_n_steps(Training(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())) is None


def test_a_gradient_is_scaled_where_the_precision_has_a_scaler():
    for plugin, expected in (({}, False), ({"scaler": None}, False), ({"scaler": object()}, True)):
        assert scales_gradients(SimpleNamespace(precision_plugin=SimpleNamespace(**plugin))) is expected


def test_plain_terms_have_no_graph_and_a_loss_can_be_given_any_gradients():
    weights = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    terms = {"loss": 3 * weights[0].sum(), "kl": weights[0].sum(), "gamma": 7.0}
    plain = detached(terms)
    assert plain == {"loss": 6.0, "kl": 2.0, "gamma": 7.0}
    assert not any(getattr(value, "requires_grad", False) for value in plain.values())
    given = with_gradients(plain, [torch.tensor([1.0, -2.0]), None], weights)
    assert (float(given["loss"].detach()), given["kl"], given["gamma"]) == (6.0, plain["kl"], 7.0)
    (0.5 * given["loss"]).backward()
    assert weights[0].grad.tolist() == [0.5, -1.0]
    assert weights[1].grad is None
    plain["loss"].fill_(9.0)  # a replay writes there; the loss that was given stays
    assert given["loss"] == 6.0


def test_a_loss_on_a_cpu_is_looked_at_and_one_on_a_gpu_is_not_waited_for():
    assert is_finite({"loss": torch.tensor(1.0)})
    assert not is_finite({"loss": torch.tensor(math.nan)})
    assert not is_finite({"loss": torch.tensor(math.inf)})
    assert is_finite({"loss": torch.empty((), device="meta")})  # whose value can't be read
