"""Callbacks that watch a term, average the weights, or end a training early."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, Timer
from torch.optim import Adam
from trainings import fit, parts

from bvae.app.callbacks import check_monitors, checked, let_go_on, with_own
from bvae.app.train import ended_early
from bvae.callbacks import LastCheckpoint, Monitors, NotLogged, WakeIdleUnits
from bvae.checkpoints.files import newest
from bvae.losses import ELBO
from bvae.runs.job import recorded
from bvae.training import Training


class Rising(ELBO):
    """An objective that gets worse with each step."""

    def forward(self, sample, context):
        terms = super().forward(sample, context)
        return terms | {"loss": terms["loss"] * 0 + context.step + 1.0}


def training(loss=None) -> Training:
    return Training(*parts(), loss or Rising(), partial(Adam, lr=0.1))


def run(steps: int, *callbacks, loss=None, folder=None, **arguments):
    own = with_own(callbacks, folder or "checkpoints")
    own = [callback for callback in own if folder is not None or not isinstance(callback, LastCheckpoint)]
    usual = {"callbacks": own, "enable_checkpointing": True, "log_every_n_steps": 2, "max_epochs": -1}
    return fit(training(loss), steps, **usual | {"check_val_every_n_epoch": None, "val_check_interval": 50} | arguments)


def test_early_stopping_by_a_term_of_the_training_stops_it():
    stopping = EarlyStopping("train/loss", patience=2)
    trainer = run(20, stopping)
    assert trainer.global_step == 6  # best at step 2, worse at 4 and 6


def test_the_best_checkpoints_by_a_term_of_the_training_are_saved(tmp_path):
    best = ModelCheckpoint(tmp_path, "{step}", monitor="train/loss", save_top_k=2)
    run(9, best)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step=2.ckpt", "step=4.ckpt"]


def test_a_term_that_is_not_logged_is_refused_with_those_that_are():
    with pytest.raises(
        NotLogged, match=r"^EarlyStopping monitors train/lss, which isn't logged: choose one of .*train/kl"
    ):
        run(9, EarlyStopping("train/lss"))


def test_a_validation_that_never_comes_is_not_watched():
    callbacks = {"stop": EarlyStopping("val/loss"), "rate": LearningRateMonitor()}
    check_monitors(callbacks, SimpleNamespace(held_out=5))
    check_monitors(callbacks, SimpleNamespace())  # a data module of one's own
    check_monitors({"stop": EarlyStopping("train/loss")}, SimpleNamespace(held_out=0))
    message = (
        r"^callbacks\.stop\.monitor=val/loss is never logged, as no images are held out: use data\.val_fraction=0\.1, "
        "or monitor train/loss$"
    )
    with pytest.raises(ValueError, match=message):
        check_monitors(callbacks, SimpleNamespace(held_out=0))


def test_a_runs_callbacks_are_its_own_and_ours_in_order(tmp_path):
    averaging, watching, saving = EMAWeightAveraging(), EarlyStopping("train/kl"), ModelCheckpoint()
    found = with_own([averaging, watching, saving], tmp_path)
    assert found[:2] == [watching, saving]
    assert isinstance(found[2], Monitors)
    assert found[2].callbacks == [watching]
    assert isinstance(found[3], LastCheckpoint)
    assert found[4:] == [averaging]
    assert saving.dirpath == str(tmp_path)
    assert [type(callback) for callback in with_own([EarlyStopping("val/kl")], tmp_path)] == [
        EarlyStopping,
        LastCheckpoint,
    ]
    with pytest.raises(ValueError, match=r"callbacks\.x must be a callback, or null to do without, got 5"):
        checked({"x": 5})
    with pytest.raises(ValueError, match=r"one callback wakes units, got callbacks\.a and callbacks\.b"):
        checked({"a": WakeIdleUnits(1, 2), "b": WakeIdleUnits(1, 2)})


def test_averaged_weights_and_the_trainings_own_are_both_in_the_last_checkpoint(tmp_path):
    average = partial(EMAWeightAveraging, decay=0.5)
    whole = run(9, average(), loss=ELBO(), folder=tmp_path / "whole")
    run(6, average(), loss=ELBO(), folder=tmp_path / "parts")
    last = tmp_path / "parts" / "last.ckpt"
    found = torch.load(last, weights_only=True)
    assert not all(found["state_dict"][name].equal(value) for name, value in found["current_model_state"].items())
    resumed = run(9, average(), loss=ELBO(), folder=tmp_path / "parts", checkpoint=last)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert one.equal(other)
    for name, value in torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["current_model_state"].items():
        assert torch.load(last, weights_only=True)["current_model_state"][name].equal(value), name


def test_a_checkpoint_of_the_weights_alone_is_not_resumed_from(tmp_path, caplog):
    weights = ModelCheckpoint(tmp_path, "weights-{step}", every_n_train_steps=5, save_top_k=-1, save_weights_only=True)
    whole = ModelCheckpoint(tmp_path, "whole-{step}", every_n_train_steps=4, save_top_k=-1)
    run(5, weights, whole)
    assert newest(tmp_path) == (tmp_path / "weights-step=5.ckpt", 5)
    assert newest(tmp_path, to_resume=True) == (tmp_path / "whole-step=4.ckpt", 4)
    assert (
        "weights-step=5.ckpt holds the weights without the optimizer's state, so it isn't resumed from" in caplog.text
    )
    assert "optimizer_states" not in torch.load(tmp_path / "weights-step=5.ckpt", weights_only=True)
    with pytest.raises(KeyError, match="contains only the model"):
        fit(training(), 8, checkpoint=tmp_path / "weights-step=5.ckpt")
    (tmp_path / "whole-step=4.ckpt").unlink()
    with pytest.raises(ValueError, match="has no checkpoint to resume from"):
        newest(tmp_path, to_resume=True)


def test_what_ended_a_training_is_said_with_its_step():
    def said(trainer, interrupted=False):
        return ended_early(SimpleNamespace(trainer=trainer, interrupted=interrupted))

    assert said(run(4)) == []
    (stopped,) = said(run(20, EarlyStopping("train/loss", patience=2)))
    assert stopped.startswith("Ended at step 6: EarlyStopping: Monitored metric train/loss did not improve")
    timed = run(20, Timer(timedelta(seconds=0)))
    assert said(timed) == [f"Ended at step {timed.global_step}: its time is over, trainer.max_time=… gives it more"]
    assert timed.global_step < 20
    assert said(timed, interrupted=True) == []


def test_what_ended_a_finished_run_counts_anew_as_it_goes_on(tmp_path):
    with recorded(tmp_path, []):
        run(20, EarlyStopping("train/loss", patience=2), folder=tmp_path)
        running = EarlyStopping("train/loss", patience=2)
        let_go_on([running], tmp_path)
        assert run(20, running, folder=tmp_path, checkpoint=tmp_path / "last.ckpt").global_step == 8
    again, timer = EarlyStopping("train/loss", patience=2), Timer(timedelta(hours=1))
    let_go_on([again, timer], tmp_path)
    assert run(20, again, folder=tmp_path, checkpoint=tmp_path / "last.ckpt").global_step == 14
    timer.load_state_dict({"time_elapsed": {"train": 7200.0}})
    assert timer.time_elapsed() == 0
