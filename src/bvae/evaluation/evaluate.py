"""What a model has learned: its codes, the latent table, the scores and the pictures, as a run leaves them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from PIL.Image import Image

from bvae.data.image_set import Card, Factors, named
from bvae.evaluation import latent_table as tables
from bvae.evaluation import pictures, scores
from bvae.evaluation.codes import check_known, elbo_terms, encode, sample, variances_at_quoted_picture, write_codes
from bvae.evaluation.ends import Ends, ends
from bvae.evaluation.errors import Errors, squared_errors
from bvae.evaluation.examples import Examples, examples, samples
from bvae.evaluation.features import LayerFeatures, dead_features, remark
from bvae.evaluation.finding import finding
from bvae.evaluation.latent_table import LatentUnit, latent_table
from bvae.evaluation.names import named_by, read_names
from bvae.evaluation.scores import NO_SCORES, Score, Scoring, compute_scores
from bvae.evaluation.shares import FEWEST, known_by_enough
from bvae.evaluation.turning import Turn, turning
from bvae.files import atomic_write
from bvae.metrics import Codes, CodesMetric
from bvae.model import VAE
from bvae.received import intact
from bvae.terminal import console, stage

_log = logging.getLogger(__name__)
_SAMPLE = 1000  # images, over which a feature that is constant is dead, and of which a few are shown


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` finds; of pixels (…, H, W, C), uint8."""

    codes: Codes  # with the factors that units may be named by
    factors: Factors | None
    table: list[LatentUnit]
    scores: list[Score]
    turns: Sequence[Turn] = ()  # units that turn with an angle
    originals: np.ndarray | None = None  # pixels of a few images, (n, H, W, C)
    reconstructions: np.ndarray | None = None  # the same, decoded from their posterior means
    traversals: np.ndarray | None = None  # pixels of each unit from −3 to 3, (D, F, H, W, C)
    pictures: Mapping[str, Image] = field(default_factory=dict)
    gif: Path | None = None
    ends: Sequence[Ends] = ()  # images of the active units
    examples: Sequence[Examples] = ()  # more reconstructions, a few images of each kind
    samples: np.ndarray | None = None  # pixels decoded from the prior, (n, H, W, C)
    features: Sequence[LayerFeatures] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)  # how many the encoder and the decoder have
    likelihood: str = ""  # the name of its class
    source: Mapping[str, Any] = field(default_factory=dict)  # the file that was evaluated, and its steps
    terms: Mapping[str, float] = field(default_factory=dict)  # of the ELBO, see `elbo_terms`
    errors: Errors | None = None  # of reconstructions
    card: Card | None = None  # of the dataset
    advice: Sequence[str] = ()  # what to change, and why


def _in_evaluation_mode(function: Callable[..., Evaluation]) -> Callable[..., Evaluation]:
    """Call it with the model in evaluation mode, and bring back the mode that it was in, whatever happens."""

    @wraps(function)
    def in_evaluation_mode(vae: VAE, *arguments: Any, **named_arguments: Any) -> Evaluation:
        training = vae.training
        vae.eval()
        try:
            return function(vae, *arguments, **named_arguments)
        finally:
            vae.train(training)

    return in_evaluation_mode


