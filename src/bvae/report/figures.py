"""A run's plots: its training's curves, how its units respond to the factors, and their codes beside the prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from bvae.data.image_set import Factors
from bvae.evaluation import LatentUnit
from bvae.evaluation.latent_table import caption
from bvae.evaluation.numbers import signed
from bvae.metrics import binned
from bvae.metrics.arrays import is_continuous
from bvae.received import intact
from bvae.report.plots import GREY, INK, Plot, colour, plot
from bvae.runs.metrics_table import Column, metrics_table

_NATS = {"kl": "KL", "capacity": "C", "target_kl": "target", "information": "information", "offset": "offset"}
_WANTED = ("C", "target")  # what the KL is steered to, dashed over it
_MOST_POINTS = 400  # of a curve; more are averaged
_MOST_LINES = 12  # of a chart, one a class of a category
_IMAGES_A_CELL = 40  # of a map, so that its cells are more than noise
_CODES = np.linspace(-4.0, 4.0, 41)  # edges of a histogram's bins


@dataclass(frozen=True)
class _Line:
    steps: np.ndarray
    values: np.ndarray
    colour: str
    dashed: bool = False


def training_curves(path: Path, table: Sequence[LatentUnit] = ()) -> list[Plot]:
    """Draw the curves of a `metrics.csv`, those that it has; a unit is called what the latent table calls it."""
    found = intact(metrics_table, path) or {}
    dying = [name for name, column in found.items() if "/dead_features/" in name and column.values.any()]
    wanted = [
        ("Reconstruction", "nats", {"train/reconstruction": "training", "val/reconstruction": "held out"}),
        ("KL", "nats", {f"train/{name}": label for name, label in _NATS.items()}),
        ("MIG", "", {"scores/mig": "MIG"}),
        ("Dead features", "share of a layer", {name: name.rpartition("/")[2] for name in dying}),
        ("Speed", "images/s", {"train/images_per_second": "images/s"}),
    ]
    drawn = {name for _, _, names in wanted for name in names} | {"train/loss"}
    drawn |= {name for name in found if name.startswith(("train/kl_unit/", "train/dead_features/"))}
    # Whatever else the objective logs, such as its β, where that changes.
    others = [name for name in found if name.startswith("train/") and name not in drawn and np.ptp(found[name].values)]
    wanted[2:2] = [(name.removeprefix("train/").replace("_", " "), "", {name: name}) for name in others]
    plots = []
    for title, unit, names in wanted:
        shown = {label: averaged(found[name]) for name, label in names.items() if name in found}
        lines = {
            label: _Line(*column, INK if label in _WANTED else colour(n), label in _WANTED)
            for n, (label, column) in enumerate(shown.items())
        }
        plots += _curves(title, unit, lines)
    plots[2:2] = _curves("KL of each unit", "nats", _units(found, table))
    return plots


def _units(found: Mapping[str, Column], table: Sequence[LatentUnit]) -> dict[str, _Line]:
    """A line a unit, idle ones grey and behind the others."""
    columns = {name.rpartition("/")[2]: found[name] for name in found if name.startswith("train/kl_unit/")}
    known = {str(row.unit): row for row in table}
    in_order = [*known, *columns]
    active = [unit for unit in sorted(columns, key=in_order.index) if unit not in known or known[unit].active]
    idle = {unit: _Line(*averaged(columns[unit]), GREY) for unit in columns if unit not in active}
    lines = {f"{unit}: {caption(known[unit])}": line for unit, line in idle.items()}
    for n, unit in enumerate(active):
        label = f"{unit}: {caption(known[unit])}" if unit in known else unit
        lines[label] = _Line(*averaged(columns[unit]), colour(n))
    return lines


def averaged(column: Column, points: int = _MOST_POINTS) -> Column:
    """Average a column to few points."""
    blocks = min(len(column.steps), points)
    return Column(*(np.array([part.mean() for part in np.array_split(axis, blocks)]) for axis in column))


def _curves(title: str, unit: str, lines: Mapping[str, _Line]) -> list[Plot]:
    """Draw lines over the steps, where there is more than a point of one."""
    if not lines or max(len(line.steps) for line in lines.values()) < 2:
        return []

    def draw(axes: Axes) -> None:
        for line in lines.values():
            marker = "o" if len(line.steps) < 12 else ""
            width, style = (0.8 if line.colour == GREY else 1.3), ("--" if line.dashed else "-")
            axes.plot(line.steps, line.values, style, color=line.colour, lw=width, marker=marker, ms=3)
        steps_below(axes)
        start_aside(axes, [line.values for line in lines.values()])

    ends = ", ".join(f"{label} from {line.values[0]:.3g} to {line.values[-1]:.3g}" for label, line in lines.items())
    title = f"{title} ({unit})" if unit else title
    coloured = [(line.colour, label) for label, line in lines.items() if line.colour != GREY]
    grey = [(GREY, "idle")] if len(coloured) < len(lines) else []
    last = next(iter(lines.values())).steps[-1]
    return [plot(title, f"{title} over {last:,.0f} steps: {ends}", draw, coloured + grey)]


def steps_below(axes: Axes) -> None:
    """Label the horizontal axis as steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))


