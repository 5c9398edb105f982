"""Pictures that a report shows beside the traversals: reconstructions of a few kinds of images, and samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bvae.data.image_set import Factors
from bvae.evaluation.pictures import pixels
from bvae.model import VAE

_BATCH = 500
_MOST_CLASSES = 8  # of a category, whose images are shown class by class
_SAMPLES = 24


@dataclass(frozen=True)
class Examples:
    """Images of one kind with their reconstructions from the posterior means: pixels (n, H, W, C), uint8."""

    title: str
    originals: np.ndarray
    reconstructions: np.ndarray
    reconstruction: float  # −log p(x|z) in nats, averaged over the kind's images, not only those that are shown


@torch.no_grad()
def examples(vae: VAE, images: Tensor, classes: np.ndarray, factors: Factors | None, n: int) -> list[Examples]:
    """Choose n images of each class of the first category that has few, and the n that are reconstructed worst.

    Args:
        vae: the model, in evaluation mode.
        images: (N, C, H, W), to choose from.
        classes: (N, K), their factors.
        factors: of the images, None without.
        n: how many of each kind.
    """
    decoded, costs = [], []
    for batch in images.split(_BATCH):
        logits = vae.decode(vae.encode(batch).mean)
        decoded.append(vae.likelihood.mean(logits))
        costs.append(-vae.likelihood.log_prob(batch, logits))
    reconstructed, cost = torch.cat(decoded), torch.cat(costs).cpu()
    found = []
    for title, rows in _kinds(cost, classes, factors, n):
        shown = rows[:n]
        found.append(Examples(title, pixels(images[shown]), pixels(reconstructed[shown]), float(cost[rows].mean())))
    return found


def _kinds(cost: Tensor, classes: np.ndarray, factors: Factors | None, n: int) -> Iterator[tuple[str, Tensor]]:
    columns = {name: classes[:, factors.names.index(name)] for name in factors.categories} if factors else {}
    values_of = {name: np.unique(column[~np.isnan(column)]).astype(int) for name, column in columns.items()}
    few = [name for name, values in values_of.items() if 1 < len(values) <= _MOST_CLASSES]
    value_names, label = (factors.value_names, factors.label) if factors else ({}, str)
    for name in few[:1]:
        names = value_names.get(name)
        for value in values_of[name].tolist():
            title = names[value] if names else f"{label(name)} {value}"
            yield title, torch.from_numpy(np.flatnonzero(columns[name] == value))
    yield f"the worst of {len(cost):,}", cost.argsort(descending=True, stable=True)[:n]


@torch.no_grad()
def samples(vae: VAE, latent_dim: int) -> np.ndarray:
    """Decode latents from the prior, the same at each call: pixels (24, H, W, C)."""
    latents = torch.randn(_SAMPLES, latent_dim, generator=torch.Generator().manual_seed(0))
    return pixels(vae.pictures(latents.to(vae.device)))
