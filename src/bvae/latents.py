"""What each latent unit encodes: the codes of many images, and the table of the units."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from bvae.losses import Posterior, kl_divergence
from bvae.metrics import entropy, mutual_information
from bvae.vae import VAE

# A unit is active where the mean variance of its posterior lies below this; the prior's is 1.
ACTIVE_BELOW = 0.85
# A unit is named after a factor that it shares at least this part of the factor's entropy with, and half as much
# again as it shares with any other.
_CLEAR_SHARE = 0.1


class Codes(NamedTuple):
    """Posteriors of N images, and the images' factors."""

    posterior: Posterior  # mean and log σ², each (N, D), on the CPU
    factors: np.ndarray  # (N, K) int


@dataclass(frozen=True)
class LatentUnit:
    """A row of the latent table."""

    unit: int
    variance: float  # σ² of the posterior, averaged over the images
    kl: float  # nats, averaged over the images
    active: bool
    factor: str  # that it shares the most information with
    correlation: float  # of the posterior mean with that factor's class index
    normalized_mi: float  # the information over the factor's entropy
    name: str  # the factor's, where it is clear; kept out of the CSV


@torch.no_grad()
def encode(vae: VAE, datamodule: LightningDataModule) -> tuple[Codes, Tensor]:
    """The codes of the images that the data module's `predict_dataloader` serves, and its first batch's images."""
    means, log_variances, all_factors = [], [], []
    first = None
    for batch in datamodule.predict_dataloader():
        batch = datamodule.transfer_batch_to_device(batch, vae.device, 0)
        images, factors = datamodule.on_after_batch_transfer(batch, 0)
        first = images if first is None else first
        posterior = vae.encode(images)
        means.append(posterior.mean.float().cpu())
        log_variances.append(posterior.log_variance.float().cpu())
        all_factors.append(factors.cpu())
    return Codes(Posterior(torch.cat(means), torch.cat(log_variances)), torch.cat(all_factors).numpy()), first


def latent_table(codes: Codes, factor_names: tuple[str, ...]) -> list[LatentUnit]:
    """The units, the one with the most KL first."""
    means = codes.posterior.mean.numpy()
    variances = codes.posterior.log_variance.exp().mean(dim=0).tolist()
    kls = kl_divergence(codes.posterior).mean(dim=0).tolist()
    share = mutual_information(means, codes.factors) / np.maximum(entropy(codes.factors), 1e-12)
    rows = []
    for unit in np.argsort(kls)[::-1].tolist():
        second, first = np.argsort(share[unit])[-2:]
        active = variances[unit] < ACTIVE_BELOW
        clear = active and share[unit, first] >= max(_CLEAR_SHARE, 1.5 * share[unit, second])
        rows.append(
            LatentUnit(
                unit=unit,
                variance=variances[unit],
                kl=kls[unit],
                active=active,
                factor=factor_names[first],
                correlation=_correlation(means[:, unit], codes.factors[:, first]),
                normalized_mi=float(share[unit, first]),
                name=_readable(factor_names[first]) if clear else "",
            )
        )
    return rows


def write_csv(rows: list[LatentUnit], path: Path) -> None:
    """The table with the columns unit, variance, kl, active, factor, correlation, normalized_mi."""
    columns = [field.name for field in fields(LatentUnit) if field.name != "name"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _correlation(code: np.ndarray, factor: np.ndarray) -> float:
    if np.ptp(code) == 0 or np.ptp(factor) == 0:
        return 0.0  # a constant follows nothing
    return float(np.corrcoef(code.astype(np.float64), factor)[0, 1])


def _readable(factor: str) -> str:
    return {"posX": "pos X", "posY": "pos Y", "orientation": "rotation"}.get(factor, factor)
