from __future__ import annotations

import logging
import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from bvae.checks import integer

log = logging.getLogger(__name__)

_READ = ("reconstruction", "kl", "information", "capacity")
_SHARE = 0.1  # of the KL or of C, whichever is larger; a code that carries less tells nothing
_RISE = 0.1  # nats, which the larger of the two has to have risen by
_CLOSED = 0.1  # nats; under a KL of so few, no unit is open. It is passed within 1,500 steps where a model learns
_UNTRAINED = 1.0  # nats of KL, which a model that knows something exceeds
_FALL = 0.01  # of the first reconstruction, by which a model that learns anything improves it


class InformationCheck(Callback):
    """Says once in a run that nothing has been learned for long, and what to try.

    Either the latent code tells nothing of the images although the KL or C rises, or the KL stays near 0, or the
    reconstruction stays where it began. It reads `train/reconstruction`, `train/kl`, `train/information` and
    `train/capacity`, those that the objective has, at the steps at which the trainer logs.

    Args:
        patience: steps for which nothing has to have been learned.
    """

    every_n_steps = None  # at the logging steps alone

    def __init__(self, patience: int = 3_000) -> None:
        self.patience = integer("callbacks.information.patience", patience, at_least=1)
        self._since: tuple[int, float] | None = None  # the step from which on it is near 0, and the nats there
        self._closed_since: int | None = None  # the step from which on the KL is near 0
        self._first: tuple[int, float] | None = None  # the first step at which a reconstruction is known, and this
        self._said = False

    def state_dict(self) -> dict[str, Any]:
        names = ("since", "closed_since", "first", "said")
        return {name: getattr(self, f"_{name}") for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, f"_{name}", value)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._said or step % trainer.log_every_n_steps:
            return
        logged = {name.removeprefix("train/"): value for name, value in trainer.logged_metrics.items()}
        terms = {name: float(logged[name]) for name in _READ if name in logged}
        if "kl" not in terms:
            return
        found = [rule(step, terms) for rule in (self._tells_nothing, self._stands_still, self._is_closed)]
        for said in found:
            if said is not None and not self._said:
                self._said = True
                if trainer.is_global_zero:
                    log.warning("at step %s %s", f"{step:,}", said)

    def _tells_nothing(self, step: int, terms: dict[str, float]) -> str | None:
        """Look whether the code carries next to none of nats that rise."""
        nats = _nats(terms)
        if terms.get("information", nats) >= _SHARE * nats:
            self._since = None
        elif self._since is None:
            self._since = step, nats
        elif step - self._since[0] >= self.patience and nats > self._since[1] + _RISE:
            return (
                f"the latent code carries {terms['information']:.2f} of {nats:.2f} nats and has told nothing of the "
                f"images for {step - self._since[0]:,} steps; try another seed, a smaller weight of the KL, "
                "scheduler=warmup or, with loss=capacity, loss.charge_offset=true"
            )
        return None

    def _stands_still(self, step: int, terms: dict[str, float]) -> str | None:
        """Look whether the reconstruction of a model that knows nothing is still what it was at first."""
        if "reconstruction" not in terms:
            return None
        now = terms["reconstruction"]
        if self._first is None:
            self._first = step, now
        began, first = self._first
        if math.isinf(first):
            return None
        if now <= first - _FALL * abs(first) or terms["kl"] >= _UNTRAINED:
            self._first = began, math.inf  # it has learned something
        elif step - began >= self.patience:
            return (
                f"the reconstruction is {now:,.1f} nats, as it was at step {began:,}: nothing has been learned; try a "
                "larger optimizer.lr, another seed or a smaller weight of the KL"
            )
        return None

    def _is_closed(self, step: int, terms: dict[str, float]) -> str | None:
        """Look whether the KL, and what the objective would have of it, is near 0."""
        if _nats(terms) >= _CLOSED:
            self._closed_since = None
        elif self._closed_since is None:
            self._closed_since = step
        elif step - self._closed_since >= self.patience:
            return (
                f"the KL is {terms['kl']:.2f} nats and has been near 0 for {step - self._closed_since:,} steps: all "
                "images are decoded alike; try a smaller weight of the KL (loss.beta, loss.gamma), another seed or a "
                "larger optimizer.lr"
            )
        return None


def _nats(terms: dict[str, float]) -> float:
    """Return the KL, or the C that it is to have where this is larger."""
    return max(terms["kl"], terms.get("capacity", 0.0))
