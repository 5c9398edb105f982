from __future__ import annotations

import logging
from typing import Any

from lightning import Callback, LightningModule, Trainer

from bvae.checks import integer

log = logging.getLogger(__name__)

_SHARE = 0.1  # of the KL or of C, whichever is larger; a code that carries less tells nothing
_RISE = 0.1  # nats, which the larger of the two has to have risen by


class InformationCheck(Callback):
    """Says once in a run that the latent code tells nothing of the images although the KL or C rises.

    It reads `train/information`, `train/kl` and `train/capacity` at the steps at which the trainer logs.

    Args:
        patience: steps for which the information has to stay near 0.
    """

    def __init__(self, patience: int = 3_000) -> None:
        self.patience = integer("callbacks.information.patience", patience, at_least=1)
        self._since: tuple[int, float] | None = None  # the step from which on it is near 0, and the nats there
        self._said = False

    def state_dict(self) -> dict[str, Any]:
        return {"since": self._since, "said": self._said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._since, self._said = state_dict["since"], state_dict["said"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, terms = trainer.global_step, trainer.logged_metrics
        if self._said or step % trainer.log_every_n_steps or "train/information" not in terms:
            return
        nats = max(float(terms["train/kl"]), float(terms.get("train/capacity", 0.0)))
        if terms["train/information"] >= _SHARE * nats:
            self._since = None
        elif self._since is None:
            self._since = step, nats
        elif step - self._since[0] >= self.patience and nats > self._since[1] + _RISE:
            self._said = True
            if trainer.is_global_zero:
                log.warning(
                    "at step %s the latent code carries %.2f of %.2f nats and has told nothing of the images for %s "
                    "steps; try another seed, a smaller weight of the KL, scheduler=warmup or, with loss=capacity, "
                    "loss.charge_offset=true",
                    f"{step:,}",
                    float(terms["train/information"]),
                    nats,
                    f"{step - self._since[0]:,}",
                )