@_in_evaluation_mode
@torch.compiler.set_stance("force_eager")  # its batches of other sizes would each be compiled for
@torch.no_grad()
def evaluate(
    vae: VAE,
    datamodule: LightningDataModule,
    folder: Path,
    scoring: Scoring = NO_SCORES,
    final: bool = True,
    num_images: int = 12,
    source: Mapping[str, Any] | None = None,
    names: Mapping[int, str] | None = None,
) -> Evaluation:
    """Encode, score and draw; traversals start from the image whose code lies nearest the origin.

    Writes `reconstructions.png`, `traversals.png` and `latents.csv`, and at the end of a training `traversals.gif`,
    `traversals/unit_*.gif`, `codes.npz` and `scores.json` too, in which scores of the same source that aren't computed
    again stay.

    Args:
        vae: the model.
        datamodule: set up; its `predict_dataloader` serves the images, its `factors` describe the factors, where there
            are any.
        folder: where the files go.
        scoring: what to score.
        final: whether it is the end of a training, which shows its progress on the terminal.
        num_images: how many reconstructions to draw.
        source: what the model was read from, such as `{"checkpoint": path, "step": 100}`.
        names: of units, by their numbers; those of the folder's `units.json` by default.
    """
    source = source or {}
    known = getattr(datamodule, "factors", None)
    every_image = final and scoring.encodes_every_image(source.get("step") or 0, known)
    with stage("Encoding", quiet=not final or (every_image and console().is_terminal)):  # which shows a bar of its own
        codes = encode(vae, datamodule, every_image)
    described = _factors(datamodule, codes)
    told, factors = known_by_enough(codes, described)
    if final:
        _remark_on_unknown(described, factors)
    labelled = told.labelled()
    table = latent_table(told, factors, variances_at_quoted_picture(vae, datamodule))
    table = named_by(table, read_names(folder) if names is None else names)
    metrics = scoring.final if final else scoring.sample or {}
    computed = compute_scores(metrics, codes, show=final)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_csv(table, folder / "latents.csv")
    terms, errors = {}, None
    if final:
        with stage("Reconstructing"):
            terms, errors = elbo_terms(vae, datamodule), squared_errors(vae, datamodule)
        computed += _earlier(metrics, folder, source)
        scores.write_json(computed, folder / "scores.json", source, terms)
        write_codes(codes, described.names if described else (), folder / "codes.npz")
    with stage("Drawing what the units encode", quiet=not final):
        images, classes = sample(datamodule, _SAMPLE, vae.device)
        features = dead_features(vae, images)
        originals = pictures.pixels(images[:num_images])
        decoded = pictures.pixels(vae.reconstruct(images[:num_images]))
        start = codes.mean[torch.linalg.vector_norm(codes.mean, dim=1).argmin()]
        frames = pictures.traverse(vae, start, torch.linspace(*pictures.TRAVERSAL_RANGE, pictures.FRAMES))
        drawn = {
            "reconstructions": pictures.reconstructions(originals, decoded),
            "traversals": pictures.traversals(frames, table),
        }
        for name, picture in drawn.items():
            with atomic_write(folder / f"{name}.png") as partial:
                picture.save(partial, format="png")
        gif = _write_gifs(frames, table, folder) if final else None
        extremes = ends(vae, images, table) if final else []
        kinds = examples(vae, images, classes, described, num_images) if final else []
    return Evaluation(
        codes=told,
        factors=factors,
        table=table,
        scores=computed,
        turns=turning(labelled, factors) if final and len(labelled.mean) else (),
        originals=originals,
        reconstructions=decoded,
        traversals=frames,
        pictures=drawn,
        gif=gif,
        ends=extremes,
        examples=kinds,
        samples=samples(vae, codes.mean.shape[1]) if final else None,
        features=features,
        parameters={
            name: sum(weight.numel() for weight in part.parameters())
            for name, part in (("encoder", vae.encoder), ("decoder", vae.decoder))
        },
        likelihood=type(vae.likelihood).__name__,
        source=source,
        terms=terms,
        errors=errors,
        card=getattr(getattr(datamodule, "image_set", None), "card", None),
    )


def units_of(vae: VAE, datamodule: LightningDataModule) -> list[LatentUnit]:
    """Tabulate a model's units by the images that the data module's `predict_dataloader` serves."""
    codes = encode(vae, datamodule)
    return latent_table(*known_by_enough(codes, _factors(datamodule, codes)))


def _factors(datamodule: LightningDataModule, codes: Codes) -> Factors | None:
    return getattr(datamodule, "factors", None) or named(codes.factors.numpy())


