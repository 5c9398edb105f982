"""The states of the generators that a training's noise is drawn from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def random_states() -> dict[str, Tensor]:
    """Return the states of the generators that the noise is drawn from, by device."""
    states = {"cpu": torch.get_rng_state()}
    return states | {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}


def set_random_states(states: dict[str, Tensor]) -> None:
    """Put these generators where they were when the states were returned."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state.cpu())
        elif torch.device(device).index < torch.cuda.device_count():  # of those that were visible then
            torch.cuda.set_rng_state(state.cpu(), device)


def of_every_process(states: dict[str, Any]) -> list[dict[str, Any]]:
    """Gather what each of the processes has that train together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [states]
    every: list = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, states)
    return every
