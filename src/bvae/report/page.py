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
import torch
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from bvae.evaluation import Evaluation
from bvae.latents import ACTIVE_BELOW
from bvae.report import figures
from bvae.scores import readable
from bvae.vae import VAE
from bvae.visualization import TRAVERSAL_RANGE, caption, gray, traverse

_SETTINGS = ("seed", "model", "loss", "optimizer", "scheduler", "data", "trainer.max_steps", "trainer.precision")
_COLUMNS = 11  # of the traversals
_MOST_RESPONSES = 12  # units whose responses are drawn
_GAP = 3  # pixels between pictures of a strip


def environment() -> Environment:
    """Of the pages' templates."""
    loader = PackageLoader("bvae.report", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def report(folder: Path, found: Evaluation, vae: VAE | None = None, run: Path | None = None) -> Path:
    """Write `report.html` into a folder: all of a run in one file, which needs no other and no network.

    Args:
        folder: where it goes.
        found: what the evaluation found.
        vae: the model that the pictures are drawn with; none where only codes were scored.
        run: what was evaluated, the folder itself unless given. A run's `.hydra/` and `metrics.csv` give the settings
            and the training curves.
    """
    run = folder if run is None else run
    active = [row.unit for row in found.table if row.active][:_MOST_RESPONSES]
    overrides, settings, config = _configuration(run / ".hydra")
    metrics = run / "metrics.csv"
    means = found.codes.mean.double().numpy()
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=" ".join(overrides) or (run.name if run.is_dir() else str(run)),
            folder=folder.name,
            date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            versions={name: version(name) for name in ("bvae", "torch", "lightning")}
            | {"Python": platform.python_version()},
            found=found,
            n=len(means),
            has_posterior=found.codes.log_variance is not None,
            captions={row.unit: caption(row) for row in found.table},
            factors=found.factor_names,
            active_below=ACTIVE_BELOW,
            readable=readable,
            settings=settings,
            config=config,
            curves=figures.training_curves(metrics) if metrics.is_file() else [],
            gif=_uri("image/gif", found.gif.read_bytes()) if found.gif else None,
            ticks=np.linspace(*TRAVERSAL_RANGE, _COLUMNS),
            strips=_traversals(vae, found.start) if vae is not None else {},
            reconstructions=_reconstructions(vae, found.images) if vae is not None else [],
            responses={
                unit: figures.responses(means[:, unit], found.codes.factors, found.factor_names, found.value_names)
                for unit in active
                if found.factor_names
            },
        )
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _configuration(folder: Path) -> tuple[list[str], dict[str, Any], str]:
    """A run's overrides, the settings of its parts, and its whole configuration as YAML."""
    if not (folder / "config.yaml").is_file():
        return [], {}, ""
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text(encoding="utf-8"))
    flat = _flat(yaml.safe_load(text))
    shown = {k: v for k, v in flat.items() if f"{k}.".startswith(tuple(f"{name}." for name in _SETTINGS))}
    return overrides, {k: v for k, v in shown.items() if not str(v).startswith("${")}, text


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif not key.startswith("_") and value is not None:
            flat[prefix + key] = value
    return flat


def _traversals(vae: VAE, start: Tensor) -> dict[int, str]:
    """Each unit's pictures from −3 to 3, side by side."""
    pictures = traverse(vae, start, torch.linspace(*TRAVERSAL_RANGE, _COLUMNS))
    return {unit: _strip(row) for unit, row in enumerate(pictures)}


@torch.no_grad()
def _reconstructions(vae: VAE, images: Tensor) -> list[tuple[str, str]]:
    """Originals and their reconstructions."""
    decoded = vae.reconstruct(images)
    return [("original", _strip(gray(images))), ("reconstruction", _strip(gray(decoded)))]


def _strip(pictures: Tensor) -> str:
    """Pictures (V, H, W) in [0, 1] side by side, as a PNG with gaps to see the page through."""
    gray = (pictures.float().cpu() * 255).round().byte().numpy()
    n, height, width = gray.shape
    canvas = np.zeros((height, n * (width + _GAP) - _GAP, 2), dtype=np.uint8)
    for column, picture in enumerate(gray):
        start = column * (width + _GAP)
        canvas[:, start : start + width, 0] = picture
        canvas[:, start : start + width, 1] = 255
    buffer = BytesIO()
    Image.fromarray(canvas, mode="LA").save(buffer, format="png", optimize=True)
    return _uri("image/png", buffer.getvalue())


def _uri(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"
