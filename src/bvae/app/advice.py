"""What to change in the configuration of a model whose units are all idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bvae import losses
from bvae.evaluation import LatentUnit


def advice(table: Sequence[LatentUnit], loss: Any) -> str:
    """Name the objective's keys that open units, with their present values; empty where a unit is active.

    Args:
        table: the units.
        loss: the objective's configuration; of a class that isn't bvae's no key is known.
    """
    if any(row.active for row in table):
        return ""
    values = loss if isinstance(loss, Mapping) else {}
    kind = getattr(losses, str(values.get("_target_")).rpartition(".")[2], None)
    keys = [
        f"{what} loss.{name}, now {_plain(values[name])}"
        for name, what in getattr(kind, "opens_units", ())
        if name in values
    ]
    return f"To open units: {'; '.join([*keys, 'train for longer, with trainer.max_steps'])}."


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
