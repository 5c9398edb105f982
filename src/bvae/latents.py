"""What each latent unit encodes: the codes of many images, and the table of the units."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bvae.losses import Posterior, kl_divergence
from bvae.metrics import entropy, mutual_information
from bvae.vae import VAE, NotFinite, images_of

# A unit is active where the mean variance of its posterior lies below this; the prior's is 1.
ACTIVE_BELOW = 0.85
# A unit is named after a factor that it shares at least this part of the factor's entropy with, and half as much
# again as it shares with any other.
CLEAR_SHARE = 0.1
CSV_COLUMNS = ("unit", "variance", "kl", "active", "factor", "correlation", "normalized_mi")


class Codes(NamedTuple):
    """The posteriors of N images, and the images' factors."""

    mean: Tensor  # (N, D), on the CPU
    log_variance: Tensor | None  # (N, D); none of an encoder that has no posterior
    factors: np.ndarray  # (N, K) int; K is 0 where there are none


@dataclass(frozen=True)
class LatentUnit:
    """A row of the latent table."""

    unit: int
    variance: float  # σ² of the posterior, averaged over the images; NaN where there is none
    kl: float  # nats, averaged over the images; NaN where there is no posterior
    active: bool
    factor: str = ""  # that it shares the most information with; empty where there are no factors
    correlation: float = math.nan  # of the posterior mean with that factor's class index
    normalized_mi: float = math.nan  # the information over the factor's entropy
    name: str = ""  # the factor's, where it is clear
    shares: tuple[float, ...] = ()  # the information with each factor over the factor's entropy


@torch.no_grad()
def encode(vae: VAE, datamodule: LightningDataModule, every_image: bool = False) -> Codes:
    """The codes of the images that the data module's `predict_dataloader` serves.

    With `every_image`, of those of its `test_dataloader`, which takes longer and shows a progress bar. Raises NotFinite
    where the encoder gives NaN or infinity.
    """
    batches = datamodule.test_dataloader() if every_image else datamodule.predict_dataloader()
    quiet = not (every_image and Console().is_terminal)
    codes, n = None, 0
    for batch in track(batches, "Encoding every image", total=len(batches), transient=True, disable=quiet):
        batch = _on_device(batch, datamodule, vae.device)
        images = images_of(batch)
        factors = images.new_empty(len(images), 0) if batch is images or len(batch) < 2 else batch[1]
        posterior = vae.encode(images)
        found = (*posterior, factors.reshape(len(images), -1))  # labels (B,) are one factor
        if codes is None:
            # Room for all at once: small results kept from each batch would lie between the large blocks that the
            # next one could have used again, and the process would grow by gigabytes.
            most = len(batches) * len(images)
            codes = [torch.empty((most, part.shape[1]), dtype=part.dtype) for part in found]
        for kept, part in zip(codes, found, strict=True):
            kept[n : n + len(images)] = part
        n += len(images)
    mean, log_variance, all_factors = (kept[:n] for kept in codes)
    if not mean.isfinite().all():
        raise NotFinite("the encoder's means are NaN or infinite: the model has diverged")
    return Codes(mean.float(), log_variance.float(), all_factors.numpy())


@torch.no_grad()
def elbo_terms(vae: VAE, datamodule: LightningDataModule) -> dict[str, float]:
    """The reconstruction and the KL in nats, and the number of images n that they are means over.

    The images are those of the data module's `predict_dataloader`, each decoded from one sample of its posterior.
    """
    generator = torch.Generator(vae.device).manual_seed(0)  # the same noise each time, and the global one left alone
    sums, n = {"reconstruction": 0.0, "kl": 0.0}, 0
    for batch in datamodule.predict_dataloader():
        images = images_of(_on_device(batch, datamodule, vae.device))
        posterior = vae.encode(images)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=vae.device)
        logits = vae.decode(posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise)
        terms = vae.loss.terms(images, logits, posterior)
        sums = {name: total + len(images) * float(terms[name]) for name, total in sums.items()}
        n += len(images)
    return {name: total / n for name, total in sums.items()} | {"n": n}


def sample_images(datamodule: LightningDataModule, n: int, device: torch.device) -> Tensor:
    """The first n images that the data module's `predict_dataloader` serves, fewer where it has fewer: (n, C, H, W)."""
    batches, found = [], 0
    for batch in datamodule.predict_dataloader():
        batches.append(images_of(_on_device(batch, datamodule, device)))
        found += len(batches[-1])
        if found >= n:
            break
    return torch.cat(batches)[:n]


def _on_device(batch: Any, datamodule: LightningDataModule, device: torch.device) -> Any:
    """A batch as a trainer would hand it to the model."""
    return datamodule.on_after_batch_transfer(datamodule.transfer_batch_to_device(batch, device, 0), 0)


def latent_table(codes: Codes, factor_names: tuple[str, ...]) -> list[LatentUnit]:
    """The units, the one with the most KL first; where there is no posterior, the one that tells most of a factor.

    A unit is active where its posterior's mean variance lies under 0.85, and without a posterior where its code's
    variance lies over 0.01.
    """
    means = codes.mean.numpy()
    share = np.empty((means.shape[1], 0))
    if factor_names:
        share = mutual_information(means, codes.factors) / np.maximum(entropy(codes.factors), 1e-12)
    if codes.log_variance is None:
        variances = kls = np.full(means.shape[1], np.nan)
        actives, order = means.var(axis=0) > 0.01, np.argsort(share.max(axis=1))[::-1]
    else:
        variances = codes.log_variance.exp().mean(dim=0).numpy()
        kls = kl_divergence(Posterior(codes.mean, codes.log_variance)).mean(dim=0).numpy()
        actives, order = variances < ACTIVE_BELOW, np.argsort(kls)[::-1]
    rows = []
    for unit in order.tolist():
        row = LatentUnit(unit, float(variances[unit]), float(kls[unit]), bool(actives[unit]))
        if factor_names:
            row = replace(row, **_follows(means[:, unit], share[unit], codes.factors, factor_names, row.active))
        rows.append(row)
    return rows


def _follows(
    code: np.ndarray, share: np.ndarray, factors: np.ndarray, factor_names: tuple[str, ...], active: bool
) -> dict[str, Any]:
    """What a unit's row says of the factors."""
    first = share.argmax()
    second = np.delete(share, first).max(initial=0.0)
    clear = active and share[first] >= max(CLEAR_SHARE, 1.5 * second)
    return {
        "factor": factor_names[first],
        "correlation": _correlation(code, factors[:, first]),
        "normalized_mi": float(share[first]),
        "name": _readable(factor_names[first]) if clear else "",
        "shares": tuple(share.tolist()),
    }


def write_csv(rows: list[LatentUnit], path: Path) -> None:
    """The table with the columns of CSV_COLUMNS, those about factors where there are factors."""
    columns = CSV_COLUMNS if any(row.factor for row in rows) else CSV_COLUMNS[: CSV_COLUMNS.index("factor")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _correlation(code: np.ndarray, factor: np.ndarray) -> float:
    if np.ptp(code) == 0 or np.ptp(factor) == 0:
        return 0.0  # a constant follows nothing
    return float(np.corrcoef(code.astype(np.float64), factor)[0, 1])


def _readable(factor: str) -> str:
    return {"posX": "pos X", "posY": "pos Y", "orientation": "rotation"}.get(factor, factor)
