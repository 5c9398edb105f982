"""A small grid, models and units for the explorer's page."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bvae.data.image_set import FactorGrid
from bvae.evaluation import LatentUnit

GRAY, SIZES = (1, 2, 4), (2, 4, 3)


class Grid:
    """A picture for each combination: its eight pixels are the bits of its number, half as bright."""

    shape = GRAY
    factors = FactorGrid(
        ("kind", "turn", "size"),
        SIZES,
        {"kind": ("disc", "bar")},
        {"size": "scale"},
        angles=("turn",),
        categories=("kind",),
    )

    def __len__(self):
        return 24

    def __getitem__(self, indices):
        return torch.from_numpy(np.asarray(indices)), torch.from_numpy(self.factors.classes_of(indices))

    def decode(self, batch):
        return ((batch[:, None] >> torch.arange(8)) & 1).float().view(-1, *GRAY) / 2


def numbers(n: int) -> np.ndarray:
    return (np.asarray(n) >> np.arange(8)) & 1


class Sine(nn.Module):
    """What the page has no version of."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, latents):
        return latents.sin().unflatten(1, GRAY)


def table(*active: int, units: int = 8) -> list[LatentUnit]:
    return [LatentUnit(unit, 0.25, 1.234, unit in active, name=f"u{unit}") for unit in reversed(range(units))]


def opened(browser, path) -> None:
    browser.set_window_size(1280, 1000)
    browser.get(f"file://{path}")
    browser.execute_async_script(
        "const done = arguments[0];"
        "const wait = () => window.explorer ? requestAnimationFrame(done) : setTimeout(wait, 20); wait()"
    )
