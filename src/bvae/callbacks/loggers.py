"""What each kind of logger does with a picture, a table and the end of a run."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL.Image import Image

from bvae.latents import LatentUnit

if TYPE_CHECKING:
    from wandb import Settings


def quiet() -> None:
    """Silence what Lightning says of every run, and its advice that doesn't hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the data is memory-mapped
    warnings.filterwarnings("ignore", ".*Experiment logs directory .* exists and is not empty.*")  # Hydra's files
    warnings.filterwarnings("ignore", ".*Total length of `list` across ranks is zero.*")  # no images are held out
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning's own business
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")


def wandb_settings(console: str) -> Settings:
    """W&B without its own lines on the terminal, of which `finish` says what is worth saying.

    Args:
        console: whether W&B records the terminal, see `wandb.Settings`.
    """
    import wandb

    settings = wandb.Settings(silent=True, console=console)
    wandb.setup(settings)  # else what it says before a run starts is heard all the same
    return settings


def log_pictures(
    logger: Logger, pictures: dict[str, Image], gif: Path | None, table: list[LatentUnit], step: int
) -> None:
    """Hand the pictures, the traversal GIF and the latent table to a logger that takes such things."""
    if isinstance(logger, WandbLogger):
        import wandb

        rows = wandb.Table(columns=[field.name for field in fields(LatentUnit)], data=[list(astuple(r)) for r in table])
        media = {f"pictures/{name}": wandb.Image(picture) for name, picture in pictures.items()}
        if gif is not None:
            media["pictures/traversals_gif"] = wandb.Video(str(gif), format="gif")
        logger.experiment.log({**media, "latents": rows, "trainer/global_step": step})
    elif isinstance(logger, TensorBoardLogger):
        for name, picture in pictures.items():
            logger.experiment.add_image(f"pictures/{name}", np.asarray(picture), step, dataformats="HWC")


def finish(exit_code: int) -> list[str]:
    """End this process's W&B run, if there is one, so that the next job of a sweep gets its own; says how to see it."""
    wandb = sys.modules.get("wandb")  # not imported for this alone
    run = getattr(wandb, "run", None)
    if run is None:
        return []
    lines = []
    if not run.disabled:
        folder = Path(run.dir).parent
        lines.append(f"W&B dashboard in the terminal: wandb leet {folder.parent}")
        if run.offline:
            lines.append(f"W&B in the browser:            wandb sync {folder}")
        elif run.url:
            lines.append(f"W&B in the browser:            {run.url}")
    wandb.finish(exit_code=exit_code)
    return lines
