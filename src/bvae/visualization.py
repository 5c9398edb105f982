"""Pictures of a model: pure functions of the model and of images or codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from bvae.latents import CLEAR_SHARE, LatentUnit
from bvae.vae import VAE

TRAVERSAL_RANGE = (-3.0, 3.0)  # in deviations of the prior
_GIF_MILLISECONDS = 80  # a frame
_GAP = 4  # pixels between pictures


def gray(images: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, H, W); raises ValueError for images in colour, of which a channel would be drawn."""
    if images.shape[1] != 1:
        raise ValueError(f"only images of one channel can be drawn, (N, 1, H, W), got {tuple(images.shape)}")
    return images[:, 0]


@torch.no_grad()
def reconstructions(vae: VAE, images: Tensor) -> Image.Image:
    """Originals over their reconstructions: (N, 1, H, W) -> a picture of two rows and N columns."""
    decoded = vae.reconstruct(images.to(vae.device)).float().cpu()
    figure = Figure(figsize=(len(images) + 1.2, 2.2), dpi=100, layout="constrained")
    _show(figure, torch.stack((gray(images.cpu()), gray(decoded))), ["original", "reconstruction"])
    return _render(figure)


@torch.no_grad()
def traverse(vae: VAE, latents: Tensor, values: Tensor) -> Tensor:
    """Images decoded from one code with one unit at a time set to each value.

    Args:
        latents: (D,), the code to start from.
        values: (V,), what a unit is set to.

    Returns (D, V, H, W) in [0, 1], on the CPU.
    """
    units = torch.arange(len(latents))
    codes = latents.repeat(len(units), len(values), 1)
    codes[units, :, units] = values.to(codes)
    images = vae.decode(codes.flatten(0, 1).to(vae.device)).sigmoid().float().cpu()
    return gray(images).unflatten(0, codes.shape[:2])


def traversals(vae: VAE, latents: Tensor, table: Sequence[LatentUnit], columns: int = 11) -> Image.Image:
    """One row a unit in the table's order, from −3 to 3, labelled with its KL, its variance and its factor."""
    values = torch.linspace(*TRAVERSAL_RANGE, columns)
    pictures = traverse(vae, latents, values)[[unit.unit for unit in table]]
    figure = Figure(figsize=(2.4 + 0.8 * columns, 0.82 * len(table) + 0.4), dpi=100, layout="constrained")
    labels = [f"unit {u.unit}: {caption(u)}\nKL {u.kl:.2f} nats\nvariance {u.variance:.5f}" for u in table]
    axes = _show(figure, pictures, labels)
    for label, unit in zip(axes.get_yticklabels(), table, strict=True):
        label.set_color("black" if unit.active else "gray")
    middles = axes.get_images()[0].get_array().shape[1] / columns * (np.arange(columns) + 0.5)
    axes.set_xticks(middles, [f"{round(v, 1) + 0.0:+.1f}" for v in values.tolist()])  # + 0.0 rids zero of a minus
    return _render(figure)


def traversal_frames(vae: VAE, latents: Tensor, frames: int = 31) -> np.ndarray:
    """Each unit's way from −3 to 3 and back: (D, F, H, W) uint8, F = 2 · frames − 2."""
    values = torch.linspace(*TRAVERSAL_RANGE, frames)
    there = (traverse(vae, latents, values) * 255).round().byte().numpy()
    return np.concatenate((there, there[:, -2:0:-1]), axis=1)


def mosaic(frames: np.ndarray, table: Sequence[LatentUnit], columns: int = 5) -> list[Image.Image]:
    """The units side by side in the table's order, each with its caption: (D, F, H, W) -> F pictures."""
    scale, heading, gap = 2, 16, 4
    height, width = (scale * size for size in frames.shape[2:])
    columns = min(columns, len(table))
    rows = -(-len(table) // columns)
    across, down = width + gap, heading + height + gap
    canvas = Image.new("L", (columns * across + gap, rows * down + gap), 48)  # dark, for pages in the dark
    corners = [(gap + n % columns * across, gap + n // columns * down) for n in range(len(table))]
    draw = ImageDraw.Draw(canvas)
    for (x, y), unit in zip(corners, table, strict=True):
        draw.text((x, y), f"{unit.unit}: {caption(unit)}", fill=255 if unit.active else 160)
    pictures = []
    for frame in frames.swapaxes(0, 1):
        picture = canvas.copy()
        for (x, y), unit in zip(corners, table, strict=True):
            picture.paste(_enlarge(frame[unit.unit], scale), (x, y + heading))
        pictures.append(picture)
    return pictures


def enlarged(frames: np.ndarray, scale: int = 2) -> list[Image.Image]:
    """(F, H, W) uint8 -> F pictures."""
    return [_enlarge(frame, scale) for frame in frames]


def save_gif(pictures: Sequence[Image.Image], path: str) -> None:
    """An animation that runs for ever."""
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=_GIF_MILLISECONDS, loop=0, optimize=True)


def caption(unit: LatentUnit) -> str:
    """What the unit encodes, in a word or two."""
    if unit.name:
        return unit.name
    if not unit.active:
        return "hardly moves" if math.isnan(unit.variance) else "at the prior"
    if not unit.factor:
        return "active"
    return f"mixed ({unit.factor})" if unit.normalized_mi >= CLEAR_SHARE else "no factor"


def terminal_table(rows: Sequence[LatentUnit]) -> Table:
    """The latent table for a terminal."""
    follows = ("follows", "correlation", "MI / H") if any(row.factor for row in rows) else ()
    table = Table("unit", "variance", "KL (nats)", *follows, "name", title="Latent units")
    for row in rows:
        variance, kl = ("–", "–") if math.isnan(row.variance) else (f"{row.variance:.5f}", f"{row.kl:.2f}")
        cells = (escape(row.factor), f"{row.correlation:+.2f}", f"{row.normalized_mi:.2f}") if follows else ()
        style = None if row.active else "dim"
        table.add_row(str(row.unit), variance, kl, *cells, escape(caption(row)), style=style)
    return table


def _enlarge(frame: np.ndarray, scale: int) -> Image.Image:
    height, width = frame.shape
    return Image.fromarray(frame).resize((scale * width, scale * height), Image.Resampling.NEAREST)


def _show(figure: Figure, pictures: Tensor, labels: Sequence[str]) -> Axes:
    """Pictures (R, C, H, W) in rows and columns with a label a row, drawn as one: an axes each would take seconds."""
    rows, columns, height, width = pictures.shape
    sheet = np.ones((rows, height + _GAP, columns, width + _GAP))
    sheet[:, :height, :, :width] = pictures.permute(0, 2, 1, 3).numpy()
    axes = figure.subplots()
    axes.imshow(sheet.reshape(rows * (height + _GAP), -1), cmap="gray", vmin=0, vmax=1)
    axes.set_yticks((height + _GAP) * (np.arange(rows) + 0.5), labels)
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=8, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return axes


def _render(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
