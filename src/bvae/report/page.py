from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from bvae.evaluation import Evaluation
from bvae.evaluation.finding import finding
from bvae.evaluation.latent_table import caption
from bvae.evaluation.numbers import nats, readable, signed, significant
from bvae.evaluation.pictures import COLUMNS, TRAVERSAL_RANGE, columns_of
from bvae.evaluation.scores import label_of, undefined
from bvae.files import atomic_write
from bvae.metrics import ACTIVE_BELOW
from bvae.received import intact, read_yaml, text_of, texts
from bvae.report import figures
from bvae.report.strips import film, strip
from bvae.runs import job as jobs

_SETTINGS = ("seed", "model", "loss", "optimizer", "scheduler", "data", "trainer.max_steps", "trainer.precision")
_LINE = 60  # characters of a title
_MOST_RESPONSES = 12  # units whose responses are drawn


def _environment() -> Environment:
    """Set up the pages' templates."""
    loader = PackageLoader("bvae.report", ".")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.filters |= {"readable": readable, "signed": signed, "significant": significant, "nats": nats}
    return found


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Fill a template, with the date besides, into a file."""
    page = (
        _environment().get_template(template).render(date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}", **shown)
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")


def report(folder: Path, found: Evaluation, run: Path | None = None) -> Path:
    """Write `report.html` into a folder: all of a run in one file, which needs no other and no network.

    Args:
        folder: where it goes.
        found: what the evaluation found.
        run: what was evaluated, the folder itself unless given. A run's `.hydra/` and `metrics.csv` give the settings
            and the training curves.
    """
    run = folder if run is None else run
    active = [row.unit for row in found.table if row.active][:_MOST_RESPONSES]
    settings, config = _configuration(run / ".hydra")
    if found.likelihood and "loss.likelihood" in settings:
        settings["loss.likelihood"] = found.likelihood  # chosen by the images
    codes = found.codes
    labelled = codes.labelled()
    means = codes.mean.double().numpy()
    latents = codes.sample(seed=0).double().numpy() if codes.log_variance is not None else None
    path = folder / "report.html"
    write_page(
        path,
        "page.html",
        title=title_of(run),
        finding=finding(found.table, found.factors, found.turns),
        folder=folder.name,
        about=_about(run, found),
        explorer=found.traversals is not None,  # there is a model, which the explorer beside the report runs
        command=f"python train.py {shlex.join(_overrides(run))}" if (run / ".hydra").is_dir() else "",
        found=found,
        n=len(means),
        is_labelled_in_part=labelled is not codes,
        responding=len(labelled.mean),
        has_posterior=codes.log_variance is not None,
        captions={row.unit: caption(row) for row in found.table},
        factors=found.factors.names if found.factors else (),
        label=found.factors.label if found.factors else str,
        given=found.table[0].given if found.table else "",
        has_picture=any(row.variance_at_picture == row.variance_at_picture for row in found.table),
        active_below=ACTIVE_BELOW,
        label_of=label_of,
        undefined=undefined(found.scores),
        settings=settings,
        config=config,
        curves=figures.training_curves(run / "metrics.csv", found.table),
        ticks=np.linspace(*TRAVERSAL_RANGE, COLUMNS),
        strips=dict(enumerate(map(strip, columns_of(found.traversals)))) if found.traversals is not None else {},
        films=dict(enumerate(map(film, found.traversals))) if found.traversals is not None else {},
        ends=[(end.unit, strip(end.lowest), strip(end.highest)) for end in found.ends if len(end.lowest)],
        reconstructions=[strip(frames) for frames in (found.originals, found.reconstructions) if frames is not None],
        examples=[(kind, strip(kind.originals), strip(kind.reconstructions)) for kind in found.examples],
        samples=[strip(row) for row in np.split(found.samples, 2)] if found.samples is not None else [],
        histograms={unit: figures.histogram(latents[:, unit]) for unit in active} if latents is not None else {},
        responses={
            unit: figures.responses(labelled.mean[:, unit].double().numpy(), labelled.factors.numpy(), found.factors)
            for unit in active
            if found.factors and len(labelled.mean)
        },
    )
    return path


def title_of(run: Path) -> str:
    """Call a run by its overrides, the first ones where a line has no room for more, or by its folder.

    Another file is called by its path.
    """
    return shortened(_overrides(run)) or (run.name if run.is_dir() else str(run))


def shortened(words: Sequence[str]) -> str:
    """Join words by spaces, the first ones and … where all would take more than a line."""
    for n in range(len(words), 0, -1):
        title = " ".join([*words[:n], *(["…"] if n < len(words) else [])])
        if len(title) <= _LINE:
            return title
    return ""


def _overrides(run: Path) -> list[str]:
    recorded = run / ".hydra" / "overrides.yaml"
    return (intact(lambda path: texts(read_yaml(path)), recorded) or []) if recorded.is_file() else []


def _about(run: Path, found: Evaluation) -> dict[str, str]:
    """Say how the model was made: how long it took, on what and from which code."""
    job = jobs.read(run)
    about = {}
    if job is not None:
        minutes, seconds = divmod(round(job.duration()), 60)
        hours, minutes = divmod(minutes, 60)
        about["duration"] = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
        about |= {"hardware": job.machine, "commit": job.commit}
    about |= {f"{name}'s parameters": f"{number:,}" for name, number in found.parameters.items()}
    about |= {key: f"{value:,}" if isinstance(value, int) else str(value) for key, value in found.source.items()}
    versions = {name: version(name) for name in ("bvae", "torch", "lightning")} | {"Python": platform.python_version()}
    about["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return {name: value for name, value in about.items() if value}


def _configuration(folder: Path) -> tuple[dict[str, Any], str]:
    """Read the settings of a run's parts, and its whole configuration as YAML."""
    if not (folder / "config.yaml").is_file():
        return {}, ""
    recorded = intact(read_yaml, folder / "config.yaml")
    flat = _flat(recorded if isinstance(recorded, Mapping) else {})
    shown = {k: v for k, v in flat.items() if f"{k}.".startswith(tuple(f"{name}." for name in _SETTINGS))}
    return shown, intact(text_of, folder / "config.yaml") or ""


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif not str(key).startswith("_") and value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
