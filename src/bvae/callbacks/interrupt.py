from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from bvae.callbacks.steps import NewStep

PREEMPTED = 75  # EX_TEMPFAIL, the exit status of a run that was preempted and can be resumed
HANDLED = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, n))


class GracefulInterrupt(Checkpoint):
    """Ends the training after the step at hand when a signal asks for it.

    Ctrl-C ends it as if that step had been the last; a second one ends it at once. SIGTERM and SIGUSR1, with which
    schedulers take a machine back, and SIGHUP of a terminal that is closed save a checkpoint to resume from and end the
    program with status 75; under nohup, SIGHUP does nothing. Whoever else waits for SIGUSR1, as Lightning and submitit
    do under Slurm to put the job in the queue again, gets it after that checkpoint.

    Args:
        folder: where that checkpoint goes.
        asked: tells of a signal that this process was sent and can't receive, as a pool's may not.
    """

    every_n_steps = None  # it can wait for the next logging step

    def __init__(self, folder: str, asked: Callable[[], signal.Signals | None] = lambda: None) -> None:
        self.folder = Path(folder)
        self.asked = asked
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_new_step = NewStep(trainer)
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may take signals

        def stop(signum: int, frame: FrameType | None) -> None:
            self.signal = signal.Signals(signum)
            signal.signal(signum, self._before[self.signal])

        for handled in HANDLED:
            if handled.name != "SIGHUP" or signal.getsignal(handled) != signal.SIG_IGN:
                self._before[handled] = signal.signal(handled, stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._is_new_step(trainer):
            return  # a gradient that is being accumulated would be lost
        if self.signal is None:
            self.signal = self.asked()
        asked = int(self.signal or 0)
        if trainer.world_size > 1:  # all stop at the same step, whoever of them was asked to
            asked = int(trainer.strategy.reduce(torch.tensor(float(asked), device=pl_module.device), reduce_op="max"))
        if asked == signal.SIGINT:
            trainer.should_stop = True
        elif asked:
            trainer.save_checkpoint(self.folder / f"step-{trainer.global_step}.ckpt")
            others = self._before.get(self.signal) if self.signal is not None else None
            if asked != signal.SIGTERM and callable(others):
                others(asked, None)
            raise SystemExit(PREEMPTED)  # at once: a trainer that is told to stop validates first

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        """Restore the handlers before ours, Lightning's, which it removes before `teardown`.

        To do it later would bring Lightning's handlers back, and with them the trainer, for good.
        """
        for handled, before in self._before.items():
            signal.signal(handled, before)
        self._before = {}
