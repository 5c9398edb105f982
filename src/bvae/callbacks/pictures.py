from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from bvae import visualization
from bvae.callbacks import loggers
from bvae.latents import LatentUnit, encode, latent_table, write_csv
from bvae.metrics import mutual_information_gap


class LatentPictures(Callback):
    """What the units encode: pictures, the latent table and the MIG, at intervals and at the end of the training.

    Writes `reconstructions.png`, `traversals.png`, `traversals.gif`, `traversals/unit_*.gif` and `latents.csv`, and
    gives them to the loggers. The images come from the data module's `predict_dataloader`, in the same order each
    time. Traversals start from the image whose code lies nearest the origin, so that the sprite has room to move.

    Args:
        folder: where the files go.
        factor_names: of the data's factors.
        every_n_steps: interval; the GIFs are made at the end only.
        num_reconstructions: images in `reconstructions.png`.
    """

    def __init__(
        self, folder: str, factor_names: tuple[str, ...], every_n_steps: int = 5_000, num_reconstructions: int = 12
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be 1 or more, got {every_n_steps}")
        self.folder = Path(folder)
        self.factor_names = tuple(factor_names)
        self.every_n_steps = every_n_steps
        self.num_reconstructions = num_reconstructions
        self.table: list[LatentUnit] = []
        self.mig = float("nan")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != trainer.max_steps:
            self._draw(trainer, pl_module, last=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        console = Console()
        with console.status("Drawing what the units encode"):
            self._draw(trainer, pl_module, last=True)
        if trainer.is_global_zero:
            self._print(console)

    def _print(self, console: Console) -> None:
        console.print(visualization.terminal_table(self.table))
        console.print(f"MIG {self.mig:.3f} (20 bins, posterior means)", highlight=False)
        console.print(f"Pictures and latents.csv: {self.folder}", highlight=False, soft_wrap=True)

    @rank_zero_only
    def _draw(self, trainer: Trainer, vae: LightningModule, last: bool) -> None:
        vae.eval()
        codes, images = encode(vae, trainer.datamodule)
        means = codes.posterior.mean
        self.table = latent_table(codes, self.factor_names)
        self.mig = mutual_information_gap(means, codes.factors) if means.shape[1] > 1 else float("nan")
        start = means[torch.linalg.vector_norm(means, dim=1).argmin()]
        pictures = {
            "reconstructions": visualization.reconstructions(vae, images[: self.num_reconstructions]),
            "traversals": visualization.traversals(vae, start, self.table),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            picture.save(self.folder / f"{name}.png")
        write_csv(self.table, self.folder / "latents.csv")
        gif = self._write_gifs(vae, start) if last else None
        vae.train()
        scores = {"val/mig": self.mig, "val/active_units": float(sum(row.active for row in self.table))}
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=trainer.global_step)
            loggers.log_pictures(logger, pictures, gif, self.table, trainer.global_step)

    def _write_gifs(self, vae: LightningModule, start: torch.Tensor) -> Path:
        frames = visualization.traversal_frames(vae, start)
        path = self.folder / "traversals.gif"
        visualization.save_gif(visualization.mosaic(frames, self.table), path)
        units = self.folder / "traversals"
        units.mkdir(exist_ok=True)
        for unit, unit_frames in enumerate(frames):
            visualization.save_gif(visualization.enlarged(unit_frames), units / f"unit_{unit}.gif")
        return path
