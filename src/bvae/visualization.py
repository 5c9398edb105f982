"""Pictures of a model: pure functions of the model and of images or codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from rich.table import Table
from torch import Tensor

from bvae.latents import LatentUnit
from bvae.vae import VAE

TRAVERSAL_RANGE = (-3.0, 3.0)  # in deviations of the prior
_GIF_MILLISECONDS = 80  # a frame


@torch.no_grad()
def reconstructions(vae: VAE, images: Tensor) -> Image.Image:
    """Originals over their reconstructions: (N, 1, H, W) -> a picture of two rows and N columns."""
    decoded = vae.reconstruct(images.to(vae.device)).cpu()
    figure = Figure(figsize=(len(images), 2.3), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for row, (label, pictures) in enumerate((("original", images.cpu()), ("reconstruction", decoded))):
        axes[row, 0].set_ylabel(label, fontsize=8)
        for axis, picture in zip(axes[row], pictures, strict=True):
            _show(axis, picture[0])
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
    return images[:, 0].unflatten(0, codes.shape[:2])


def traversals(vae: VAE, latents: Tensor, table: Sequence[LatentUnit], columns: int = 11) -> Image.Image:
    """One row a unit in the table's order, from −3 to 3, labelled with its KL, its variance and its factor."""
    values = torch.linspace(*TRAVERSAL_RANGE, columns)
    pictures = traverse(vae, latents, values)
    figure = Figure(figsize=(2.4 + 0.8 * columns, 0.82 * len(table) + 0.4), dpi=100, layout="constrained")
    axes = figure.subplots(len(table), columns, squeeze=False)
    for axis, value in zip(axes[0], values, strict=True):
        axis.set_title(f"{round(value.item(), 1) + 0.0:+.1f}", fontsize=8)  # + 0.0 rids zero of a minus
    for row, unit in zip(axes, table, strict=True):
        label = f"unit {unit.unit}: {caption(unit)}\nKL {unit.kl:.2f} nats\nvariance {unit.variance:.4f}"
        color = "black" if unit.active else "gray"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, color=color)
        for axis, picture in zip(row, pictures[unit.unit], strict=True):
            _show(axis, picture)
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
    at_rest = "constant" if math.isnan(unit.variance) else "at the prior"
    return unit.name or (f"mixed ({unit.factor})" if unit.active else at_rest)


def terminal_table(rows: Sequence[LatentUnit]) -> Table:
    """The latent table for a terminal."""
    table = Table("unit", "variance", "KL (nats)", "follows", "correlation", "MI / H", "name", title="Latent units")
    for row in rows:
        variance, kl = ("–", "–") if math.isnan(row.variance) else (f"{row.variance:.4f}", f"{row.kl:.2f}")
        cells = (str(row.unit), variance, kl, row.factor, f"{row.correlation:+.2f}")
        table.add_row(*cells, f"{row.normalized_mi:.2f}", caption(row), style=None if row.active else "dim")
    return table


def _enlarge(frame: np.ndarray, scale: int) -> Image.Image:
    height, width = frame.shape
    return Image.fromarray(frame).resize((scale * width, scale * height), Image.Resampling.NEAREST)


def _show(axis, picture: Tensor) -> None:
    axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])


def _render(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
