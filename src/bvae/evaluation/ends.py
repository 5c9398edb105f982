"""The images at both ends of a unit, which show people what no factor names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bvae.evaluation.latent_table import LatentUnit
from bvae.evaluation.pictures import pixels
from bvae.model import VAE

_BATCH = 500
_SHOWN = 8


@dataclass(frozen=True)
class Ends:
    """Images with the lowest and the highest codes of a unit, from low to high: pixels (n, H, W, C), uint8."""

    unit: int
    lowest: np.ndarray
    highest: np.ndarray


def ends(vae: VAE, images: Tensor, table: Sequence[LatentUnit]) -> list[Ends]:
    """Take the eight images at each end of every active unit, by the means of their posteriors.

    Args:
        vae: the model, in evaluation mode.
        images: (N, C, H, W), to choose from; fewer than 16 are shared between both ends.
        table: the latent table, whose order the units come in.
    """
    with torch.no_grad():
        means = torch.cat([vae.encode(batch).mean for batch in images.split(_BATCH)])
    found = []
    for unit in (row.unit for row in table if row.active):
        lowest, highest = end_rows(means[:, unit])
        found.append(Ends(unit, pixels(images[lowest]), pixels(images[highest])))
    return found


def end_rows(code: Tensor, n: int = _SHOWN) -> tuple[Tensor, Tensor]:
    """Find the rows with the n lowest and the n highest codes (N,), both from low to high; no row is among both."""
    order = code.argsort(stable=True)
    n = min(n, len(order) // 2)
    return order[:n], order[len(order) - n :]
