"""A sweep's jobs: what each differs in from the others, and what came of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import numpy as np

from bvae.data.arrays import opened
from bvae.evaluation import scores
from bvae.metrics import unsupervised_disentanglement_ranking
from bvae.received import damaged, intact, text_of
from bvae.runs import job as jobs
from bvae.runs.job import Job
from bvae.runs.metrics_table import metrics_table
from bvae.terminal import shown

TERMS = ("loss", "reconstruction", "kl")
SEED = "seed"
_LAST_ROWS = 10  # of metrics.csv, that a final term is the mean of
_INFORMATIVE = 0.01  # nats of KL, from which on UDR counts a unit (Duan et al. 2020)


@dataclass(frozen=True)
class Row:
    """A job of a sweep."""

    folder: Path
    name: str  # the folder as seen from the sweep's, its number unless hydra.sweep.subdir says otherwise
    job: Job
    keys: Mapping[str, str]  # its overrides
    step: int | None = None
    terms: Mapping[str, float] = field(default_factory=dict)  # nats
    units: tuple[tuple[int, str], ...] | None = None  # the active ones, with their names; None where it has no table
    scores: Mapping[str, float] = field(default_factory=dict)
    directions: Mapping[str, bool | None] = field(default_factory=dict)  # of the scores: whether higher is better

    @property
    def active(self) -> int | None:
        """How many units are active."""
        return None if self.units is None else len(self.units)

    @property
    def results(self) -> dict[str, float]:
        """The scores, MIG first, and the final terms but for the loss, whose weights differ."""
        first = {"mig": self.scores["mig"]} if "mig" in self.scores else {}
        active = {} if self.active is None else {"active": float(self.active)}
        return first | active | dict(self.scores) | {t: v for t, v in self.terms.items() if t != "loss"}

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What it shares with the jobs that have another seed."""
        return tuple((key, value) for key, value in self.keys.items() if key != SEED)


def read_rows(sweep: Path) -> list[Row]:
    """Read the jobs of a sweep; where finished jobs differ in their seeds alone, their scores have UDR too.

    Final terms are means over the last ten rows of `metrics.csv`.
    """
    return _ranked([_read(folder, folder.relative_to(sweep).as_posix()) for folder in jobs.jobs_of(sweep)])


def _read(folder: Path, name: str) -> Row:
    job = jobs.read(folder) or Job((), "running")
    keys = dict(override.lstrip("+").partition("=")[::2] for override in job.overrides)
    step, terms = _end(folder / "metrics.csv")
    units = None
    if (folder / "latents.csv").is_file():
        units = intact(_units, folder / "latents.csv")
    found = [score for score in intact(scores.read_json, folder / "scores.json") or [] if np.isfinite(score.value)]
    values = {score.name: score.value for score in found}
    return Row(
        folder, name, job, keys, step, terms, units, values, {score.name: score.higher_is_better for score in found}
    )


def _units(path: Path) -> tuple[tuple[int, str], ...]:
    """Read the active units of a `latents.csv`, with the names that people or the factors gave them."""
    try:
        rows = list(csv.DictReader(StringIO(text_of(path), newline="")))
        active = [row for row in rows if row["active"] == "True"]
        names = [(row.get("called") or row.get("name") or "").removeprefix("'") for row in active]
        return tuple((int(row["unit"]), shown(name)) for row, name in zip(active, names, strict=True))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise damaged(path, repr(error)) from error


def _end(path: Path) -> tuple[int | None, dict[str, float]]:
    """Read the last step and the final terms of a `metrics.csv`, those that the objective logs."""
    table = intact(metrics_table, path) or {}
    if "train/loss" not in table:
        return None, {}
    logged = [term for term in TERMS if f"train/{term}" in table]
    terms = {term: float(table[f"train/{term}"].values[-_LAST_ROWS:].mean()) for term in logged}
    return int(table["train/loss"].steps[-1]), terms


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Add the UDR to the rows whose setting was run with other seeds too."""
    seeded = [row for row in rows if SEED in row.keys and (row.folder / "codes.npz").is_file()]
    udr: dict[Path, float] = {}
    for group in settings_of(seeded).values():
        codes = [intact(_arrays, row.folder / "codes.npz") or {} for row in group]
        if (
            len(group) > 1
            and all(codes)
            and all(np.array_equal(arrays["factors"], codes[0]["factors"], equal_nan=True) for arrays in codes)
        ):
            values = unsupervised_disentanglement_ranking(
                [arrays["codes"] for arrays in codes],
                # A model without an active unit has nothing to be ranked by, whatever its noise is like.
                [(arrays["kl"] > _INFORMATIVE) & (row.active != 0) for arrays, row in zip(codes, group, strict=True)],
            )
            udr |= {row.folder: float(v) for row, v in zip(group, values, strict=True) if np.isfinite(v)}
    return [replace(row, scores={**row.scores, "udr": udr[row.folder]}) if row.folder in udr else row for row in rows]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a run's codes: the arrays that the ranking takes, and no others."""
    found = {}
    for key in ("codes", "factors", "kl"):
        with opened(path, key) as array:
            found[key] = array.read()
        if found[key].dtype.kind not in "biuf":
            raise damaged(path, f"{key!r} is {found[key].dtype}")
    if found["codes"].shape != (len(found["factors"]), found["kl"].size):
        raise damaged(path, "its arrays don't fit")
    return found


def swept_keys(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The keys whose values differ between the jobs, with those values in the order of the command."""
    keys = dict.fromkeys(key for row in rows for key in row.keys)
    values = {key: list(dict.fromkeys(row.keys.get(key, "") for row in rows)) for key in keys}
    return {key: found for key, found in values.items() if len(found) > 1}


def settings_of(rows: Sequence[Row]) -> dict[tuple, list[Row]]:
    """Group the finished jobs by what they share with those of other seeds."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.job.status == "finished":
            groups.setdefault(row.setting, []).append(row)
    return groups


def direction_of(name: str, rows: Sequence[Row]) -> bool | None:
    """Whether a result is better the higher it is; None where neither is better."""
    if name in ("reconstruction", "udr"):
        return name == "udr"
    return next((row.directions[name] for row in rows if name in row.directions), None)
