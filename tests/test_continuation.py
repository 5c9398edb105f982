"""A training that is ended and continued has the weights of one that wasn't, to the bit: a small model, many ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer, seed_everything
from torch import nn

from bvae.callbacks import GracefulInterrupt, StepCheckpoint, WakeIdleUnits
from bvae.checkpoints.files import _is_intact, newest
from bvae.data import DSpritesDataModule
from bvae.data.batches import Batches
from bvae.losses import Beta, Control, Factor, Loss
from bvae.training import Training

STEPS = 24


class CtrlC(Callback):
    """Ends the training as Ctrl-C at a step does."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def data(cache_dir) -> DSpritesDataModule:
    """74 images to train on, 10 batches an epoch; prepared once for all trainings."""
    data = DSpritesDataModule(cache_dir=str(cache_dir), batch_size=8, val_fraction=0.9999)
    data.setup()
    data.prepare_data = data.setup = lambda **_: None
    return data


@pytest.fixture
def train(data, monkeypatch):
    """Trains, or goes on from what is in the folder, and gives the weights; `train.served` has the batches' numbers."""

    def run(
        folder: Path,
        steps: int = STEPS,
        interrupted: int | None = None,
        loss: Callable[[], Loss] = Beta,
        own: Callable[[], Callback] = Callback,
        **arguments,
    ) -> dict[str, torch.Tensor]:
        seed_everything(0, verbose=False)
        served.clear()
        vae = Training(
            nn.Sequential(nn.Flatten(), nn.Linear(4096, 6)),
            nn.Sequential(nn.Linear(3, 4096), nn.Unflatten(1, (1, 64, 64))),
            loss(),
        )
        with torch.no_grad():  # unit 2 begins at the prior
            for parameter in vae.model.encoder.parameters():
                parameter[2::3] = 0
        checkpoint = newest(folder)[0] if any(folder.glob("*.ckpt")) else None
        callbacks = [
            CtrlC(interrupted),
            own(),
            GracefulInterrupt(str(folder)),
            StepCheckpoint(folder, "step-{step}", auto_insert_metric_name=False, every_n_train_steps=5, save_top_k=-1),
        ]
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            check_val_every_n_epoch=None,
            limit_val_batches=1,
            num_sanity_val_steps=0,
            **{"val_check_interval": 1000} | arguments,
        )
        trainer.fit(vae, data, ckpt_path=checkpoint, weights_only=True)
        assert trainer.global_step == (interrupted or steps)
        trainer.save_checkpoint(folder / "last.ckpt")
        return vae.state_dict()

    served = run.served = []
    load = Batches.__getitem__
    monkeypatch.setattr(Batches, "__getitem__", lambda self, n: served.append(n) or load(self, n))
    return run


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


# Within an epoch, at its end (10 batches, or 4 steps of three), and where a checkpoint lies.
@pytest.mark.filterwarnings("error:.*dataloader is.*not resumable")
@pytest.mark.parametrize(
    ("arguments", "ends"),
    [
        ({}, (4, 10)),
        ({"accumulate_grad_batches": 3}, (4, 5)),
        ({"val_check_interval": 5}, (4, 10)),
        ({"limit_train_batches": 4}, (7, 8)),
        ({"max_epochs": 3}, (4, 10)),  # 30 steps, of which the last six aren't taken
    ],
    ids=str,
)
def test_ctrl_c_and_more_steps_cost_nothing(train, tmp_path, arguments, ends):
    uninterrupted = train(tmp_path / "uninterrupted", **arguments)
    for end in ends:
        for how, ended in (("interrupted", {"interrupted": end}), ("extended", {"steps": end})):
            folder = tmp_path / f"{how}-{end}"
            train(folder, **ended, **arguments)
            assert same(train(folder, **arguments), uninterrupted), folder.name


class SmallFactor(Factor):
    def __init__(self, discriminator_lr: float = 1e-4) -> None:
        super().__init__(latent_dim=3, discriminator_width=8, discriminator_depth=2, discriminator_lr=discriminator_lr)


@pytest.mark.parametrize("loss", [SmallFactor, Control])
def test_a_loss_with_a_state_costs_nothing_either(train, tmp_path, loss):
    """A discriminator and its optimizer's moments, its permutations, a controller's sum; validation moves none."""
    uninterrupted = train(tmp_path / "uninterrupted", loss=loss)
    begun = train(tmp_path / "interrupted", interrupted=7, loss=loss)
    own = [name for name in begun if name.startswith("loss.")]
    assert own
    assert not all(torch.equal(begun[name], uninterrupted[name]) for name in own)
    assert same(train(tmp_path / "interrupted", loss=loss, val_check_interval=5), uninterrupted)


def test_woken_units_cost_nothing_either(train, tmp_path):
    """Before they are woken, at that step, and while the training has another objective."""
    own = partial(WakeIdleUnits, first_step=2, last_step=15, units=1, free_nats=[[2, 5], [12, 0]])
    uninterrupted = train(tmp_path / "uninterrupted", own=own)
    assert not same(train(tmp_path / "none"), uninterrupted)
    for end in (1, 2, 9, 16):
        folder = tmp_path / str(end)
        train(folder, interrupted=end, own=own)
        assert same(train(folder, own=own), uninterrupted), end


def test_a_discriminators_learning_rate_can_be_changed_from_there_on(train, tmp_path):
    train(tmp_path, steps=7, loss=SmallFactor)
    train(tmp_path, steps=9, loss=partial(SmallFactor, discriminator_lr=0.5))
    model, own = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert (model["lr"], own["lr"], own["betas"]) == (5e-4, 0.5, (0.5, 0.9))


def test_a_gradient_that_is_being_accumulated_is_not_saved_without_its_batches(train, tmp_path):
    train(tmp_path, steps=5, accumulate_grad_batches=3)  # four steps of the first epoch's ten batches, and one
    saved = (tmp_path / "step-5.ckpt").stat().st_mtime_ns
    train(tmp_path, steps=7, accumulate_grad_batches=3)
    assert train.served == list(range(13, 19))
    assert (tmp_path / "step-5.ckpt").stat().st_mtime_ns == saved
    assert not list(tmp_path.glob("*-v1.ckpt"))


def test_overfitting_takes_the_same_batches_again_and_again(train, tmp_path):
    train(tmp_path, steps=9, overfit_batches=4)
    assert train.served == [0, 1, 2, 3] * 2 + [0]


def test_of_checkpoints_of_one_step_the_last_by_name_is_the_newest(tmp_path):
    for name, step in (("step-20", 20), ("last", 30), ("resume-step-30", 30), ("resume-step-25", 25)):
        torch.save({"global_step": step}, tmp_path / f"{name}.ckpt")
    whole = (tmp_path / "step-20.ckpt").read_bytes()
    for position in range(0, len(whole), 7):  # damaged somewhere, which Python's reader says in many ways
        torn = bytearray(whole)
        torn[position] ^= 0x10
        (tmp_path / "torn.ckpt").write_bytes(torn)
        _is_intact(tmp_path / "torn.ckpt")
    (tmp_path / "torn.ckpt").unlink()
    assert newest(tmp_path) == (tmp_path / "resume-step-30.ckpt", 30)
