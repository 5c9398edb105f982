"""The latent table: what each unit encodes, by its posterior's variance, its KL and the factors that it tells of."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from bvae.data.image_set import Factors
from bvae.files import atomic_write
from bvae.losses import Posterior, kl_divergence
from bvae.metrics import Codes, binned, entropy, mutual_information

# A unit is named after a factor that it shares at least this part of the factor's entropy with, and half as much
# again as it shares with any other.
CLEAR_SHARE = 0.1
CSV_COLUMNS = ("unit", "variance", "kl", "active", "factor", "correlation", "normalized_mi")


@dataclass(frozen=True)
class LatentUnit:
    """One unit: a row of the latent table."""

    unit: int
    variance: float  # σ² of the posterior, averaged over the images; NaN where there is none
    kl: float  # nats, averaged over the images; NaN where there is no posterior
    active: bool
    factor: str = ""  # that it shares the most information with; empty where there are no factors
    correlation: float = math.nan  # of the posterior mean with that factor's class index
    normalized_mi: float = math.nan  # the information over the factor's entropy
    name: str = ""  # the factor's, where it is clear
    shares: tuple[float, ...] = ()  # the information with each factor over the factor's entropy


def latent_table(codes: Codes, factors: Factors | None) -> list[LatentUnit]:
    """Tabulate the units, the one with the most KL first, or without posteriors the one that tells most of a factor.

    A unit is active where its posterior's mean variance lies under 0.85, and without a posterior where its code's
    variance lies over 0.01.
    """
    means, classes = codes.mean.numpy(), codes.factors.numpy()
    share = np.empty((means.shape[1], 0))
    if factors is not None:
        share = mutual_information(means, classes) / np.maximum(entropy(binned(classes)), 1e-12)
    if codes.log_variance is None:
        variances = kls = np.full(means.shape[1], np.nan)
        order = np.argsort(share.max(axis=1))[::-1]
    else:
        variances = codes.log_variance.exp().mean(dim=0).numpy()
        kls = kl_divergence(Posterior(codes.mean, codes.log_variance)).mean(dim=0).numpy()
        order = np.argsort(kls)[::-1]
    actives = codes.active().numpy()
    rows = []
    for unit in order.tolist():
        row = LatentUnit(unit, float(variances[unit]), float(kls[unit]), bool(actives[unit]))
        if factors is not None:
            row = replace(row, **_follows(means[:, unit], share[unit], classes, factors, row.active))
        rows.append(row)
    return rows


def _follows(
    code: np.ndarray, share: np.ndarray, classes: np.ndarray, factors: Factors, active: bool
) -> dict[str, Any]:
    """Work out what a unit's row says of the factors."""
    first = share.argmax()
    second = np.delete(share, first).max(initial=0.0)
    clear = active and share[first] >= max(CLEAR_SHARE, 1.5 * second)
    return {
        "factor": factors.names[first],
        "correlation": _correlation(code, classes[:, first]),
        "normalized_mi": float(share[first]),
        "name": factors.label(factors.names[first]) if clear else "",
        "shares": tuple(share.tolist()),
    }


def write_csv(rows: list[LatentUnit], path: Path) -> None:
    """Write the table with the columns of CSV_COLUMNS, those about factors where there are factors."""
    columns = CSV_COLUMNS if any(row.factor for row in rows) else CSV_COLUMNS[: CSV_COLUMNS.index("factor")]
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _correlation(code: np.ndarray, factor: np.ndarray) -> float:
    if np.ptp(code) == 0 or np.ptp(factor) == 0:
        return 0.0  # a constant follows nothing
    return float(np.corrcoef(code.astype(np.float64), factor)[0, 1])


def caption(unit: LatentUnit) -> str:
    """Say what the unit encodes, in a word or two."""
    if unit.name:
        return unit.name
    if not unit.active:
        return "hardly moves" if math.isnan(unit.variance) else "at the prior"
    if not unit.factor:
        return "active"
    return f"mixed ({unit.factor})" if unit.normalized_mi >= CLEAR_SHARE else "no factor"


def terminal_table(rows: Sequence[LatentUnit]) -> Table:
    """Lay the latent table out for a terminal."""
    follows = ("follows", "correlation", "MI / H") if any(row.factor for row in rows) else ()
    table = Table("unit", "variance", "KL (nats)", *follows, "name", title="Latent units")
    for row in rows:
        variance, kl = ("–", "–") if math.isnan(row.variance) else (f"{row.variance:.5f}", f"{row.kl:.2f}")
        cells = (escape(row.factor), f"{row.correlation:+.2f}", f"{row.normalized_mi:.2f}") if follows else ()
        style = None if row.active else "dim"
        table.add_row(str(row.unit), variance, kl, *cells, escape(caption(row)), style=style)
    return table
