from __future__ import annotations

import base64
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from bvae.evaluation import Evaluation
from bvae.evaluation.latent_table import caption
from bvae.evaluation.pictures import COLUMNS, TRAVERSAL_RANGE, columns_of
from bvae.evaluation.scores import readable
from bvae.files import atomic_write
from bvae.metrics import ACTIVE_BELOW
from bvae.report import figures

_SETTINGS = ("seed", "model", "loss", "optimizer", "scheduler", "data", "trainer.max_steps", "trainer.precision")
_MOST_RESPONSES = 12  # units whose responses are drawn
_GAP = 3  # pixels between pictures of a strip


def environment() -> Environment:
    """Set up the pages' templates."""
    loader = PackageLoader("bvae.report", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


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
    metrics = run / "metrics.csv"
    means = found.codes.mean.double().numpy()
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=title_of(run),
            folder=folder.name,
            date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            versions={name: version(name) for name in ("bvae", "torch", "lightning")}
            | {"Python": platform.python_version()},
            found=found,
            n=len(means),
            has_posterior=found.codes.log_variance is not None,
            captions={row.unit: caption(row) for row in found.table},
            factors=found.factors.names if found.factors else (),
            active_below=ACTIVE_BELOW,
            readable=readable,
            settings=settings,
            config=config,
            curves=figures.training_curves(metrics),
            gif=_uri("image/gif", found.gif.read_bytes()) if found.gif else None,
            ticks=np.linspace(*TRAVERSAL_RANGE, COLUMNS),
            strips=dict(enumerate(map(_strip, columns_of(found.traversals)))) if found.traversals is not None else {},
            reconstructions=[
                (label, _strip(frames))
                for label, frames in (("original", found.originals), ("reconstruction", found.reconstructions))
                if frames is not None
            ],
            responses={
                unit: figures.responses(means[:, unit], found.codes.factors.numpy(), found.factors)
                for unit in active
                if found.factors
            },
        )
    )
    path = folder / "report.html"
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def title_of(run: Path) -> str:
    """Call a run by its overrides, or by its folder, and another file by its path."""
    recorded = run / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(recorded.read_text(encoding="utf-8")) if recorded.is_file() else []
    return " ".join(overrides) or (run.name if run.is_dir() else str(run))


def _configuration(folder: Path) -> tuple[dict[str, Any], str]:
    """Read the settings of a run's parts, and its whole configuration as YAML."""
    if not (folder / "config.yaml").is_file():
        return {}, ""
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    flat = _flat(yaml.safe_load(text))
    shown = {k: v for k, v in flat.items() if f"{k}.".startswith(tuple(f"{name}." for name in _SETTINGS))}
    return {k: v for k, v in shown.items() if not str(v).startswith("${")}, text


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif not key.startswith("_") and value is not None:
            flat[prefix + key] = value
    return flat


def _strip(frames: np.ndarray) -> str:
    """Lay pixels (N, H, W, C) side by side, as a PNG with gaps to see the page through."""
    n, height, width, channels = frames.shape
    canvas = np.zeros((height, n * (width + _GAP) - _GAP, channels + 1), dtype=np.uint8)
    for column, frame in enumerate(frames):
        start = column * (width + _GAP)
        canvas[:, start : start + width, :-1] = frame
        canvas[:, start : start + width, -1] = 255
    buffer = BytesIO()
    Image.fromarray(canvas, mode="LA" if channels == 1 else "RGBA").save(buffer, format="png", optimize=True)
    return _uri("image/png", buffer.getvalue())


def _uri(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"
