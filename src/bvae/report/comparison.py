"""A sweep's jobs side by side: `sweep.csv`, `sweep.html` and a table for the terminal."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from rich.table import Table
from rich.text import Text

from bvae.evaluation.numbers import significant
from bvae.evaluation.scores import label_of
from bvae.files import atomic_write
from bvae.metrics import ACTIVE_BELOW
from bvae.report import search as searches
from bvae.report import sweep_figures as figures
from bvae.report.page import shortened, write_page
from bvae.report.plots import Plot
from bvae.report.strips import thumbnail
from bvae.report.sweep_jobs import SEED, TERMS, Row, direction_of, read_rows, settings_of, swept_keys
from bvae.runs.job import Study
from bvae.terminal import console

_DROPPED = ("min", "UDR", "KL", "rec")  # columns that a narrow terminal does without, the first of these first
_SHOWN = {"MIG": "mig", "active": "active", "rec": "reconstruction", "KL": "kl", "UDR": "udr"}  # on a terminal
T = TypeVar("T")


def compare(sweep: Path, study: Study | None = None) -> list[Row]:
    """Read a sweep's jobs, see `read_rows`, and write `sweep.csv` and `sweep.html` into its folder.

    Args:
        sweep: the folder.
        study: of a search, whose trials are drawn.
    """
    rows = read_rows(sweep)
    swept = swept_keys(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    with atomic_write(sweep / "sweep.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("job", *swept, "status", "step", *TERMS, *names, "active", "seconds", "error", "report"))
        for row in rows:
            table.writerow(
                (
                    row.name,
                    *(row.keys.get(key, "") for key in swept),
                    row.job.status,
                    "" if row.step is None else row.step,
                    *(row.terms.get(term, "") for term in TERMS),
                    *(row.scores.get(name, "") for name in names),
                    "" if row.active is None else row.active,
                    row.job.seconds,
                    row.job.error,
                    _report(row) or "",
                )
            )
    search = None if study is None else searches.read(study)
    grouped = settings_of(rows)
    spreads = {setting: _spreads(group) for setting, group in grouped.items()}
    write_page(
        sweep / "sweep.html",
        "sweep.html",
        title=searches.title(search) if search else _title(swept, sweep),
        folder=sweep.name,
        rows=[
            (row, quote(_report(row) or ""), thumbnail(row.folder, [unit for unit, _ in row.units or ()]))
            for row in rows
        ],
        swept=swept,
        rounded=_rounded,
        shared={k: v for row in rows[:1] for k, v in row.keys.items() if k not in swept},
        best=_best([row for row in rows if row.job.status == "finished"], lambda row: row.results, rows),
        settings=[(dict(setting), len(group), spreads[setting]) for setting, group in grouped.items()],
        best_settings=[
            (dict(setting), name)
            for name, setting in _best(
                list(grouped), lambda setting: {name: mean for name, (mean, _) in spreads[setting].items()}, rows
            ).items()
        ],
        titles={name: label_of(name, direction_of(name, rows)) for row in rows for name in row.results},
        active_below=ACTIVE_BELOW,
        search=searches.plots(search) if search else None,
        distributions=_distributions(rows, swept),
        curves=figures.curves(_labels(rows)),
        plots=_plots(rows, swept),
    )
    return rows


def _title(swept: Mapping[str, Sequence[str]], sweep: Path) -> str:
    """The swept keys with their values, or these's number where they are a search's or fill a line."""
    parts = []
    for key, values in swept.items():
        listed = ",".join(values)
        parts.append(f"{key}={listed}" if len(listed) <= 40 else f"{key} ({len(values)} values)")
    return shortened(parts) or sweep.name


def _best(items: Sequence[T], results: Callable[[T], Mapping[str, float]], rows: Sequence[Row]) -> dict[str, T]:
    """Choose the best of several by each result that has a direction."""
    found = {}
    for name in dict.fromkeys(name for item in items for name in results(item)):
        direction = direction_of(name, rows)
        having = [item for item in items if name in results(item)]
        if direction is not None and len(having) > 1:
            found[name] = (max if direction else min)(having, key=lambda item: results(item)[name])
    return found


def _columns(rows: Sequence[Row]) -> list[tuple[str, list[str] | list[Text]]]:
    """List a terminal's columns: what came of the jobs first, and what they differ in."""
    swept = swept_keys(rows)
    short = {key: key.rpartition(".")[2] for key in swept}
    if len(set(short.values())) < len(short):
        short = {key: key for key in swept}
    numbers = {name: [_cell(row.results.get(key)) for row in rows] for name, key in _SHOWN.items()}
    statuses = [Text(row.job.status, "" if row.job.status == "finished" else "red") for row in rows]
    columns: list[tuple[str, list[str] | list[Text]]] = [
        ("job", [row.name for row in rows]),
        *((name, numbers[name]) for name in ("MIG", "active")),
        ("status", statuses),
        *((short[key], [_rounded(row.keys.get(key, "")) for row in rows]) for key in swept),
        *((name, numbers[name]) for name in ("rec", "KL", "UDR")),
        ("min", [f"{row.job.seconds / 60:.1f}" for row in rows]),
    ]
    return [(name, cells) for name, cells in columns if name not in _SHOWN or any(cell != "–" for cell in cells)]


