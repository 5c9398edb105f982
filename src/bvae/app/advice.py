"""What to change in the configuration of a model that has learned too little, too much or the images by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bvae import losses
from bvae.evaluation import Evaluation, LatentUnit
from bvae.losses import Posterior, offset

_OFFSET = 0.5  # nats that all units together may have without telling anything
_MEMORISED = 2.0  # times the error of trained images, from which on that of held-out ones
_CLEAR = 0.05  # of the mean picture's error, below which no difference matters
_OTHER_WAY = {"lower": "raise", "raise": "lower"}


def advice(found: Evaluation, loss: Any) -> list[str]:
    """Say what to change, each with its keys and their present values; nothing if all is well.

    Args:
        found: what the model has learned.
        loss: the objective's configuration; of a class that isn't bvae's no key is known.
    """
    return [*_on_units(found.table, loss), *_on_offset(found), *_on_errors(found)]


def _on_units(table: Sequence[LatentUnit], loss: Any) -> Iterator[str]:
    active = [row for row in table if row.active]
    if not active:
        keys = [*_keys(loss, opens=True), "train for longer, with trainer.max_steps"]
        yield f"To open units: {'; '.join(keys)}."
    elif len(active) == len(table) and not all(row.name for row in active):
        keys = [*_keys(loss, opens=False), "or give the model more units, with model.latent_dim"]
        yield f"All {len(table)} units are active, which mixes factors. To close some: {'; '.join(keys)}."


def _on_offset(found: Evaluation) -> Iterator[str]:
    if found.codes.log_variance is None:
        return
    idle = float(offset(Posterior(found.codes.mean, found.codes.log_variance)).sum())
    if idle > _OFFSET:
        yield (
            f"{idle:.1f} nats of the KL are an offset, which every image shares and which tells nothing: train for "
            "longer, with trainer.max_steps, or start at the images' mean, as experiment=own does."
        )


def _on_errors(found: Evaluation) -> Iterator[str]:
    errors = found.errors
    if errors is None or math.isnan(errors.held_out):
        return
    if (
        errors.held_out > _MEMORISED * errors.trained
        and errors.held_out - errors.trained > _CLEAR * errors.mean_picture
    ):
        yield (
            f"The images are memorised: held-out ones have {errors.held_out / errors.trained:.1f} times the error of "
            "trained ones. Take more images, fewer steps (trainer.max_steps), or smaller ones (data.size=32)."
        )


def _keys(loss: Any, opens: bool) -> list[str]:
    values = loss if isinstance(loss, Mapping) else {}
    kind = getattr(losses, str(values.get("_target_")).rpartition(".")[2], None)
    return [
        f"{what if opens else _OTHER_WAY[what]} loss.{name}, now {_plain(values[name])}"
        for name, what in getattr(kind, "opens_units", ())
        if name in values
    ]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
