from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SHOWN = {"loss": "loss", "reconstruction": "rec", "kl": "KL", "capacity": "C", "beta": "β"}
_LINES = 20  # of a whole training, where the output is no terminal


class StepProgress(ProgressBar):
    """A bar over the training's steps with the loss and its terms in nats, the speed and the time left.

    Where the output is no terminal, a line now and then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._console = Console()
        self._bar: Progress | None = None

    def disable(self) -> None:
        """Nothing to do in the processes beside the first, which show no bar."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._total = self._steps(trainer)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("Training"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[terms]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=trainer.global_step, terms="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if step % trainer.log_every_n_steps == 0:  # the terms change no more often, and a GPU waits to read them
                self._bar.update(self._task, terms=self._terms(trainer))
        elif trainer.is_global_zero and self._total and step % max(self._total // _LINES, 1) == 0:
            self._console.print(f"step {step:,} of {self._total:,}  {self._terms(trainer)}", highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _steps(trainer: Trainer) -> int | None:
        steps = trainer.estimated_stepping_batches
        return int(steps) if steps != float("inf") else None

    @staticmethod
    def _terms(trainer: Trainer) -> str:
        logged = trainer.logged_metrics
        terms = [f"{short} {logged[f'train/{n}']:.1f}" for n, short in _SHOWN.items() if f"train/{n}" in logged]
        if "train/images_per_second" in logged:
            terms.append(f"{logged['train/images_per_second']:,.0f} images/s")
        return "  ".join(terms)