def _rounded(value: str) -> str:
    """Shorten the digits of a number that a search has drawn; what a person types stays as it is."""
    try:
        return significant(float(value), 3) if len(value) > 8 else value
    except ValueError:
        return value


def _cell(value: float | None) -> str:
    return "–" if value is None else significant(int(value) if value.is_integer() else value, 3)


def terminal_table(rows: Sequence[Row], width: int) -> Table:
    """Lay the jobs out for a terminal, with as many columns as it has room for."""
    columns = _columns(rows)
    for dropped in ("", *_DROPPED):
        columns = [(name, cells) for name, cells in columns if name != dropped]
        table = Table(title="Sweep")
        for name, _ in columns:
            table.add_column(name, overflow="fold")
        for cells in zip(*(cells for _, cells in columns), strict=True):
            table.add_row(*cells)
        if console(width=10_000).measure(table).maximum <= width:
            break
    return table


def show_comparison(rows: Sequence[Row], sweep: Path) -> None:
    """Print the jobs and where their comparison is."""
    terminal = console()
    terminal.print(terminal_table(rows, terminal.width))
    terminal.print(f"Comparison: {sweep}/sweep.html", soft_wrap=True)


def _report(row: Row) -> str | None:
    """Where its report is, as seen from the sweep's folder."""
    return f"{row.name}/report.html" if (row.folder / "report.html").is_file() else None


def _spreads(rows: Sequence[Row]) -> dict[str, tuple[float, float | None]]:
    """The mean of each result over the jobs of a setting, and its standard deviation where they are several."""
    spreads: dict[str, tuple[float, float | None]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.results):
        values = [row.results[name] for row in rows if name in row.results]
        spreads[name] = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return spreads


def _objective(setting: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Split a setting into its objective and the rest, such as its strength."""
    objective = " ".join(value for key, value in setting if key in ("loss", "experiment"))
    rest = [(key, value) for key, value in setting if key not in ("loss", "experiment")]
    return objective, " ".join(value if len(rest) == 1 else f"{key.rpartition('.')[2]}={value}" for key, value in rest)


def _distributions(rows: Sequence[Row], swept: Mapping[str, list[str]]) -> list[Plot]:
    """The results of each setting over its seeds, by objective and strength."""
    groups = {
        tuple((key, value) for key, value in setting if key in swept): found
        for setting, found in settings_of(rows).items()
    }
    if SEED not in swept or max(map(len, groups.values()), default=0) < 2:
        return []
    plots = []
    for name in dict.fromkeys(name for row in rows for name in row.results):
        results: dict[str, dict[str, list[float]]] = {}
        for setting, found in groups.items():
            objective, strength = _objective(setting)
            if values := [row.results[name] for row in found if name in row.results]:
                results.setdefault(objective, {})[strength] = values
        if results:
            plots.append(figures.distributions(name, results))
    return plots


def _labels(rows: Sequence[Row]) -> dict[Path, str]:
    """Label each job's curves with its setting, where these are few enough for colours, and no search's."""
    swept = swept_keys(rows)
    labels = {row.folder: " ".join(f"{k}={row.keys.get(k, '')}" for k in swept if k != SEED) for row in rows}
    is_search = len(swept) > 1 and all(len(values) == len(rows) for values in swept.values())
    few = len(set(labels.values())) <= figures.MOST_LINES
    return labels if few and not is_search else dict.fromkeys(labels, "")


def _plots(rows: Sequence[Row], swept: Mapping[str, list[str]]) -> dict[str, list[Plot]]:
    """For each swept key but the seed, each score and final term against it; the other keys' values are the lines."""
    finished = [row for row in rows if row.job.status == "finished"]
    plots: dict[str, list[Plot]] = {}
    for key, values in swept.items():
        if key == SEED:
            continue
        for name in dict.fromkeys(name for row in rows for name in row.results if name != "active"):
            lines: dict[str, dict[str, list[float]]] = {}
            for row in finished:
                value = row.results.get(name)
                if value is not None:
                    others = " ".join(f"{k}={row.keys.get(k, '')}" for k in swept if k not in (key, SEED))
                    lines.setdefault(others, {}).setdefault(row.keys.get(key, ""), []).append(value)
            scattered = len(lines) > 1 and all(len(line) == 1 for line in lines.values())  # as a search's are
            if scattered or len(lines) > figures.MOST_LINES:
                together = {v: [found for line in lines.values() for found in line.get(v, ())] for v in values}
                lines = {"": {value: found for value, found in together.items() if found}}
            if sum(len(points) for points in lines.values()) > 1:
                plots.setdefault(key, []).append(figures.against(name, key, values, lines, not scattered))
    return plots
