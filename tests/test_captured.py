"""A training that takes its steps in bursts, and replays what is recorded, ends where one ends that does neither."""

from __future__ import annotations

from copy import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from runs import SHORT, metrics_of, run_folder
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from bvae.bursts import steps_until_due
from bvae.captured import Captured
from bvae.losses import ELBO, Capacity, Context, Control, Factor
from bvae.model import NotFinite
from bvae.training import Training

SHAPE = (1, 8, 8)
IMAGES = torch.rand(23, *SHAPE, generator=torch.Generator().manual_seed(0))


class Data(LightningDataModule):
    """Serves bytes, which become images of another precision than the model's on their way."""

    def train_dataloader(self):
        return DataLoader((255 * IMAGES).byte(), batch_size=5, shuffle=True)

    def val_dataloader(self):
        return DataLoader((255 * IMAGES).byte(), batch_size=23)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch.double(), "labels"]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 255, batch[1]]


class Tape:
    """Records as a CUDA graph does: settings and input tensors stay those of the recording, and so do the outputs.

    Recording computes nothing yet, and refuses an optimizer that isn't told to be capturable.
    """

    made = 0

    def __init__(self, function):
        Tape.made += 1
        step = copy(function.__self__)  # with the tensors that it has now, whatever replaces them
        groups = step.optimizer.param_groups
        assert function.__name__ == "_compute" or all(group["capturable"] for group in groups)
        self.groups, self.settings = groups, [self.settings_of(group) for group in groups]
        self.function, self.outputs = getattr(step, function.__name__), None

    @staticmethod
    def settings_of(group):
        return {name: value for name, value in group.items() if name not in ("params", "capturable")}

    def __call__(self):
        now = [self.settings_of(group) for group in self.groups]
        for group, recorded in zip(self.groups, self.settings, strict=True):
            group.update(recorded)
        outputs = self.function()
        for group, settings in zip(self.groups, now, strict=True):
            group.update(settings)
        if self.outputs is None:
            self.outputs = outputs
        for old, new in zip(tree_leaves(self.outputs), tree_leaves(outputs), strict=True):
            if isinstance(old, torch.Tensor):
                old.copy_(new)


class Losses(Callback):
    every_n_steps = 7

    def __init__(self):
        self.values, self.entries, self.validated = {}, 0, []

    def on_validation_start(self, trainer, pl_module):
        self.validated.append(trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.entries += 1
        self.values[trainer.global_step] = float(outputs["loss"])


ADAM = partial(Adam, lr=1e-3, fused=True)


def fit(record=None, captured=True, loss=ELBO, optimizer=ADAM, scheduler=None, fits=1, **options):
    seed_everything(0, verbose=False)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 6))
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 64), nn.Unflatten(1, SHAPE))
    training, losses = Training(encoder, decoder, loss(), optimizer, scheduler), Losses()
    if captured:
        Captured(training, record)
    for _ in range(fits):
        trainer = Trainer(
            **{"max_steps": 40, "log_every_n_steps": 5, "accelerator": "cpu", "callbacks": [losses]} | options,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(training, Data())
    return trainer, losses


DROP = partial(MultiStepLR, milestones=[12, 13, 30], gamma=0.5)
FACTOR = partial(Factor, gamma=5, latent_dim=3, discriminator_width=8, discriminator_depth=1)
CAPACITY = partial(Capacity, gamma=100, max_capacity=2, anneal_steps=20)


@pytest.mark.parametrize("record", [None, Tape])
@pytest.mark.parametrize(
    "parts",
    [
        {"loss": CAPACITY, "scheduler": DROP, "max_steps": 38, "log_every_n_steps": 6},
        {"loss": FACTOR, "val_check_interval": 4, "check_val_every_n_epoch": None},
        {"loss": partial(Control, target_end=1, anneal_steps=20), "val_check_interval": 3},
        {"optimizer": partial(SGD, lr=1e-3), "scheduler": DROP, "check_val_every_n_epoch": 3},
        {"gradient_clip_val": 0.1, "max_steps": 12},
        {"accumulate_grad_batches": 2, "max_steps": 12},
        {"fits": 2, "max_steps": 20},
    ],
    ids=lambda parts: " ".join(parts),
)
def test_it_ends_where_one_ends_that_is_trained_step_by_step(record, parts):
    Tape.made = 0
    (ours, seen), (theirs, every) = fit(record, **parts), fit(captured=False, **parts)
    assert ours.global_step == theirs.global_step == parts.get("max_steps", 40)
    assert seen.validated == every.validated
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
        assert seen.entries < every.entries == parts.get("max_steps", 40) * parts.get("fits", 1)


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


class FakeGpu:
    """What of a GPU a step's warm-up asks for."""

    def __init__(self, monkeypatch):
        self.mode, self.state, self.modes = 0, 5, []
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: self.state)
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: setattr(self, "state", state))
        monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: self.mode)
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: setattr(self, "mode", mode))

    def terms(self, images, context):
        """Draws noise, and reads a number, which PyTorch refuses where that is an error."""
        self.state += 1
        self.modes.append(self.mode)
        if self.mode == "error":
            raise RuntimeError(context)
        return {"loss": self.state}