def _remark_on_unknown(described: Factors | None, kept: Factors | None) -> None:
    if left_out := [name for name in described.names if kept is None or name not in kept.names] if described else []:
        _log.warning("Fewer than %s images are labelled, so no unit is named by: %s", FEWEST, ", ".join(left_out))


def evaluate_codes(
    codes: Codes,
    folder: Path,
    scoring: Scoring = NO_SCORES,
    factor_names: Sequence[str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score anybody's codes and write `scores.json`, in which scores of the same source that aren't taken again stay.

    Args:
        codes: of N images, as `codes_of` or `read_codes` gives them; a factor that isn't known is NaN.
        folder: where the file goes.
        scoring: what to score.
        factor_names: K, the factors'.
        source: what the codes were read from, such as `{"codes": path}`.

    Raises ValueError for arrays that can't be scored.
    """
    _, factors = check_known(codes.mean, codes.factors)
    if factor_names is not None and len(factor_names) != factors.shape[1]:
        raise ValueError(f"factors of shape {factors.shape} need {factors.shape[1]} names, got {len(factor_names)}")
    described = named(factors, factor_names)
    told, kept = known_by_enough(codes, described)
    _remark_on_unknown(described, kept)
    table = latent_table(told, kept)
    computed = compute_scores(scoring.final, codes)
    folder.mkdir(parents=True, exist_ok=True)
    computed += _earlier(scoring.final, folder, source)
    scores.write_json(computed, folder / "scores.json", source)
    return Evaluation(told, kept, table, computed, source=source or {})


def _earlier(metrics: Mapping[str, CodesMetric | None], folder: Path, source: Mapping[str, Any] | None) -> list[Score]:
    """The scores of the same source in the folder, but for those that the metrics replace."""
    # A metric's own name stands for several that couldn't be computed, in what earlier versions wrote.
    replaced = {*metrics, *scores.names_of(metrics)}
    found = intact(lambda path: scores.read_json(path, source), folder / "scores.json") or []
    return [score for score in found if score.name not in replaced]


def _write_gifs(frames: np.ndarray, table: list[LatentUnit], folder: Path) -> Path:
    moving = pictures.back_and_forth(frames)
    path = folder / "traversals.gif"
    pictures.save_gif(pictures.mosaic(moving, table), path)
    units = folder / "traversals"
    units.mkdir(exist_ok=True)
    for unit, unit_frames in enumerate(moving):
        pictures.save_gif(pictures.enlarged(unit_frames), units / f"unit_{unit}.gif")
    return path


def show(evaluation: Evaluation, folder: Path) -> None:
    """Print what was found, the latent table, the scores, what the features call for, and where the report is."""
    terminal = console()
    found = finding(evaluation.table, evaluation.factors, evaluation.turns)
    terminal.print(found, soft_wrap=True)
    for advice in evaluation.advice:
        terminal.print(advice, soft_wrap=True)
    terminal.print(tables.terminal_table(evaluation.table))
    if evaluation.terms:
        rec, kl, n = (evaluation.terms[name] for name in ("reconstruction", "kl", "n"))
        terminal.print(f"Reconstruction {rec:.2f} nats, KL {kl:.2f} nats, means over {n:,} images")
    if evaluation.errors:
        terminal.print(str(evaluation.errors), soft_wrap=True)
    missing = scores.undefined(evaluation.scores)
    if computed := [score for score in evaluation.scores if score.protocol not in missing]:
        terminal.print(scores.terminal_table(computed))
    for why, those in missing.items():
        terminal.print(f"{', '.join(score.name for score in those)} {why}", soft_wrap=True)
    if dying := remark(evaluation.features):
        terminal.print(dying, soft_wrap=True)
    protocols = ", with each score's protocol" if evaluation.scores else ""
    terminal.print(f"Report{protocols}: {folder}/report.html", soft_wrap=True)
    if evaluation.traversals is not None:  # there is a model
        terminal.print(f"Explorer: {folder}/explorer.html", soft_wrap=True)
