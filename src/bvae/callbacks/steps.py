from __future__ import annotations

from lightning import Trainer


class NewStep:
    """Tells of each optimizer step once that it is done: a step may have several batches.

    Args:
        trainer: whose training starts, or goes on from a checkpoint.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._step = trainer.global_step

    def __call__(self, trainer: Trainer) -> bool:
        """Whether a step is done that wasn't at the last call."""
        before, self._step = self._step, trainer.global_step
        return self._step != before
