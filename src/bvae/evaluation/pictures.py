"""Pictures of a model: pure functions of the model, of pixels (…, H, W, C), uint8, and of the latent table."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from bvae.evaluation.latent_table import LatentUnit, caption
from bvae.evaluation.numbers import significant
from bvae.files import atomic_write
from bvae.model import VAE

TRAVERSAL_RANGE = (-3.0, 3.0)  # in deviations of the prior
COLUMNS = 11  # of a picture of traversals; divides the steps between the frames
FRAMES = 31  # that each traversal is decoded at
_GIF_MILLISECONDS = 80  # a frame
_GAP, _GROUND = 4, 128  # pixels between pictures, and their grey, which black ones and white ones stand out from
_STYLE = ["default", {"text.parse_math": False}]  # whatever a matplotlibrc says; a factor may have a $ in its name


def pixels(images: Tensor) -> np.ndarray:
    """Convert images (…, C, H, W) in [0, 1] to pixels (…, H, W, C); raises ValueError unless C is 1 or 3."""
    if images.shape[-3] not in (1, 3):
        raise ValueError(f"only images of one or three channels can be drawn, got (…, C, H, W) = {tuple(images.shape)}")
    return (images.float().cpu() * 255).round().byte().movedim(-3, -1).numpy()


def picture(frame: np.ndarray) -> Image.Image:
    """Convert pixels (H, W, C) to a picture, gray where C is 1."""
    return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)


@torch.no_grad()
def traverse(vae: VAE, latents: Tensor, values: Tensor) -> np.ndarray:
    """Decode one code with one unit at a time set to each value.

    Args:
        vae: the model, with D latent units.
        latents: (D,), the code to start from.
        values: (V,), what a unit is set to.

    Returns pixels (D, V, H, W, C).
    """
    units = torch.arange(len(latents))
    codes = latents.repeat(len(units), len(values), 1)
    codes[units, :, units] = values.to(codes)
    images = vae.pictures(codes.flatten(0, 1).to(vae.device))
    return pixels(images.unflatten(0, codes.shape[:2]))


@style.context(_STYLE)
def reconstructions(originals: np.ndarray, decoded: np.ndarray) -> Image.Image:
    """Draw originals over their reconstructions: pixels (N, H, W, C) twice -> two rows and N columns."""
    figure = Figure(figsize=(len(originals) + 1.2, 2.2), dpi=100, layout="constrained")
    _show(figure, np.stack((originals, decoded)), ["original", "reconstruction"])
    return _render(figure)


@style.context(_STYLE)
def traversals(frames: np.ndarray, table: Sequence[LatentUnit]) -> Image.Image:
    """Draw one row a unit in the table's order, from −3 to 3, labelled with its KL, its variance and its factor.

    Args:
        frames: pixels (D, F, H, W, C) of each unit's traversal; F − 1 is a multiple of `COLUMNS` − 1.
        table: the units.
    """
    shown = columns_of(frames)[[unit.unit for unit in table]]
    columns = shown.shape[1]
    figure = Figure(figsize=(2.4 + 0.8 * columns, 0.82 * len(table) + 0.4), dpi=100, layout="constrained")
    labels = [f"unit {u.unit}: {caption(u)}\nKL {u.kl:.2f} nats\nvariance {significant(u.variance)}" for u in table]
    axes = _show(figure, shown, labels)
    for label, unit in zip(axes.get_yticklabels(), table, strict=True):
        label.set_color("black" if unit.active else "gray")
    middles = (frames.shape[3] + _GAP) * np.arange(columns) + frames.shape[3] / 2
    values = np.linspace(*TRAVERSAL_RANGE, columns)
    axes.set_xticks(middles, [f"{round(v, 1) + 0.0:+.1f}" for v in values.tolist()])  # + 0.0 rids zero of a minus
    return _render(figure)


def columns_of(frames: np.ndarray) -> np.ndarray:
    """Pick the `COLUMNS` evenly spaced frames of a traversal: (D, F, H, W, C) -> (D, COLUMNS, H, W, C)."""
    return frames[:, :: (frames.shape[1] - 1) // (COLUMNS - 1)]


def back_and_forth(frames: np.ndarray) -> np.ndarray:
    """Go through the frames and back: (D, F, H, W, C) -> (D, 2F − 2, H, W, C)."""
    return np.concatenate((frames, frames[:, -2:0:-1]), axis=1)


def mosaic(frames: np.ndarray, table: Sequence[LatentUnit], columns: int = 5) -> list[Image.Image]:
    """Draw the units side by side in the table's order, each with its caption: (D, F, H, W, C) -> F pictures."""
    scale, heading, gap = 2, 16, 4
    height, width = (scale * size for size in frames.shape[2:4])
    columns = min(columns, len(table))
    rows = -(-len(table) // columns)
    across, down = width + gap, heading + height + gap
    canvas = Image.new("L", (columns * across + gap, rows * down + gap), 48)  # dark, for pages in the dark
    corners = [(gap + n % columns * across, gap + n // columns * down) for n in range(len(table))]
    draw = ImageDraw.Draw(canvas)
    for (x, y), unit in zip(corners, table, strict=True):
        draw.text((x, y), f"{unit.unit}: {caption(unit)}", fill=255 if unit.active else 160)
    canvas = canvas.convert("L" if frames.shape[-1] == 1 else "RGB")
    drawn = []
    for frame in frames.swapaxes(0, 1):
        sheet = canvas.copy()
        for (x, y), unit in zip(corners, table, strict=True):
            sheet.paste(_enlarge(frame[unit.unit], scale), (x, y + heading))
        drawn.append(sheet)
    return drawn


def enlarged(frames: np.ndarray, scale: int = 2) -> list[Image.Image]:
    """Enlarge pixels (F, H, W, C) into F pictures."""
    return [_enlarge(frame, scale) for frame in frames]


def save_gif(frames: Sequence[Image.Image], path: Path) -> None:
    """Write an animation that repeats for ever."""
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": _GIF_MILLISECONDS,
        "loop": 0,
        "optimize": True,
    }
    with atomic_write(path) as partial:
        frames[0].save(partial, format="gif", **options)


def _enlarge(frame: np.ndarray, scale: int) -> Image.Image:
    height, width = frame.shape[:2]
    return picture(frame).resize((scale * width, scale * height), Image.Resampling.NEAREST)


def _show(figure: Figure, frames: np.ndarray, labels: Sequence[str]) -> Axes:
    """Show pixels (R, N, H, W, C) in rows and columns with a label a row, as one image: an axes each takes seconds."""
    rows, columns, height, width, channels = frames.shape
    sheet = np.full((rows, height + _GAP, columns, width + _GAP, channels), _GROUND, dtype=np.uint8)
    sheet[:, :height, :, :width] = frames.swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + _GAP), -1, channels)[:-_GAP, :-_GAP]
    axes = figure.subplots()
    axes.imshow(sheet[..., 0] if channels == 1 else sheet, cmap="gray", vmin=0, vmax=255)
    axes.set_yticks((height + _GAP) * np.arange(rows) + height / 2, labels)
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=8, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return axes


def _render(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.05)
    return Image.open(buffer).convert("RGB")
