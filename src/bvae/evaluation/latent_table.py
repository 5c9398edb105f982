"""The latent table: what each unit encodes, by its posterior's variance, its KL and the factors that it tells of."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bvae.data.image_set import Factors
from bvae.evaluation.numbers import nats, signed, significant
from bvae.evaluation.shares import BINS, shares
from bvae.files import atomic_write
from bvae.losses import Posterior, kl_divergence
from bvae.metrics import Codes, binned, conditional_information, entropy

# A unit is named after a factor that it shares at least this part of the factor's entropy with, and half as much
# again as it shares with any other.
CLEAR_SHARE = 0.1
CLEARLY = 1.5
_NOISE = 0.02  # a share that noise may have, under which two can't be told apart
_OFFSET = 0.1  # nats of KL, over which a unit that isn't active lies beside the prior: its mean is constant


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
    given: str = ""  # the category, such as the shape, within whose classes the information is taken too
    factor_given: str = ""  # that it shares the most information with there
    normalized_mi_given: float = math.nan
    shares_given: tuple[float, ...] = ()
    variance_at_picture: float = math.nan  # σ² at the image that papers quote, see `Factors.quoted`
    labels: Mapping[str, str] = field(default_factory=dict)  # what people call some factors, see `Factors.labels`
    called: str = ""  # what people call the unit, see `bvae.evaluation.names`

    @property
    def follows(self) -> str:
        """The factor that it shares the most information with, as people call it."""
        return self.labels.get(self.factor, self.factor)

    @property
    def follows_given(self) -> str:
        """The same within the category's classes."""
        return self.labels.get(self.factor_given, self.factor_given)


def latent_table(codes: Codes, factors: Factors | None, quoted: np.ndarray | None = None) -> list[LatentUnit]:
    """Tabulate the units, the one with the most KL first, or without posteriors the one that tells most of a factor.

    Which are active, `Codes.active` says. A unit is named by what it tells of the factors, or, where that is clearer,
    by what it tells of them given the category: the code of a rotation spreads further for a shape that shows it more,
    and so tells of the shape too.

    Args:
        codes: of the images; where a factor isn't known it is NaN.
        factors: of the images, None without.
        quoted: (D,), the variances at the image that `factors.quoted` says.
    """
    means, classes = codes.mean.numpy(), codes.factors.numpy()
    share, given, share_given = np.empty((means.shape[1], 0)), "", None
    if factors is not None:
        share = shares(means, classes)
        given, share_given = _shares_given(codes.labelled(), factors)
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
        if quoted is not None:
            row = replace(row, variance_at_picture=float(quoted[unit]))
        if factors is not None:
            row = replace(row, **_follows(means[:, unit], share[unit], classes, factors))
            within_unit = None if share_given is None else share_given[unit]
            row = replace(
                row, **_given(given, within_unit, factors), name=_name(row, share[unit], within_unit, factors)
            )
        rows.append(row)
    return rows


def _shares_given(labelled: Codes, factors: Factors) -> tuple[str, np.ndarray | None]:
    """Find a category, and what units share with each factor within its classes (D, K); "" and None without one."""
    means, classes = labelled.mean.numpy(), labelled.factors.numpy()
    given = category_of(factors, classes) if len(classes) else ""
    if not given:
        return "", None
    whole = np.maximum(entropy(binned(classes)), 1e-12)
    return given, conditional_information(means, classes, classes[:, factors.names.index(given)]) / whole


def category_of(factors: Factors, classes: np.ndarray) -> str:
    """Find the first category whose classes have enough images (N, K) each to take information within them.

    Enough is one for each cell of the bins of a code and the values of a factor. Empty where there is none.
    """
    cells = BINS * max(len(np.unique(column)) for column in binned(classes).T)
    for name in factors.categories:
        counts = np.unique(classes[:, factors.names.index(name)], return_counts=True)[1]
        if len(counts) > 1 and counts.min() >= cells:
            return name
    return ""


