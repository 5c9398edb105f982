"""A training that takes its steps in bursts, and replays what is recorded, ends where one ends that does neither."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning import Callback, Trainer, seed_everything
from runs import SHORT, metrics_of, run_folder
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.bursts import steps_until_due
from bvae.captured import Captured
from bvae.losses import ELBO, Capacity, Control, Factor
from bvae.model import NotFinite
from bvae.training import Training

SHAPE = (1, 8, 8)
IMAGES = torch.rand(23, *SHAPE, generator=torch.Generator().manual_seed(0))


class Tape:
    """Records as a CUDA graph does: the outputs are the same tensors at each replay, and settings stay as they were."""

    made = 0

    def __init__(self, function):
        Tape.made += 1
        self.function, self.outputs = function, None

    def __call__(self):
        outputs = self.function()
        if self.outputs is None:
            self.outputs = outputs
        for old, new in zip(tree_leaves(self.outputs), tree_leaves(outputs), strict=True):
            if isinstance(old, torch.Tensor):
                old.copy_(new)


class Losses(Callback):
    every_n_steps = 7

    def __init__(self):
        self.values, self.entries = {}, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.entries += 1
        self.values[trainer.global_step] = float(outputs["loss"])


ADAM = partial(Adam, lr=1e-3, fused=True)


def fit(record=None, captured=True, loss=ELBO, optimizer=ADAM, scheduler=None, fits=1, **options):
    seed_everything(0, verbose=False)
    parts = (ConvEncoder(3, image_shape=SHAPE), ConvDecoder(3, image_shape=SHAPE), loss())
    training, losses = Training(*parts, optimizer, scheduler), Losses()
    if captured:
        Captured(training, record)
    for _ in range(fits):
        trainer = Trainer(
            **{"max_steps": 40, "log_every_n_steps": 5, "accelerator": "cpu", "callbacks": [losses]} | options,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(training, DataLoader(IMAGES, batch_size=5, shuffle=True))
    return trainer, losses


DROP = partial(MultiStepLR, milestones=[12, 13, 30], gamma=0.5)
FACTOR = partial(Factor, gamma=5, latent_dim=3, discriminator_width=8, discriminator_depth=1)
CAPACITY = partial(Capacity, gamma=100, max_capacity=2, anneal_steps=20)


@pytest.mark.parametrize("record", [None, Tape])
@pytest.mark.parametrize(
    "parts",
    [
        {"loss": CAPACITY, "scheduler": DROP},
        {"loss": FACTOR},
        {"loss": partial(Control, target_end=1, anneal_steps=20)},
        {"optimizer": partial(SGD, lr=1e-3), "scheduler": DROP},
        {"gradient_clip_val": 0.1},
        {"accumulate_grad_batches": 2},
        {"fits": 2},
    ],
    ids=lambda parts: " ".join(parts),
)
def test_it_ends_where_one_ends_that_is_trained_step_by_step(record, parts):
    Tape.made = 0
    (ours, seen), (theirs, every) = fit(record, **parts), fit(captured=False, **parts)
    assert ours.global_step == theirs.global_step == 40
    for name, value in theirs.lightning_module.state_dict().items():
        torch.testing.assert_close(ours.lightning_module.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert {step: every.values[step] for step in seen.values} == seen.values
    for trainer in (ours, theirs):
        trainer.logged_metrics.pop("epoch", None)
    assert ours.logged_metrics == theirs.logged_metrics
    loops = [trainer.fit_loop.epoch_loop.state_dict() for trainer in (ours, theirs)]
    assert loops[0] == loops[1]
    assert str(ours.optimizers[0].state_dict()) == str(theirs.optimizers[0].state_dict())
    assert bool(Tape.made) == (record is Tape)
    if not {"gradient_clip_val", "accumulate_grad_batches"} & set(parts):
        assert seen.entries < every.entries == 40 * parts.get("fits", 1)


def test_the_trainer_is_entered_where_anything_is_due():
    _, seen = fit(Tape)
    assert sorted(seen.values) == [5, 7, 10, 14, 15, 20, 21, 25, 28, 30, 35, 40]  # epochs end each 5 steps


class Diverging(ELBO):
    def forward(self, sample, context):
        terms = super().forward(sample, context)
        return {**terms, "loss": terms["loss"] / (context.step < 8)}


@pytest.mark.parametrize("record", [None, Tape])
def test_a_loss_that_is_not_finite_ends_it_at_its_step(record):
    with pytest.raises(NotFinite, match="at step 9 loss became NaN or infinite"):
        fit(record, loss=Diverging)


def test_what_cannot_be_recorded_is_computed_as_it_comes(caplog):
    def refusing(function):
        raise RuntimeError("no graph of this\nand a long story")

    (ours, _), (theirs, _) = fit(refusing), fit(captured=False)
    for name, value in theirs.lightning_module.state_dict().items():
        torch.testing.assert_close(ours.lightning_module.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert caplog.text.count("The step can't be captured and is computed as it comes") == 1
    assert "is faster then: no graph of this\n" in caplog.text


class EachStep(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert steps_until_due(trainer) == 1


class Quiet(Callback):
    def on_train_end(self, trainer, pl_module):
        """No step's."""


def test_a_callback_that_does_not_say_how_often_it_looks_sees_each_step():
    _, losses = fit(callbacks=[Losses(), EachStep(), Quiet()])
    assert losses.entries == 0  # another's


def test_a_run_leaves_what_it_leaves_step_by_step(run, train, tmp_path):
    words = (*SHORT, "loss=annealed", "callbacks.checkpoint.every_n_train_steps=3", "seed=3", "capture=true")
    ended = train(tmp_path, *words, "logger=csv")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folders = [run_folder(job.stdout) for job in (ended, run[1])]
    assert metrics_of(folders[0]) == metrics_of(folders[1])
    for name in ("step-3.ckpt", "step-6.ckpt", "last.ckpt"):
        ours, theirs = (torch.load(folder / "checkpoints" / name) for folder in folders)
        for key in ("state_dict", "optimizer_states", "random_states", "interval_means", "loops"):
            assert str(ours[key]) == str(theirs[key]), (name, key)
