"""Trainings that take their steps together end where they end alone."""

from __future__ import annotations

import math
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer, seed_everything
from runs import metrics_of, offline_runs
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader

import bvae
from bvae.app import interrupts
from bvae.app.together import enter, train_as_one
from bvae.architectures.transposed import ConvTranspose
from bvae.callbacks import GracefulInterrupt
from bvae.losses import DIP1, ELBO, Annealed, Beta, BetaTC, Capacity, Factor, LearnedGaussian
from bvae.model import NotFinite
from bvae.runs.job import read
from bvae.stacked import Stacked
from bvae.training import Training

SHAPE = (1, 8, 8)
IMAGES = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(0))


def small_mlp(latent_dim, image_shape):
    size = math.prod(image_shape)
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, 2 * latent_dim)),
        nn.Sequential(nn.Linear(latent_dim, 16), nn.Tanh(), nn.Linear(16, size), nn.Unflatten(1, image_shape)),
    )


def small_conv(latent_dim, image_shape):
    channels, height, width = image_shape
    halved = 4, height // 2, width // 2
    return (
        nn.Sequential(nn.Conv2d(channels, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2 * latent_dim)),
        nn.Sequential(nn.Linear(latent_dim, 64), nn.Unflatten(1, halved), nn.ReLU(), ConvTranspose(4, channels)),
    )


PAIRS = {"conv": small_conv, "mlp": small_mlp}
# In threes, of which each has all that another objective may have: noise, weights, a likelihood and a rate of its own.
OBJECTIVES = {
    "conv": [
        lambda: Capacity(gamma=100, max_capacity=2, anneal_steps=20),
        lambda: Annealed(beta_start=8, beta_end=1, anneal_steps=15, hold_steps=5),
        lambda: Factor(gamma=5, latent_dim=3, discriminator_width=8, discriminator_depth=1),
        lambda: BetaTC(beta=3),
    ],
    "mlp": [ELBO, lambda: Beta(beta=2), DIP1, lambda: Beta(likelihood=LearnedGaussian())],
}


class Losses(Callback):
    every_n_steps = 3  # between which the steps are none of the trainers' business

    def __init__(self):
        self.values, self.entries = [], 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.entries += 1
        if trainer.global_step % self.every_n_steps == 0:
            self.values.append(float(outputs["loss"]))


