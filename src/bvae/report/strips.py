"""Pictures inside a page: rows of images, and the frames that a page moves through."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from bvae.received import damaged, intact

_GAP = 3  # pixels between pictures of a strip
_TINY = 20  # pixels of a picture in a thumbnail
_COLUMNS, _ROWS = 7, 4  # of a thumbnail


def strip(frames: np.ndarray) -> str:
    """Lay pixels (N, H, W, C) side by side, as a PNG with gaps to see the page through."""
    n, height, width, channels = frames.shape
    canvas = np.zeros((height, n * (width + _GAP) - _GAP, channels + 1), dtype=np.uint8)
    for column, frame in enumerate(frames):
        start = column * (width + _GAP)
        canvas[:, start : start + width, :-1] = frame
        canvas[:, start : start + width, -1] = 255
    return _png(Image.fromarray(canvas, mode="LA" if channels == 1 else "RGBA"))


def film(frames: np.ndarray) -> str:
    """Lay the frames (N, H, W, C) of a moving picture side by side, of which a page shows one at a time."""
    sheet = np.concatenate(list(frames), axis=1)
    return _png(Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet))


def thumbnail(run: Path, units: Sequence[int]) -> str:
    """Draw the traversals that a run has left of its first units, small; empty where it has left none."""
    rows = []
    for unit in units[:_ROWS]:
        path = run / "traversals" / f"unit_{unit}.gif"
        if path.is_file() and (row := intact(_frames, path)) is not None:
            rows.append(row)
    return _png(Image.fromarray(np.concatenate(rows))) if rows else ""


def _frames(path: Path) -> np.ndarray:
    """Lay frames of a traversal side by side, tiny."""
    try:
        with Image.open(path, formats=["GIF"]) as gif:
            there = getattr(gif, "n_frames", 1) // 2  # the rest leads back; a unit that moves nothing has one frame
            frames = []
            for at in np.linspace(0, there, _COLUMNS).round().astype(int):
                gif.seek(int(at))
                frames.append(np.asarray(gif.convert("RGB").resize((_TINY, _TINY), Image.Resampling.BOX)))
    except Exception as error:  # a damaged file raises whatever Pillow's reader stumbles over
        raise damaged(path, repr(error)) from error
    return np.concatenate(frames, axis=1)


def _png(picture: Image.Image) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