ON_GPU = SimpleNamespace(device=torch.device("cuda"))


def test_the_last_step_before_the_capture_finds_what_waits_for_the_gpu(monkeypatch, caplog):
    gpu = FakeGpu(monkeypatch)
    captured = Captured(SimpleNamespace(terms=gpu.terms))
    found = [captured._as_it_comes(ON_GPU, "called a synchronizing operation")["loss"] for _ in range(4)]
    assert gpu.modes == [0, 0, "error", 0, 0]  # the third is computed again
    assert found == [6, 7, 8, 9]  # of the noise that it would have had
    assert gpu.mode == 0
    assert captured._is_refused
    assert "reads a value of the GPU's" in caplog.text


def test_another_error_in_that_step_is_the_users(monkeypatch):
    gpu = FakeGpu(monkeypatch)
    captured = Captured(SimpleNamespace(terms=gpu.terms))
    for _ in range(2):
        captured._as_it_comes(ON_GPU, "")
    with pytest.raises(RuntimeError, match="out of range"):
        captured._as_it_comes(ON_GPU, "an index is out of range")
    assert (gpu.mode, captured._is_refused) == (0, False)


@pytest.mark.parametrize(
    ("trainer", "reason"),
    [
        ({}, None),
        ({"world_size": 2}, "several processes train it"),
        ({"precision_plugin": SimpleNamespace(scaler=1)}, "precision=16-mixed scales its gradients; use bf16-mixed"),
    ],
    ids=str,
)
def test_what_a_trainer_does_besides_cannot_be_captured(trainer, reason, caplog):
    usual = {"world_size": 1, "precision": "16-mixed", "precision_plugin": SimpleNamespace(scaler=None)}
    training = SimpleNamespace(
        trainer=SimpleNamespace(**usual | trainer, optimizers=[SimpleNamespace(param_groups=[])])
    )
    recorded = []
    captured = Captured(training, recorded.append)
    context = Context(torch.tensor(0), 23)
    captured._capture(IMAGES, context)
    assert (len(recorded), captured._is_refused) == ((1, False) if reason is None else (0, True))
    assert reason is None or reason in caplog.text
    on_cpu = Captured(training)  # where there is nothing to record with
    caplog.clear()
    on_cpu._capture(IMAGES, context)
    assert on_cpu._is_refused
    assert (reason or "") in caplog.text
    assert bool(caplog.text) == bool(reason)  # without a reason, nothing is lost and nothing said


def test_images_that_the_model_does_not_take_are_refused_and_other_shapes_are_computed_as_they_come():
    seen = []
    training = SimpleNamespace(
        model=SimpleNamespace(check_images=lambda images: seen.append(images.shape)),
        trainer=trainer_at(1),
        terms=lambda images, context: {"loss": images.sum(), "as": "it comes"},
        context=lambda device: None,
    )
    captured = Captured(training)
    captured._step = SimpleNamespace(
        optimizer=training.trainer.optimizers[0], replay=lambda *_: None, as_computed=lambda: {"as": "replayed"}
    )
    assert captured(IMAGES[:5], None)["as"] == "replayed"
    assert captured(IMAGES[:3], None)["as"] == "it comes"  # an epoch's last batch
    assert captured(IMAGES[:5], None)["as"] == "replayed"
    assert [shape[0] for shape in seen] == [5, 3, 5]


def trainer_at(steps_left: int) -> SimpleNamespace:
    """A trainer for which something is due after so many steps."""
    return SimpleNamespace(
        global_step=0,
        fit_loop=SimpleNamespace(batch_idx=0),
        gradient_clip_val=None,
        precision_plugin=None,
        accumulate_grad_batches=1,
        world_size=1,
        fast_dev_run=False,
        num_training_batches=steps_left,
        callbacks=[],
        lightning_module=LightningModule(),
        log_every_n_steps=0,
        enable_validation=False,
        max_steps=-1,
        optimizers=[SimpleNamespace(param_groups=[])],
    )
