"""The explorer: a page in which the model itself runs, that its units are moved in and pictures are encoded in."""

from __future__ import annotations

import base64
import copy
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from bvae.data.image_set import FactorGrid, Factors
from bvae.evaluation import pictures
from bvae.evaluation.codes import serve
from bvae.evaluation.latent_table import LatentUnit, caption
from bvae.model import VAE
from bvae.report import network
from bvae.report.page import write_page

_PICTURES = 4_000  # of the dataset, at most
_BYTES = 16_000_000  # of their values; those of black and white ones take an eighth in the page
_POINTS = 500  # of the scatter
_BATCH = 250


@dataclass(frozen=True)
class Explored:
    """A model to explore, and its latent table."""

    title: str
    vae: VAE
    table: Sequence[LatentUnit]


@dataclass(frozen=True)
class _Pictures:
    """Pictures of the dataset that the page holds."""

    levels: Tensor  # (N, C, H, W), 0 to 255
    classes: Tensor  # (N, K), their factors; K is 0 without
    points: np.ndarray  # (P,), those whose codes are drawn
    kept: list[list[int]]  # of each factor, the classes that every combination is there of; empty where not all are


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def explore(path: Path, models: Sequence[Explored], datamodule: LightningDataModule) -> None:
    """Write the page: one file, which needs no other and no network.

    A single model's page links to the report beside it. Where a model computes what the page can't, it says so and
    shows the traversals' frames.

    Args:
        path: of the file.
        models: one, or several side by side, for images of the same shape.
        datamodule: set up; its images are shown, with its `factors`.

    Raises ValueError for models of images of another shape.
    """
    found = _pictures(datamodule, models[0].vae.device)
    shape = tuple(found.levels.shape[1:])
    for model in models:
        theirs = getattr(model.vae.encoder, "image_shape", shape)
        if tuple(theirs) != shape:
            raise ValueError(
                f"{model.title} takes images of {theirs}, the data's are of {shape}: they can't be compared"
            )
    levels = found.levels.flatten(1).numpy()
    packed = not (levels + 1 > 1).any()  # as 255 + 1 is 0, black and white
    blobs = [_compressed(np.packbits(levels > 0, axis=1) if packed else levels)]
    described = []
    for model in models:
        about, numbers = _model(model, found)
        described.append(about)
        blobs.append(numbers)
    about = {
        "shape": shape,
        "pictures": {"count": len(levels), "packed": packed, "points": found.points.tolist()},
        "factors": _factors(getattr(datamodule, "factors", None), found),
        "models": described,
    }
    write_page(
        path,
        "explorer.html",
        title=" and ".join(model.title for model in models),
        about=json.dumps(about).replace("<", "\\u003c"),  # a title that ends the script would end it
        blobs=blobs,
        models=models,
        report=len(models) == 1 and (path.parent / "report.html").is_file(),
    )


def _compressed(array: np.ndarray | bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> str:
    packer = zlib.compressobj(level=6, wbits=31, strategy=strategy)  # gzip's form, which browsers read
    data = array if isinstance(array, bytes) else array.tobytes()
    return base64.b64encode(packer.compress(data) + packer.flush()).decode()


def _model(model: Explored, found: _Pictures) -> tuple[dict[str, Any], str]:
    """Describe a model for the page, and give its numbers: the codes of the points, then the weights or the frames."""
    vae = copy.deepcopy(model.vae).eval().float().cpu()  # which may be in the middle of a training
    images = found.levels[found.points].float() / 255
    codes = torch.cat([vae.encode(batch).mean for batch in images.split(_BATCH)])
    about: dict[str, Any] = {
        "title": model.title,
        "units": [
            {
                "unit": row.unit,
                "name": caption(row),
                "called": row.called,
                "plain": caption(replace(row, called="")),  # its title once that name is taken away
                "kl": row.kl,
                "sigma": math.sqrt(row.variance),
                "active": row.active,
            }
            for row in model.table
        ],
        "reach": max(3.0, math.ceil(2 * float(codes.abs().max())) / 2),
    }
    try:
        program = network.program(vae, images, codes.shape[1])
        numbers = program.numbers
        about |= {name: value for name, value in vars(program).items() if name != "numbers"}
    except network.Refused as error:
        start = codes[torch.linalg.vector_norm(codes, dim=1).argmin()]
        values = torch.linspace(*pictures.TRAVERSAL_RANGE, pictures.FRAMES)
        frames = pictures.traverse(vae, start, values)
        numbers = np.ascontiguousarray(np.moveaxis(frames, -1, 2)).tobytes()  # (D, F, C, H, W)
        about |= {"refused": str(error), "frames": len(values), "start": start.tolist(), "reach": float(values[-1])}
    # Hardly a byte of weights repeats others: to look for them takes ten times as long.
    return about, _compressed(codes.numpy().astype("<f4").tobytes() + numbers, zlib.Z_HUFFMAN_ONLY)


def _factors(factors: Factors | None, found: _Pictures) -> list[dict[str, Any]]:
    """Describe the factors for the page, with the classes of the points."""
    described = []
    for k in range(found.classes.shape[1]):
        name = factors.names[k] if factors else f"factor {k}"
        described.append(
            {
                "label": factors.label(name) if factors else name,
                "category": factors is not None and name in factors.categories,
                "angle": factors is not None and name in factors.angles,
                "kept": found.kept[k] if found.kept else [],
                "names": factors.value_names.get(name, ()) if factors else (),
                "values": found.classes[found.points, k].tolist(),
            }
        )
    return described


def _pictures(datamodule: LightningDataModule, device: torch.device) -> _Pictures:
    """Take pictures of the dataset: of a grid each combination of evenly spaced classes, else some for evaluation."""
    images = getattr(datamodule, "image_set", None)
    factors = None if images is None else images.factors
    kept: list[list[int]] = []
    if images is not None and isinstance(factors, FactorGrid) and len(factors) == len(images):
        most = min(_most(images.decode(images[np.arange(2)][0])), getattr(datamodule, "eval_images", _PICTURES))
        kept = _thinned(factors.sizes, most)
        indices = np.ravel_multi_index(np.meshgrid(*kept, indexing="ij"), factors.sizes).ravel()
        batches = [images[part] for part in np.array_split(indices, math.ceil(len(indices) / _BATCH))]
        found = [(_levels(images.decode(travelled)), classes) for travelled, classes in batches]
    else:
        served, classes = next(iter(serve(datamodule.predict_dataloader(), datamodule, device)))
        found = [(_levels(served[: _most(served)]), classes[: _most(served)].cpu())]
    levels = torch.cat([part for part, _ in found])
    classes = torch.cat([part for _, part in found])
    if classes.is_floating_point() and classes.isnan().any():  # labels of some pictures
        classes = classes[:, :0]
    points = np.sort(np.random.default_rng(0).permutation(len(levels))[:_POINTS])
    return _Pictures(levels, classes, points, kept)


def _levels(images: Tensor) -> Tensor:
    return (images * 255).round().byte().cpu()


def _most(images: Tensor) -> int:
    """How many pictures of this size the page has room for."""
    return min(_PICTURES, max(_BYTES // images[0].numel(), 2))


def _thinned(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Choose evenly spaced classes of each factor, so that no more than so many combinations are left."""
    counts = list(sizes)
    while math.prod(counts) > most and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
    return [
        np.linspace(0, size - 1, count).round().astype(int).tolist() for size, count in zip(sizes, counts, strict=True)
    ]
