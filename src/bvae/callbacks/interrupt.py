from __future__ import annotations

import signal
import threading
from types import FrameType

from lightning import Callback, LightningModule, Trainer


class GracefulInterrupt(Callback):
    """Ctrl-C ends the training after the step at hand, as if it had been the last; a second one ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may take signals

        def stop(signum: int, frame: FrameType | None) -> None:
            self.interrupted = True
            trainer.should_stop = True
            signal.signal(signal.SIGINT, self._before)

        self._before = signal.signal(signal.SIGINT, stop)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if hasattr(self, "_before"):
            signal.signal(signal.SIGINT, self._before)