def start_aside(axes: Axes, lines: Sequence[np.ndarray]) -> None:
    """Choose the vertical limits by what comes after the first tenth, where that would take less than half of them."""
    later = np.concatenate([values[math.ceil(len(values) / 10) :] for values in lines])
    low, high = np.nanmin(later), np.nanmax(later)
    if 0 < high - low < np.ptp(np.concatenate(lines)) / 2:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def histogram(code: np.ndarray) -> Plot:
    """Draw where a unit's latents (N,) lie, drawn from the posteriors, beside the prior N(0, 1)."""
    heights, _ = np.histogram(code, _CODES)
    at = np.linspace(_CODES[0], _CODES[-1], 121)

    def draw(axes: Axes) -> None:
        axes.stairs(heights / len(code) / (_CODES[1] - _CODES[0]), _CODES, fill=True, color=colour(0), alpha=0.6)
        axes.plot(at, np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi), color=INK, lw=1.1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)

    beyond = np.mean((code < _CODES[0]) | (code > _CODES[-1]))
    alt = f"mean {signed(code.mean())}, deviation {code.std():.2f}"
    return plot("", alt + (f", {beyond:.0%} beyond ±4" if beyond >= 0.005 else ""), draw, size=(2.4, 1.3))


def responses(code: np.ndarray, classes: np.ndarray, factors: Factors) -> list[Plot]:
    """Draw how the mean of a unit moves with each factor, all else averaged: after Fig. 7 of Burgess et al. (2018).

    A map of the positions, where two factors are positions, and a curve for each other factor, with a line for each
    class of the first category that has few enough for a legend. A map of a sample has as few cells as it takes to have
    forty images in each.

    Args:
        code: the unit's posterior means, (N,).
        classes: (N, K), the images' factors; continuous ones in 20 bins.
        factors: K, and of what kind they are.
    """
    continuous = is_continuous(classes)  # bins, some of which may be empty
    at = {
        name: column if continuous else np.unique(column, return_inverse=True)[1]
        for name, column in zip(factors.names, binned(classes).T, strict=True)
    }
    positions: tuple[str, ...] = factors.positions if len(factors.positions) == 2 else ()
    varying = [name for name in factors.names if name not in positions and at[name].max() > 0]
    category = next((name for name in factors.categories if name in varying and at[name].max() < _MOST_LINES), None)
    kinds = at[category] if category else np.zeros(len(code), dtype=int)
    known = factors.value_names.get(category) if category else None
    present = np.unique(classes[:, factors.names.index(category)]).astype(int) if category else ()
    kind_names = [known[k] if known else f"{factors.label(str(category))} {k}" for k in present]
    means = {name: _cell_means(code, kinds, at[name]) for name in varying if name != category or len(varying) == 1}
    place, width = None, 1
    if positions:
        x, y = (at[name] for name in positions)
        if len(code) < math.prod(factors.sizes):
            width = math.ceil(math.sqrt(_IMAGES_A_CELL * (x.max() + 1) * (y.max() + 1) / len(code)))
        place = _cell_means(code, y // width, x // width)
    shown = [*means.values(), *([] if place is None else [place])]
    if not shown:
        return []
    low, high = min(np.nanmin(cells) for cells in shown), max(np.nanmax(cells) for cells in shown)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)  # one range for all, so that flat looks flat
    plots = []
    if place is not None:

        def draw_map(axes: Axes) -> None:
            rows, columns = (cells * width - 0.5 for cells in place.shape)
            image = axes.imshow(place, cmap="RdBu_r", vmin=low, vmax=high, extent=(-0.5, columns, rows, -0.5))
            axes.set(xlabel=factors.label(positions[0]), ylabel=factors.label(positions[1]))
            axes.figure.colorbar(image, ax=axes, shrink=0.85).outline.set_visible(False)

        plots.append(plot("position", f"{_course(place)} over the positions", draw_map))
    for name, cells in means.items():

        def draw_curve(axes: Axes, cells: np.ndarray = cells, name: str = name) -> None:
            for kind, line in enumerate(cells):
                axes.plot(line, color=colour(kind), linewidth=1.4)
            axes.set(xlabel=f"{factors.label(name)} ({'bin' if continuous else 'class'})", ylim=(low, high))
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))

        lines = f", one line a {factors.label(category)}" if category else ""
        legend = [(colour(kind), known_as) for kind, known_as in enumerate(kind_names)]
        label = factors.label(name)
        plots.append(plot(label, f"{_course(cells)} over {label}{lines}", draw_curve, legend))
    return plots


def _course(cells: np.ndarray) -> str:
    return f"mean code from {signed(np.nanmin(cells))} to {signed(np.nanmax(cells))}"


def _cell_means(code: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The mean code in each cell of two factors, NaN where there is none."""
    shape = rows.max() + 1, columns.max() + 1
    cells = rows * shape[1] + columns
    counts = np.bincount(cells, minlength=shape[0] * shape[1])
    sums = np.bincount(cells, weights=code, minlength=shape[0] * shape[1])
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0).reshape(shape)
