"""What a model has learned: its codes, the latent table, the scores and the pictures, as a run leaves them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from PIL.Image import Image
from rich.console import Console
from torch import Tensor

from bvae import scores, visualization
from bvae.features import LayerFeatures, dead_features, remark
from bvae.latents import Codes, LatentUnit, elbo_terms, encode, latent_table, sample_images, write_csv
from bvae.losses import Posterior, kl_divergence
from bvae.metrics import CodesMetric, check
from bvae.scores import Score
from bvae.vae import VAE

_FEATURES_OF = 1000  # images, over which a feature that is constant is dead


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` finds."""

    codes: Codes
    factor_names: tuple[str, ...]
    value_names: Mapping[str, Sequence[str]]  # of the values of some factors
    table: list[LatentUnit]
    scores: list[Score]
    images: Tensor | None = None  # a few, (n, C, H, W)
    start: Tensor | None = None  # (D,), the code that traversals start from
    pictures: Mapping[str, Image] = field(default_factory=dict)
    gif: Path | None = None
    features: Sequence[LayerFeatures] = ()
    source: Mapping[str, Any] = field(default_factory=dict)  # the file that was evaluated, and its steps
    terms: Mapping[str, float] = field(default_factory=dict)  # of the ELBO, see `elbo_terms`


@torch.compiler.set_stance("force_eager")  # its batches of other sizes would each be compiled for
@torch.no_grad()
def evaluate(
    vae: VAE,
    datamodule: LightningDataModule,
    folder: Path,
    metrics: Mapping[str, CodesMetric],
    every_image: bool = False,
    last: bool = True,
    num_images: int = 12,
    source: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Encode, score and draw; traversals start from the image whose code lies nearest the origin.

    Writes `reconstructions.png`, `traversals.png` and `latents.csv`, and where it is the last time
    `traversals.gif`, `traversals/unit_*.gif`, `codes.npz` and `scores.json` too, in which scores of the same source
    that aren't taken again stay.

    Args:
        vae: the model.
        datamodule: set up; its `predict_dataloader` serves the images, its `factor_names` (K names) name the factors,
            where there are any.
        folder: where the files go.
        metrics: what to score, see `bvae.scores.take`.
        every_image: encode what the data module's `test_dataloader` serves instead.
        last: whether it is the last time, which shows on the terminal how far it is.
        num_images: how many reconstructions to draw.
        source: what the model was read from, such as `{"checkpoint": path, "step": 100}`.
    """
    source = source or {}
    training = vae.training
    vae.eval()
    codes = encode(vae, datamodule, every_image)
    factor_names = getattr(datamodule, "factor_names", None) or numbered(codes.factors)
    table = latent_table(codes, factor_names)
    any_active = any(unit.active for unit in table)
    taken = scores.take(metrics, codes.mean, codes.factors, show=last, any_active=any_active)
    start = codes.mean[torch.linalg.vector_norm(codes.mean, dim=1).argmin()]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "latents.csv")
    terms = {}
    if last:
        with Console().status("Reconstructing"):
            terms = elbo_terms(vae, datamodule)
        # A metric of several scores names them after itself; where it can't be taken, none of them stays.
        kept = [
            score
            for score in scores.read_json(folder / "scores.json", source)
            if not any(f"{score.name}_".startswith(f"{name}_") for name in metrics)
        ]
        taken += kept
        scores.write_json(taken, folder / "scores.json", source, terms)
        write_codes(codes, factor_names, folder / "codes.npz")
    with Console(quiet=not last).status("Drawing what the units encode"):
        images = sample_images(datamodule, _FEATURES_OF, vae.device)
        features = dead_features(vae, images)
        images = images[:num_images]
        pictures = {
            "reconstructions": visualization.reconstructions(vae, images),
            "traversals": visualization.traversals(vae, start, table),
        }
        for name, picture in pictures.items():
            picture.save(folder / f"{name}.png")
        gif = _write_gifs(vae, start, table, folder) if last else None
    vae.train(training)
    value_names = getattr(datamodule, "value_names", {})
    return Evaluation(
        codes, factor_names, value_names, table, taken, images, start, pictures, gif, features, source, terms
    )


def write_codes(codes: Codes, factor_names: Sequence[str], path: Path, most: int = 10_000) -> None:
    """Codes as `read_codes` reads them, with the mean KL of each unit: `most` of the rows at most, evenly spaced."""
    rows = slice(None, None, max(1, math.ceil(len(codes.mean) / most)))
    arrays = {"codes": codes.mean[rows].numpy(), "factors": codes.factors[rows], "factor_names": np.array(factor_names)}
    if codes.log_variance is not None:
        arrays["kl"] = kl_divergence(Posterior(codes.mean, codes.log_variance)).mean(dim=0).numpy()
    np.savez_compressed(path, **arrays)


def read_codes(path: Path) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Codes (N, D), factors (N, K) and, where there are any, the factors' names (K,) of an `.npz`.

    Raises ValueError for another file, for one without the arrays `codes` and `factors`, and for what can't be scored.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder where an .npz is needed; a run's is its codes.npz")
    try:
        with np.load(path) as table:  # an .npy's array can't be opened, which Python says in two ways
            arrays = dict(table)
    except (ValueError, AttributeError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} can't be read as an .npz of plain arrays, which np.savez({path.stem!r}, codes=…, factors=…) makes"
        ) from error
    missing = {"codes", "factors"} - set(arrays)
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(sorted(missing))}, it holds {', '.join(arrays) or 'nothing'}")
    names = arrays.get("factor_names")
    codes, factors = check(arrays["codes"], arrays["factors"])
    return codes, factors, None if names is None else [str(name) for name in np.atleast_1d(names)]


def evaluate_codes(
    codes: np.ndarray,
    factors: np.ndarray,
    folder: Path,
    metrics: Mapping[str, CodesMetric],
    factor_names: Sequence[str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score anybody's codes and write `scores.json`.

    Args:
        codes: (N, D) float.
        factors: (N, K) int.
        folder: where the file goes.
        metrics: what to score, see `bvae.scores.take`.
        factor_names: K, the factors'.
        source: what the codes were read from, such as `{"codes": path}`.

    Raises ValueError for arrays that can't be scored.
    """
    codes, factors = check(codes, factors)
    factor_names = tuple(factor_names) if factor_names is not None else numbered(factors)
    if len(factor_names) != factors.shape[1]:
        raise ValueError(f"factors of shape {factors.shape} need {factors.shape[1]} names, got {len(factor_names)}")
    table_of = Codes(torch.from_numpy(codes), None, factors)
    table = latent_table(table_of, factor_names)
    taken = scores.take(metrics, table_of.mean, torch.from_numpy(factors.astype(np.int64)))
    folder.mkdir(parents=True, exist_ok=True)
    scores.write_json(taken, folder / "scores.json", source)
    return Evaluation(table_of, factor_names, {}, table, taken, source=source or {})


def numbered(factors: np.ndarray) -> tuple[str, ...]:
    """Names for factors (N, K) that have none."""
    return tuple(f"factor {k}" for k in range(factors.shape[1]))


def _write_gifs(vae: VAE, start: Tensor, table: list[LatentUnit], folder: Path) -> Path:
    frames = visualization.traversal_frames(vae, start)
    path = folder / "traversals.gif"
    visualization.save_gif(visualization.mosaic(frames, table), path)
    units = folder / "traversals"
    units.mkdir(exist_ok=True)
    for unit, unit_frames in enumerate(frames):
        visualization.save_gif(visualization.enlarged(unit_frames), units / f"unit_{unit}.gif")
    return path


def show(evaluation: Evaluation, folder: Path) -> None:
    """Print the latent table, the scores, what the features call for, and where protocols and pictures are."""
    console = Console()
    console.print(visualization.terminal_table(evaluation.table))
    if evaluation.terms:
        rec, kl, n = (evaluation.terms[name] for name in ("reconstruction", "kl", "n"))
        console.print(f"Reconstruction {rec:.2f} nats, KL {kl:.2f} nats, means over {n:,} images", highlight=False)
    if evaluation.scores:
        console.print(scores.terminal_table(evaluation.scores))
    if dying := remark(evaluation.features):
        console.print(dying, highlight=False, soft_wrap=True, markup=False)
    protocols = ", with each score's protocol" if evaluation.scores else ""
    console.print(f"Report{protocols}: {folder}/report.html", highlight=False, soft_wrap=True, markup=False)
