"""A sweep's plots: what came of each value of a swept key, of each setting over its seeds, and all jobs' curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from bvae.evaluation.numbers import significant
from bvae.evaluation.scores import label_of
from bvae.received import intact
from bvae.report.figures import averaged, start_aside, steps_below
from bvae.report.plots import INK, Plot, colour, plot
from bvae.runs.metrics_table import metrics_table

MOST_LINES = 8  # of a plot, that are told apart by their colours
_CURVES = {
    "reconstruction (nats)": ("train/reconstruction",),
    "KL (nats)": ("train/kl",),
    "MIG": ("scores/mig",),
}


def against(
    name: str, key: str, values: Sequence[str], lines: Mapping[str, Mapping[str, Sequence[float]]], joined: bool = True
) -> Plot:
    """What came of each value of a swept key: a point for each job, and a line through the means.

    Args:
        name: of what came of it.
        key: that was swept.
        values: its, in the order of the command; numbers stand at their place, logarithmic where they span decades.
        lines: for each label, the results of each value.
        joined: whether the line is drawn.
    """
    values = [value for value in values if any(value in results for results in lines.values())]
    numbers = _numbers(values)
    place = dict(zip(values, numbers if numbers is not None else range(len(values)), strict=True))

    def draw(axes: Axes) -> None:
        for n, results in enumerate(lines.values()):
            where = sorted(results, key=place.__getitem__)
            if joined:
                means = [np.mean(results[value]) for value in where]
                axes.plot([place[value] for value in where], means, color=colour(n), linewidth=1.2)
            for value in where:
                axes.plot([place[value]] * len(results[value]), results[value], "o", color=colour(n), ms=3.5)
        if numbers is None:
            _name_places(axes, values)
        elif min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            _logarithmic(axes, max(numbers) / min(numbers))
        axes.set_xlabel(key)

    means = "; ".join(
        f"{f'{label}, ' if label else ''}{value}: {significant(float(np.mean(found)), 3)}"
        for label, results in lines.items()
        for value, found in results.items()
    )
    legend = [(colour(n), label) for n, label in enumerate(lines)]
    return plot(label_of(name), f"Mean {name} by {key}: {means}", draw, legend)


def distributions(name: str, results: Mapping[str, Mapping[str, Sequence[float]]]) -> Plot:
    """The results of several seeds, a box and a dot for each: after Fig. 2 of Locatello et al. (2019).

    Args:
        name: of the result.
        results: for each objective, those of each of its strengths, or other settings.
    """
    places, labels, at = {}, [], 0.0
    for objective, settings in results.items():
        for setting in settings:
            places[objective, setting] = at
            labels.append(setting or objective)
            at += 1.0
        at += 0.6  # between objectives

    def draw(axes: Axes) -> None:
        for n, (objective, settings) in enumerate(results.items()):
            for setting, values in settings.items():
                place = places[objective, setting]
                line = {"color": colour(n), "linewidth": 1.1}
                axes.boxplot(
                    [values],
                    positions=[place],
                    widths=0.55,
                    showfliers=False,
                    boxprops=line,
                    whiskerprops=line,
                    capprops=line,
                    medianprops={"color": INK, "linewidth": 1.4},
                )
                beside = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0]
                axes.plot(place + np.asarray(beside), values, "o", color=colour(n), ms=2.6, alpha=0.75)
        _name_places(axes, labels, list(places.values()))

    medians = "; ".join(
        f"{' '.join(filter(None, (objective, setting)))}: median {significant(float(np.median(values)), 3)} "
        f"of {len(values)}"
        for objective, settings in results.items()
        for setting, values in settings.items()
    )
    legend = [(colour(n), objective) for n, objective in enumerate(results)]
    return plot(label_of(name), f"{name}: {medians}", draw, legend)


def curves(folders: Mapping[Path, str]) -> list[Plot]:
    """Lay the jobs' curves over one another, in one colour for each label that the folders map to."""
    labels = list(dict.fromkeys(folders.values()))
    tables = {folder: intact(metrics_table, folder / "metrics.csv") or {} for folder in folders}
    plots = []
    for title, names in _CURVES.items():
        found = [(label, tables[folder][n]) for folder, label in folders.items() for n in names if n in tables[folder]]
        found = [(label, averaged(column, 120)) for label, column in found if len(column.steps) > 1]
        if not found:
            continue

        def draw(axes: Axes, found: list = found) -> None:
            for label, (steps, values) in found:
                axes.plot(steps, values, color=colour(labels.index(label)), linewidth=0.9, alpha=0.8)
            steps_below(axes)
            start_aside(axes, [column.values for _, column in found])

        ends = ", ".join(f"{label} {significant(float(column.values[-1]), 3)}".strip() for label, column in found)
        legend = [(colour(n), label) for n, label in enumerate(labels)]
        plots.append(plot(title, f"{title} of {len(found)} jobs, which end at {ends}", draw, legend))
    return plots


def _logarithmic(axes: Axes, ratio: float) -> None:
    """Scale the horizontal axis by the logarithm, in plain numbers: powers of ten, and between few of them 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 100 else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else significant(value, 1))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_places(axes: Axes, labels: Sequence[str], places: Sequence[float] | None = None) -> None:
    short = [label if len(label) <= 14 else f"{label[:6]}…{label[-7:]}" for label in labels]
    axes.set_xticks(range(len(labels)) if places is None else places, short)
    if sum(map(len, short)) > 40:
        axes.tick_params(axis="x", rotation=30)


def _numbers(values: Sequence[str]) -> list[float] | None:
    """The values as numbers, where all are."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
