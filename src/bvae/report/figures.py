"""The report's plots as SVG, in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bvae.data.image_set import Factors
from bvae.metrics import binned
from bvae.runs.metrics_table import Column, metrics_table

_INK = "#010203"  # stands for the page's text colour, which depends on the room's light
_STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "svg.fonttype": "none",  # text, that the page's font is used for
    "svg.hashsalt": "bvae",  # the same identifiers in each run
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=matplotlib.colormaps["tab10"].colors),
    "legend.frameon": False,
}
_NATS = {"kl": "KL", "capacity": "C", "target_kl": "target", "information": "information", "offset": "offset"}
_MOST_VALUES = 12  # of a swept key that a line joins; more are a search's
_MOST_POINTS = 400  # of a curve; more are averaged
_MOST_LINES = 12  # of a chart, one a class of a category
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Plot:
    """A picture for the page."""

    title: str
    alt: str  # what it shows, for those who don't see it
    svg: str
    legend: tuple[tuple[str, str], ...] = ()  # colours and what they stand for, beside the picture where they are long


def training_curves(path: Path) -> list[Plot]:
    """Draw the curves of a `metrics.csv`, those that it has."""
    table = metrics_table(path)
    units = {name: name.rpartition("/")[2] for name in table if name.startswith("train/kl_unit/")}
    layers = {name: name.rpartition("/")[2] for name in table if "/dead_features/" in name}
    wanted = [
        ("Reconstruction", "nats", {"train/reconstruction": "training", "val/reconstruction": "held out"}),
        ("KL", "nats", {f"train/{name}": label for name, label in _NATS.items()}),
        ("KL of each unit", "nats", units),
        ("MIG", "", {"scores/mig": "MIG"}),
        ("Dead features", "share of a layer", layers),
        ("Speed", "images/s", {"train/images_per_second": "images/s"}),
    ]
    drawn = {name for _, _, names in wanted for name in names} | {"train/loss"}
    # Whatever else the objective logs, such as its β, where that changes.
    others = [name for name in table if name.startswith("train/") and name not in drawn and np.ptp(table[name].values)]
    wanted[3:3] = [(name.removeprefix("train/").replace("_", " "), "", {name: name}) for name in others]
    plots = []
    for title, unit, names in wanted:
        lines = {label: _averaged(table[name]) for name, label in names.items() if name in table}
        if lines and max(len(steps) for steps, _ in lines.values()) > 1:
            plots.append(_curves(title, unit, lines))
    return plots


def _averaged(column: Column) -> Column:
    """Average a column to few points."""
    blocks = min(len(column.steps), _MOST_POINTS)
    return Column(*(np.array([part.mean() for part in np.array_split(axis, blocks)]) for axis in column))


def _curves(title: str, unit: str, lines: Mapping[str, Column]) -> Plot:
    def draw(axes: Axes) -> None:
        for label, (steps, values) in lines.items():
            axes.plot(steps, values, label=label, linewidth=1.2, marker="o" if len(steps) < 12 else "", markersize=3)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        if len(lines) > 1:
            axes.legend(ncols=2 if len(lines) > 4 else 1, fontsize=7.5, handlelength=1.2, columnspacing=1)

    ends = ", ".join(f"{label} from {values[0]:.3g} to {values[-1]:.3g}" for label, (_, values) in lines.items())
    title = f"{title} ({unit})" if unit else title
    return _plot(title, f"{title} over {lines[next(iter(lines))][0][-1]:,.0f} steps: {ends}", draw)


def against(name: str, key: str, values: Sequence[str], lines: Mapping[str, Mapping[str, Sequence[float]]]) -> Plot:
    """What came of each value of a swept key: a point for each job, a line through the means.

    Args:
        name: of what came of it.
        key: that was swept.
        values: its, in the order of the command; numbers stand at their place, logarithmic where they span decades.
        lines: for each label, the results of each value.
    """
    values = [value for value in values if any(value in results for results in lines.values())]
    numbers = _numbers(values)
    place = dict(zip(values, numbers if numbers is not None else range(len(values)), strict=True))

    def draw(axes: Axes) -> None:
        for colour, results in enumerate(lines.values()):
            where = sorted(results, key=place.__getitem__)
            if len(values) <= _MOST_VALUES:
                means = [np.mean(results[value]) for value in where]
                axes.plot([place[value] for value in where], means, color=f"C{colour % 10}", linewidth=1.2)
            for value in where:
                axes.plot([place[value]] * len(results[value]), results[value], "o", color=f"C{colour % 10}", ms=3.5)
        if numbers is None:
            axes.set_xticks(range(len(values)), [_short(value) for value in values])
            if sum(len(_short(value)) for value in values) > 40:
                axes.tick_params(axis="x", rotation=30)
        elif min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
        axes.set_xlabel(key)

    means = "; ".join(
        f"{f'{label}, ' if label else ''}{value}: {np.mean(found):.3g}"
        for label, results in lines.items()
        for value, found in results.items()
    )
    plot = _plot(name.replace("_", " "), f"Mean {name} by {key}: {means}", draw)
    colours = matplotlib.colormaps["tab10"].colors
    legend = ((matplotlib.colors.to_hex(colours[n % 10]), label) for n, label in enumerate(lines) if len(lines) > 1)
    return replace(plot, legend=tuple(legend))


def _short(value: str) -> str:
    return value if len(value) <= 14 else f"{value[:6]}…{value[-7:]}"


def history(name: str, values: Sequence[float], maximize: bool) -> Plot:
    """A search's trials, NaN for one that failed or whose score isn't defined, and the best so far."""
    best = (np.fmax if maximize else np.fmin).accumulate(np.array(values, dtype=float))

    def draw(axes: Axes) -> None:
        axes.plot(values, "o", ms=3.5, label="trial")
        axes.step(range(len(best)), best, where="post", linewidth=1.2, label="best so far")
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.legend(fontsize=7.5)

    found = "none of them defined" if np.isnan(best[-1]) else f"the best {best[-1]:.3g}"
    return _plot(f"{name} over the search", f"{name} of {len(values)} trials, {found}", draw)


def _numbers(values: Sequence[str]) -> list[float] | None:
    """The values as numbers, where all are."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def responses(code: np.ndarray, classes: np.ndarray, factors: Factors) -> list[Plot]:
    """Draw how the mean of a unit moves with each factor, all else averaged: after Fig. 7 of Burgess et al. (2018).

    A map of the positions, where two factors are positions, and a curve for each other factor, with a line for each
    class of the first category that has few enough for a legend.

    Args:
        code: the unit's posterior means, (N,).
        classes: (N, K), the images' factors; continuous ones in 20 bins.
        factors: K, and of what kind they are.
    """
    at = {
        name: np.unique(column, return_inverse=True)[1]
        for name, column in zip(factors.names, binned(classes).T, strict=True)
    }
    positions: tuple[str, ...] = factors.positions if len(factors.positions) == 2 else ()
    varying = [name for name in factors.names if name not in positions and at[name].max() > 0]
    category = next((name for name in factors.categories if name in varying and at[name].max() < _MOST_LINES), None)
    kinds = at[category] if category else np.zeros(len(code), dtype=int)
    known = factors.value_names.get(category) if category else None
    kind_names = known or [f"{category} {k}" for k in range(kinds.max() + 1)]
    means = {name: _cell_means(code, kinds, at[name]) for name in varying if name != category or len(varying) == 1}
    place = _cell_means(code, at[positions[1]], at[positions[0]]) if positions else None
    shown = [*means.values(), *([] if place is None else [place])]
    if not shown:
        return []
    low, high = min(np.nanmin(cells) for cells in shown), max(np.nanmax(cells) for cells in shown)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)  # one range for all, so that flat looks flat
    plots = []
    if place is not None:

        def draw_map(axes: Axes) -> None:
            image = axes.imshow(place, cmap="RdBu_r", vmin=low, vmax=high)
            axes.set(xlabel=factors.label(positions[0]), ylabel=factors.label(positions[1]))
            axes.figure.colorbar(image, ax=axes, shrink=0.85).outline.set_visible(False)

        plots.append(_plot("position", f"{_course(place)} over the positions", draw_map))
    for name, cells in means.items():

        def draw_curve(axes: Axes, cells: np.ndarray = cells, name: str = name) -> None:
            for kind, line in enumerate(cells):
                axes.plot(line, label=kind_names[kind], linewidth=1.4)
            axes.set(xlabel=f"{name} (class)", ylim=(low, high))
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
            if len(cells) > 1:
                axes.legend(fontsize=7.5)

        lines = f", one line a {category}" if category else ""
        plots.append(_plot(name, f"{_course(cells)} over {name}{lines}", draw_curve))
    return plots


def _course(cells: np.ndarray) -> str:
    return f"mean code from {np.nanmin(cells):+.2f} to {np.nanmax(cells):+.2f}"


def _cell_means(code: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The mean code in each cell of two factors, NaN where there is none."""
    shape = rows.max() + 1, columns.max() + 1
    cells = rows * shape[1] + columns
    counts = np.bincount(cells, minlength=shape[0] * shape[1])
    sums = np.bincount(cells, weights=code, minlength=shape[0] * shape[1])
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0).reshape(shape)


def _plot(title: str, alt: str, draw: Callable[[Axes], None]) -> Plot:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.5), layout="constrained")
        draw(figure.subplots())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    return Plot(title, alt, svg)
