"""A sweep's jobs side by side: `sweep.csv`, `sweep.html` and a table for the terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bvae.evaluation import scores
from bvae.evaluation.scores import readable
from bvae.files import atomic_write
from bvae.metrics import ACTIVE_BELOW, unsupervised_disentanglement_ranking
from bvae.report import figures
from bvae.report.page import environment
from bvae.runs import job as jobs
from bvae.runs.job import Job
from bvae.runs.metrics_table import metrics_table

_TERMS = ("loss", "reconstruction", "kl")
_LAST_ROWS = 10  # of metrics.csv, that a final term is the mean of
_INFORMATIVE = 0.01  # nats of KL, from which on UDR counts a unit (Duan et al. 2020)
_MOST_LINES = 8  # of a plot, for which the other swept keys' values are told apart
SEED = "seed"


@dataclass(frozen=True)
class Row:
    """A job of a sweep."""

    folder: Path
    job: Job
    keys: Mapping[str, str]  # its overrides
    step: int | None = None
    terms: Mapping[str, float] = field(default_factory=dict)  # nats
    active: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What it shares with the jobs that have another seed."""
        return tuple((key, value) for key, value in self.keys.items() if key != SEED)


def compare(sweep: Path) -> list[Row]:
    """Read a sweep's jobs and write `sweep.csv` and `sweep.html` into its folder.

    Final terms are means over the last ten rows of `metrics.csv`. Where finished jobs differ in their seeds alone,
    their scores have UDR too.
    """
    rows = [_read(folder) for folder in jobs.jobs_of(sweep)]
    rows = _ranked(rows)
    swept = _swept(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    with atomic_write(sweep / "sweep.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("job", *swept, "status", "step", *_TERMS, *names, "active", "seconds", "error", "report"))
        for row in rows:
            table.writerow(
                (
                    row.folder.name,
                    *(row.keys.get(key, "") for key in swept),
                    row.job.status,
                    "" if row.step is None else row.step,
                    *(row.terms.get(term, "") for term in _TERMS),
                    *(row.scores.get(name, "") for name in names),
                    "" if row.active is None else row.active,
                    row.job.seconds,
                    row.job.error,
                    _report(row) or "",
                )
            )
    page = (
        environment()
        .get_template("sweep.html")
        .render(
            title=" ".join(_title(key, values) for key, values in swept.items()) or sweep.name,
            folder=sweep.name,
            date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            rows=[(row, _report(row)) for row in rows],
            swept=swept,
            shared={k: v for row in rows[:1] for k, v in row.keys.items() if k not in swept},
            terms=_TERMS,
            names=names,
            readable=readable,
            active_below=ACTIVE_BELOW,
            plots=_search(rows) | _plots(rows, swept, names),
        )
    )
    with atomic_write(sweep / "sweep.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return rows


def _title(key: str, values: Sequence[str]) -> str:
    """A swept key with its values, or their number where they are a search's or fill a line."""
    listed = ",".join(values)
    return f"{key}={listed}" if len(listed) <= 40 else f"{key} ({len(values)} values)"


def _terminal_table(rows: Sequence[Row]) -> Table:
    """Lay the jobs out for a terminal: what they differ in and what came of it."""
    swept = _swept(rows)
    names = [name for name in ("mig", "udr") if any(name in row.scores for row in rows)]
    table = Table(*("job", *swept, "status", "rec", "KL", "active", *names, "minutes"), title="Sweep")
    for row in rows:
        table.add_row(
            row.folder.name,
            *(escape(row.keys.get(key, "")) for key in swept),
            row.job.status if row.job.status == "finished" else f"[red]{row.job.status}",
            *(f"{row.terms[term]:.1f}" if term in row.terms else "–" for term in _TERMS[1:]),
            "–" if row.active is None else str(row.active),
            *(readable(row.scores[name]) if name in row.scores else "–" for name in names),
            f"{row.job.seconds / 60:.1f}",
        )
    return table


def show_comparison(rows: Sequence[Row], sweep: Path) -> None:
    """Print the jobs and where their comparison is."""
    console = Console()
    console.print(_terminal_table(rows))
    console.print(f"Comparison: {sweep}/sweep.html", highlight=False, soft_wrap=True, markup=False)


def _read(folder: Path) -> Row:
    job = jobs.read(folder) or Job((), "running")
    keys = dict(override.lstrip("+").partition("=")[::2] for override in job.overrides)
    step, terms = _end(folder / "metrics.csv")
    active = None
    if (folder / "latents.csv").is_file():
        with (folder / "latents.csv").open(newline="", encoding="utf-8") as file:
            active = sum(row["active"] == "True" for row in csv.DictReader(file))
    found = {s.name: s.value for s in scores.read_json(folder / "scores.json") if np.isfinite(s.value)}
    return Row(folder, job, keys, step, terms, active, found)


def _end(path: Path) -> tuple[int | None, dict[str, float]]:
    """Read the last step and the final terms of a `metrics.csv`."""
    table = metrics_table(path)
    if "train/loss" not in table:
        return None, {}
    terms = {term: float(table[f"train/{term}"].values[-_LAST_ROWS:].mean()) for term in _TERMS}
    return int(table["train/loss"].steps[-1]), terms


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Add the UDR to the rows whose setting was run with other seeds too."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.job.status == "finished" and SEED in row.keys and (row.folder / "codes.npz").is_file():
            groups.setdefault(row.setting, []).append(row)
    udr: dict[Path, float] = {}
    for group in groups.values():
        codes = [_arrays(row.folder / "codes.npz") for row in group]
        if len(group) > 1 and all(np.array_equal(arrays["factors"], codes[0]["factors"]) for arrays in codes):
            values = unsupervised_disentanglement_ranking(
                [arrays["codes"] for arrays in codes],
                # A model without an active unit has nothing to be ranked by, whatever its noise is like.
                [(arrays["kl"] > _INFORMATIVE) & (row.active != 0) for arrays, row in zip(codes, group, strict=True)],
            )
            udr |= {row.folder: float(v) for row, v in zip(group, values, strict=True) if np.isfinite(v)}
    return [replace(row, scores={**row.scores, "udr": udr[row.folder]}) if row.folder in udr else row for row in rows]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:  # a sweep may have more jobs than a process may have open files
        return dict(file)


def _swept(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The keys whose values differ between the jobs, with those values in the order of the command."""
    keys = dict.fromkeys(key for row in rows for key in row.keys)
    values = {key: list(dict.fromkeys(row.keys.get(key, "") for row in rows)) for key in keys}
    return {key: found for key, found in values.items() if len(found) > 1}


def _report(row: Row) -> str | None:
    """Where its report is, as seen from the sweep's folder."""
    return f"{row.folder.name}/report.html" if (row.folder / "report.html").is_file() else None


def _search(rows: Sequence[Row]) -> dict[str, list[figures.Plot]]:
    """The history of an Optuna study, its trials of earlier commands too, where the jobs are such a search's."""
    record = rows[0].folder / ".hydra" / "hydra.yaml"
    sweeper = yaml.safe_load(record.read_text(encoding="utf-8"))["hydra"]["sweeper"] if record.is_file() else {}
    if "optuna" not in sweeper.get("_target_", "") or sweeper.get("storage") is None:
        return {}
    import optuna

    study = optuna.load_study(study_name=sweeper["study_name"], storage=sweeper["storage"])
    values = [math.nan if trial.value is None else trial.value for trial in study.trials]
    values = [value if math.isfinite(value) else math.nan for value in values]  # of a score that isn't defined
    wanted = yaml.safe_load((rows[0].folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"))["optimized_metric"]
    return {"trial": [figures.history(wanted, values, study.direction == optuna.study.StudyDirection.MAXIMIZE)]}


def _plots(rows: Sequence[Row], swept: Mapping[str, list[str]], names: Sequence[str]) -> dict[str, list[figures.Plot]]:
    """For each swept key but the seed, each score and final term against it; the other keys' values are the lines."""
    finished = [row for row in rows if row.job.status == "finished"]
    plots: dict[str, list[figures.Plot]] = {}
    for key, values in swept.items():
        if key == SEED:
            continue
        for name in (*names, *_TERMS[1:]):
            lines: dict[str, dict[str, list[float]]] = {}
            for row in finished:
                value = {**row.terms, **row.scores}.get(name)
                if value is not None:
                    others = " ".join(f"{k}={row.keys.get(k, '')}" for k in swept if k not in (key, SEED))
                    lines.setdefault(others, {}).setdefault(row.keys.get(key, ""), []).append(value)
            if len(lines) > _MOST_LINES or all(len(line) == 1 for line in lines.values()):  # as a search's are
                lines = {"": {v: [found for line in lines.values() for found in line.get(v, ())] for v in values}}
            if sum(len(points) for points in lines.values()) > 1:
                plots.setdefault(key, []).append(figures.against(name, key, values, lines))
    return plots
