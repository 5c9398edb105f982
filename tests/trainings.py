"""A small training, in a trainer's hands or within a step of one."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from bvae.losses import ELBO
from bvae.training import Training

IMAGES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def parts() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2))),
    )


def fit(training: Training, steps: int, checkpoint=None, **arguments) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=steps, accelerator="cpu", **quiet | arguments)
    trainer.fit(training, DataLoader(IMAGES, batch_size=2), ckpt_path=checkpoint, weights_only=True)
    return trainer


def begun(loss=None, **attributes) -> Training:
    """A training within a fit of a trainer that logs each second step; `logged` notes what it logs."""
    training = Training(*parts(), loss or ELBO())
    usual = {"global_step": 1, "log_every_n_steps": 2, "fast_dev_run": False, "world_size": 1, "datamodule": None}
    usual |= {"train_dataloader": None, "_results": None, "optimizers": [SimpleNamespace(param_groups=[{"lr": 0.25}])]}
    training._trainer = SimpleNamespace(**usual | attributes)
    training.logged = []
    training.log_dict = lambda terms, **options: training.logged.append((terms, options))
    return training