def _follows(code: np.ndarray, share: np.ndarray, classes: np.ndarray, factors: Factors) -> dict[str, Any]:
    """Work out what a unit's row says of the factors."""
    first = share.argmax()
    return {
        "factor": factors.names[first],
        "labels": factors.labels,
        "correlation": _correlation(code, classes[:, first]),
        "normalized_mi": float(share[first]),
        "shares": tuple(share.tolist()),
    }


def _given(given: str, share: np.ndarray | None, factors: Factors) -> dict[str, Any]:
    """Work out what a unit's row says of the factors within the category's classes."""
    if share is None:
        return {}
    return {
        "given": given,
        "factor_given": factors.names[share.argmax()],
        "normalized_mi_given": float(share.max()),
        "shares_given": tuple(share.tolist()),
    }


def _name(row: LatentUnit, share: np.ndarray, share_given: np.ndarray | None, factors: Factors) -> str:
    """Name a unit after the factor that it tells clearly, by the shares that set it further apart from the others."""
    clear = [s for s in (share, share_given) if s is not None and s.max() >= CLEAR_SHARE and _clarity(s) >= CLEARLY]
    if not row.active or not clear:
        return ""
    return factors.label(factors.names[max(clear, key=_clarity).argmax()])


def _clarity(share: np.ndarray) -> float:
    """How many times as much a unit shares with one factor as with any other."""
    return float(share.max() / max(_NOISE, np.delete(share, share.argmax()).max(initial=0.0)))


def columns(rows: Sequence[LatentUnit]) -> tuple[str, ...]:
    """List the columns of `latents.csv`: those about factors where there are any, and so on."""
    found: tuple[str, ...] = ("unit", "variance", "kl", "active")
    if any(row.factor for row in rows):
        found += ("factor", "correlation", "normalized_mi", "name")
    if any(row.given for row in rows):
        found += ("given", "factor_given", "normalized_mi_given")
    if not all(math.isnan(row.variance_at_picture) for row in rows):
        found += ("variance_at_picture",)
    if any(row.called for row in rows):
        found += ("called",)
    return found


def write_csv(rows: Sequence[LatentUnit], path: Path) -> None:
    """Write the table, a row a unit."""
    shown = columns(rows)
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(shown)
        writer.writerows([csv_cell(getattr(row, column)) for column in shown] for row in rows)


def csv_cell(value: Any, before: str = "'") -> Any:
    """Put something before a text that a spreadsheet would compute as a formula, as names from elsewhere may be."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return before + value if is_formula else value


def _correlation(code: np.ndarray, factor: np.ndarray) -> float:
    known = ~np.isnan(factor)
    code, factor = code[known], factor[known]
    if np.ptp(code) == 0 or np.ptp(factor) == 0:
        return 0.0  # a constant follows nothing
    return float(np.corrcoef(code.astype(np.float64), factor)[0, 1])


def caption(unit: LatentUnit) -> str:
    """Say what the unit encodes, in a word or two."""
    if unit.called or unit.name:
        return unit.called or unit.name
    if not unit.active:
        return "hardly moves" if math.isnan(unit.variance) else "at the prior" if unit.kl < _OFFSET else "tells nothing"
    if not unit.factor:
        return "active"
    return f"mixed ({unit.follows})" if unit.normalized_mi >= CLEAR_SHARE else "no factor"


def terminal_table(rows: Sequence[LatentUnit]) -> Table:
    """Lay the latent table out for a terminal."""
    follows = ("follows", "corr.", "MI / H") if any(row.factor for row in rows) else ()
    table = Table("unit", "name", "variance", "KL (nats)", *follows, title="Latent units")
    for row in rows:
        cells = (row.follows, signed(row.correlation), f"{row.normalized_mi:.2f}") if follows else ()
        style = None if row.active else "dim"
        table.add_row(str(row.unit), caption(row), significant(row.variance), nats(row.kl), *cells, style=style)
    return table