class Run:
    """What the app assembles, small."""

    def __init__(self, seed, make_loss, pair, steps=25, lr=1e-3):
        seed_everything(seed, verbose=False)
        self.training = Training(*PAIRS[pair](3, SHAPE), make_loss(), partial(Adam, lr=lr, fused=True))
        self.losses, self.datamodule = Losses(), None
        self.trainer = Trainer(
            max_steps=steps,
            precision="64-true",  # in single precision Adam makes steps of the rounding of a gradient of 0
            accelerator="cpu",
            callbacks=[self.losses],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def fit(self):
        self.trainer.fit(self.training, DataLoader(IMAGES, batch_size=5, shuffle=True))
        return self


def job(*arguments, **options):
    def run():
        made = Run(*arguments, **options)
        enter(made)
        return made.fit()

    return run


@pytest.mark.parametrize("pair", PAIRS)
def test_together_as_alone(pair):
    jobs = [((seed, loss, pair), {"lr": (seed + 1) * 1e-3}) for seed, loss in enumerate(OBJECTIVES[pair])]
    together = train_as_one([job(*arguments, **options) for arguments, options in jobs])
    for (arguments, options), ours in zip(jobs, together, strict=True):
        alone = Run(*arguments, **options).fit()
        assert ours.trainer.global_step == alone.trainer.global_step == 25
        assert (ours.losses.entries, alone.losses.entries) == (12, 25)  # each third step, each epoch's last, the last
        assert ours.losses.values == pytest.approx(alone.losses.values, rel=1e-8)
        logged, theirs = ours.trainer.logged_metrics, alone.trainer.logged_metrics  # means over all of the steps
        assert {n: float(v) for n, v in logged.items()} == pytest.approx({n: float(v) for n, v in theirs.items()})
        for name, value in alone.training.state_dict().items():
            torch.testing.assert_close(ours.training.state_dict()[name], value, rtol=1e-6, atol=1e-8, msg=name)


class Diverging(ELBO):
    def forward(self, sample, context):
        terms = super().forward(sample, context)
        return {**terms, "loss": terms["loss"] / (context.step < 3)}


class Refusing(ELBO):
    def forward(self, sample, context):
        if context.step == 4:
            raise ValueError("a batch that it doesn't take")
        return super().forward(sample, context)


def test_one_that_fails_or_ends_costs_the_others_nothing():
    def failing(loss, kind, text):
        def run():
            with pytest.raises(kind, match=text):
                job(1, loss, "mlp", steps=10)()

        return run

    jobs = [job(0, ELBO, "mlp", steps=10), failing(Diverging, NotFinite, "at step 4 loss became NaN or infinite")]
    jobs += [failing(Refusing, ValueError, "a batch that it doesn't take"), job(2, ELBO, "mlp", steps=5)]
    together = train_as_one(jobs)
    for ours, seed, steps in ((together[0], 0, 10), (together[3], 2, 5)):
        alone = Run(seed, ELBO, "mlp", steps=steps).fit()
        assert ours.losses.values == pytest.approx(alone.losses.values, rel=1e-8)


def test_what_cannot_be_computed_as_one_is_halved_or_computed_one_by_one(monkeypatch, caplog):
    sizes = []

    def limited(most, error, modules):
        sizes.append(len(modules))
        if len(modules) > most:
            raise error
        return Stacked(modules)

    alone = [Run(seed, ELBO, "mlp", steps=4).fit().losses.values for seed in range(3)]
    for most, error, line in (
        (1, torch.OutOfMemoryError("none left"), "The memory doesn't suffice for 2 models at once: 1 at a time"),
        (0, ValueError("no two are alike"), "The models can't be computed as one and are computed one by one: no two"),
    ):
        monkeypatch.setattr("bvae.together.Stacked", partial(limited, most, error))
        together = train_as_one([job(seed, ELBO, "mlp", steps=4) for seed in range(3)])
        assert [ours.losses.values for ours in together] == [pytest.approx(values, rel=1e-8) for values in alone]
        assert line in caplog.text
    assert sizes == [3, 2, 1, 1, 1, 1, 1, 1, 3]


class CtrlC(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_all_of_them(monkeypatch, capsys):
    monkeypatch.setattr(interrupts, "_asked", None)
    before = signal.getsignal(signal.SIGINT)

    def run(seed):
        made = Run(seed, ELBO, "mlp")
        made.trainer.callbacks += [GracefulInterrupt("", interrupts.asked), CtrlC()][: 2 - seed]
        enter(made)
        return made.fit()

    assert {ours.trainer.global_step for ours in train_as_one([partial(run, 0), partial(run, 1)])} <= {3, 4}
    assert "Ctrl-C: the jobs under way end with this step" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before


def rows(folder):
    return [{k: float(v) for k, v in row.items() if v} for row in metrics_of(folder)]


@pytest.mark.slow
def test_a_sweep_leaves_what_its_jobs_leave_alone(train, tmp_path):
    short = ("loss=beta", "metrics=none", "data.batch_size=8", "trainer.max_steps=6", "trainer.log_every_n_steps=2")
    short += ("callbacks.pictures.every_n_steps=4", "callbacks.checkpoint.every_n_train_steps=3")
    words = ("-m", "optimizer.lr=1e-3,2e-3,1e30", *short, "hydra/launcher=together")
    sweep = train(tmp_path, *words, "hydra.sweep.dir=sweep")
    assert sweep.returncode == 1, sweep.stdout + sweep.stderr
    assert sweep.stdout.count("step 6 of 6") == 1  # one shows the progress of all
    assert "Launching 3 jobs as one training" in sweep.stdout
    folders = [tmp_path / "sweep" / str(number) for number in range(3)]
    assert [read(folder).status for folder in folders] == ["finished", "finished", "failed"]
    assert "became NaN or infinite" in (folders[2] / "train.log").read_text()
    assert not (folders[0] / "train.log").exists()  # there was nothing to log
    assert (tmp_path / "sweep" / "sweep.html").is_file()
    assert len(offline_runs(tmp_path)) == len({(f / "wandb.json").read_text() for f in folders}) == 3

    # As after kill -9: the first job has finished, the second one is resumed, and the third one fails again.
    second = folders[1] / "job.json"
    second.write_text(second.read_text().replace("finished", "running"))
    (folders[1] / "checkpoints" / "last.ckpt").unlink()
    (folders[1] / "checkpoints" / "step-6.ckpt").unlink()
    resumed = train(tmp_path, *words, "sweep=sweep")
    assert "Finished before, in " in resumed.stdout
    assert "Resuming from step 3" in resumed.stdout

    alone = train(tmp_path, "optimizer.lr=2e-3", *short, "hydra.run.dir=alone", "logger=csv")
    assert alone.returncode == 0, alone.stderr
    own = {path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.*")}
    assert {path.relative_to(folders[1]) for path in folders[1].rglob("*.*")} - own == {Path("wandb.json")}
    assert [pytest.approx(row, rel=1e-4, abs=1e-3) for row in rows(tmp_path / "alone")] == rows(folders[1])
    last = [folder / "checkpoints" / "last.ckpt" for folder in (folders[1], tmp_path / "alone")]
    assert last[0].stat().st_size == pytest.approx(last[1].stat().st_size, rel=0.01)
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(*(bvae.load(path).reconstruct(images) for path in last), rtol=1e-3, atol=1e-3)
