"""What each kind of logger does with an evaluation: its scores, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from bvae.evaluation import Evaluation, LatentUnit, Score
from bvae.evaluation.latent_table import columns
from bvae.loggers.wandb import WandbRun

if TYPE_CHECKING:
    import wandb


def log_evaluation(logger: Logger, found: Evaluation, step: int, final: bool = False) -> None:
    """Hand the scores, the latent table and the pictures to a logger, those that it takes.

    Args:
        logger: of the run.
        found: what to log; its scores become `scores/…`, the shares of dead features `train/dead_features/…`.
        step: the optimizer's.
        final: whether the scores are the run's own: W&B gets them as a table too, and the ELBO's terms.
    """
    values = {score.name: float(score.value) for score in found.scores if math.isfinite(score.value)}
    metrics = {f"scores/{name}": value for name, value in values.items()}
    metrics |= {f"train/dead_features/{layer.layer}": layer.share for layer in found.features}
    if metrics:
        logger.log_metrics(metrics, step=step)
    if isinstance(logger, WandbLogger):
        import wandb

        if not final and isinstance(logger, WandbRun) and logger.has(step):
            return
        media = {f"pictures/{name}": wandb.Image(picture) for name, picture in found.pictures.items()}
        if found.gif is not None:
            media["pictures/traversals_gif"] = wandb.Video(str(found.gif), format="gif")
        kl = [unit.kl for unit in sorted(found.table, key=lambda unit: unit.unit)]
        media["kl_per_unit"] = wandb.Histogram(np_histogram=(np.array(kl), np.arange(len(kl) + 1)))  # a bar a unit
        logger.experiment.log({**media, "trainer/global_step": step})
        # In its rows W&B would draw the numbers of a table's columns and rows as curves.
        summary: dict[str, Any] = {"latents": _table(columns(found.table), found.table)}
        for score in found.scores:
            if score.name in values and score.higher_is_better is not None:
                best, key = (max if score.higher_is_better else min), f"best/{score.name}"
                summary[key] = best(values[score.name], logger.experiment.summary.get(key, values[score.name]))
        if final and found.scores:
            summary["scores"] = _table([field.name for field in fields(Score)], found.scores)
            # A resumed run has this step already, and takes no more rows of it.
            summary |= {f"scores/{name}": value for name, value in values.items()}
            summary |= {f"terms/{name}": value for name, value in found.terms.items()}
        logger.experiment.summary.update(summary)
    elif isinstance(logger, TensorBoardLogger):
        for name, picture in found.pictures.items():
            logger.experiment.add_image(f"pictures/{name}", np.asarray(picture), step, dataformats="HWC")
        logger.save()


def log_report(logger: Logger, page: Path, step: int) -> None:
    """Hand a run's page to W&B, which shows it as it is."""
    if isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({"report": wandb.Html(str(page), inject=False), "trainer/global_step": step})


def _table(columns: Sequence[str], rows: Sequence[LatentUnit] | Sequence[Score]) -> wandb.Table:
    import wandb

    return wandb.Table(columns=list(columns), data=[[getattr(row, column) for column in columns] for row in rows])
