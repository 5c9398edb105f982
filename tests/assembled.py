"""A configuration of small parts, from which a run is assembled within milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf
from torch import nn

from bvae.app import assemble
from bvae.data import ArrayImages, ImagesDataModule

SHAPE = (1, 2, 2)


class Encoder(nn.Module):
    """An encoder that takes the images' shape."""

    def __init__(self, latent_dim: int = 2, image_shape: tuple = (9,), activation: nn.Module | None = None) -> None:
        super().__init__()
        self.latent_dim, self.image_shape, self.activation = latent_dim, image_shape, activation or nn.ReLU()
        self.linear = nn.Linear(int(np.prod(image_shape)), 2 * latent_dim)

    def forward(self, images):
        return self.linear(images.flatten(1))


class Decoder(nn.Module):
    """A decoder that has a shape of its own."""

    def __init__(self, latent_dim: int = 2) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.linear = nn.Linear(latent_dim, 4)

    def forward(self, latents):
        return self.linear(latents).view(-1, *SHAPE)


class Memory(Logger):
    """A logger that remembers what it was made and told with."""

    name, version = "memory", 0

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options, self.told = options, {}

    def log_hyperparams(self, params, *arguments, **more):
        self.told = params

    def log_metrics(self, metrics, step=None):
        pass


class Quiet(Callback):
    pass


def images(n: int = 8, **options: object) -> ImagesDataModule:
    pixels = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2)
    return ImagesDataModule(ArrayImages(pixels), **{"batch_size": 2, "eval_images": 4} | options)


def of(name: str, **arguments: object) -> dict[str, object]:
    return {"_target_": f"{__name__}.{name}", **arguments}


def configuration(folder: Path, **changes: object):
    tree = {
        "output_dir": str(folder),
        "seed": 5,
        "data": of("images"),
        "model": {"latent_dim": 2, "encoder": of("Encoder"), "decoder": of("Decoder")},
        "loss": {"_target_": "bvae.losses.Beta", "beta": 3.0},
        "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "_partial_": True, "factor": 1.0},
        "init_from": None,
        "compile": None,
        "metrics": {"sample": {}, "every_image": {}},
        "optimized_metric": None,
        "callbacks": {"a": of("Quiet"), "none": None, "false": False},
        "logger": {"mode": "offline", "loggers": {"wandb": of("Memory", x=1), "csv": of("Memory"), "none": None}},
        "trainer": {
            "_target_": "lightning.Trainer",
            "max_steps": 3,
            "max_epochs": None,
            "log_every_n_steps": 1,
            "val_check_interval": None,
            "precision": "32-true",
            "devices": 1,
            "accelerator": "cpu",
            "enable_model_summary": False,
        },
    }
    cfg = OmegaConf.create(tree)
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, merge=False, force_add=True)
    return cfg


def made(folder: Path, resumes: bool = False, **changes: object) -> assemble.Run:
    return assemble.assemble(configuration(folder, **changes), resumes)
