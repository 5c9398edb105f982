"""dSprites in colour, under noise and before a picture, after Locatello et al. (2019), arXiv:1811.12359.

They are made from dSprites' cache file as it is decoded. What is random in an image is no factor but a function of the
set's seed and the image's position, which travels behind the packed pixels.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bvae.data.dsprites.image_set import CARD, DSprites, Source, unpack
from bvae.data.dsprites.render import IMAGE_BYTES, IMAGE_SIZE
from bvae.data.image_set import Card
from bvae.data.pictures import eight_bits, turn_upright
from bvae.received import PICTURES, check_regular

_SHAPE = (3, IMAGE_SIZE, IMAGE_SIZE)
_POOL = 2**22  # uniforms that images take their noise from
_PICTURE = (350, 274)  # the most columns and rows of a background, as in disentanglement_lib
# The constants of SplitMix64 (Steele, Lea & Flood 2014) as signed integers, which PyTorch multiplies modulo 2^64.
_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def _mix(x: Tensor) -> Tensor:
    """Scramble int64, each value into another (SplitMix64's finalizer)."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right as if unsigned."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _uniforms(draws: Tensor) -> Tensor:
    """Turn random int64 into single precision in [0, 1)."""
    return _shifted(draws, 40).float() * 2**-24


def _below(n: int, draws: Tensor) -> Tensor:
    """Turn random int64 into integers from 0 to n - 1."""
    return _shifted(draws, 1) % n


@lru_cache(maxsize=2)
def _halved(picture: Tensor, device: torch.device) -> Tensor:
    """Turn pixels from 0 to 255 into halves of those from 0 to 1."""
    return picture.to(device) / 510


@lru_cache(maxsize=2)
def _pool(stream: int, device: torch.device) -> Tensor:
    """Draw the uniforms that images take their noise from, the same on every device: (P, 3, 64, 64), a view.

    Image-sized windows start at each of P places of one line of numbers, so that two images share a part of their noise
    only where their places lie close together.
    """
    line = torch.rand(_POOL, generator=torch.Generator().manual_seed(stream)).to(device)
    size = IMAGE_SIZE * IMAGE_SIZE
    return line.as_strided((_POOL - 3 * size + 1, *_SHAPE), (1, size, IMAGE_SIZE, 1))


class _Variant(DSprites):
    """dSprites with something random in each image: (3, 64, 64), from 0 to 1."""

    shape = _SHAPE
    draws: int  # how many random integers an image takes

    def __init__(self, source: Source | None = None, seed: int = 0) -> None:
        super().__init__(source)
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"data.images.seed must be an integer from 0 to 2^32 - 1, got {seed!r}")
        self.stream = int(_mix(torch.tensor(seed)))  # so that the draws of two seeds have nothing in common

    @property
    def digest(self) -> int:
        return zlib.crc32(f"{type(self).__name__} {self.stream}".encode(), super().digest)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images (B, 520) uint8, 512 bytes of pixels and 8 of the position, and factors (B, 5)."""
        packed, factors = super().__getitem__(indices)
        positions = torch.from_numpy(np.array(indices, dtype=np.int64)).view(torch.uint8).view(-1, 8)
        return torch.cat([packed, positions], dim=1), factors

    def decode(self, batch: Tensor) -> Tensor:
        """Decode (B, 520) uint8 into images (B, 3, 64, 64) of single precision from 0 to 1."""
        positions = batch[:, IMAGE_BYTES:].clone().view(torch.int64)
        numbers = positions * self.draws + torch.arange(self.draws, device=batch.device)
        return self.vary(unpack(batch[:, :IMAGE_BYTES]), _mix(numbers * _GOLDEN + self.stream))

    @abstractmethod
    def vary(self, sprites: Tensor, draws: Tensor) -> Tensor:
        """Make images from sprites (B, 1, 64, 64), 0.0 and 1.0, and each one's own random int64 (B, `draws`)."""


def _card(name: str, about: str) -> Card:
    return Card(
        name=name,
        about=f"dSprites, {about} Made here as disentanglement_lib defines it; what is random is no factor.",
        source=f"https://github.com/google-research/disentanglement_lib, {CARD.source}",
        licence=CARD.licence,
        citation="Locatello, Bauer, Lucic, Rätsch, Gelly, Schölkopf & Bachem (2019): Challenging common assumptions in "
        f"the unsupervised learning of disentangled representations; {CARD.citation}",
    )


class ColorDSprites(_Variant):
    """dSprites with sprites of random colours: the image times U(0.5, 1) for each channel.

    Args:
        source: where dSprites' images come from; rendered unless given.
        seed: of the colours.
    """

    card = _card("dsprites_color", "each sprite in a random colour.")
    draws = 3

    def vary(self, sprites: Tensor, draws: Tensor) -> Tensor:
        colours = 0.5 + 0.5 * _uniforms(draws)
        return sprites * colours[:, :, None, None]


class NoisyDSprites(_Variant):
    """dSprites under noise: min(image + U(0, 1), 1) for each pixel and channel.

    Args:
        source: where dSprites' images come from; rendered unless given.
        seed: of the noise.
    """

    card = _card("dsprites_noisy", "white sprites on coloured noise.")
    draws = 1

    def vary(self, sprites: Tensor, draws: Tensor) -> Tensor:
        pool = _pool(self.stream, sprites.device)
        noise = pool.index_select(0, _below(len(pool), draws[:, 0]))
        return noise.add_(sprites).clamp_max_(1)


class ScreamDSprites(_Variant):
    """dSprites before a picture: a random crop of it, averaged with a random colour, and 1 − x where the sprite is.

    Args:
        source: where dSprites' images come from; rendered unless given.
        seed: of the crops and the colours.
        background: a picture, PNG or JPEG, scaled down to fit 350×274; one is generated unless given.

    Raises ValueError where the picture can't be read or is smaller than a crop.
    """

    card = _card("dsprites_scream", "each sprite as the negative of a random crop of a picture, tinted at random.")
    draws = 5

    def __init__(self, source: Source | None = None, seed: int = 0, background: str | None = None) -> None:
        super().__init__(source, seed)
        pixels = _generated() if background is None else _read(Path(background).expanduser())
        name = "generated" if background is None else Path(background).name
        self.card = replace(self.card, about=f"{self.card.about} Background: {name}.")
        self.picture = torch.tensor(pixels).permute(2, 0, 1).contiguous()  # (3, H, W), uint8

    @property
    def digest(self) -> int:
        return zlib.crc32(self.picture.numpy().data, super().digest)

    def vary(self, sprites: Tensor, draws: Tensor) -> Tensor:
        half = _halved(self.picture, sprites.device)
        _, height, width = half.shape
        last = (height - IMAGE_SIZE) * width + width - IMAGE_SIZE
        crops = half.as_strided((last + 1, *_SHAPE), (1, height * width, width, 1))  # by the first pixel's number
        row = _below(height - IMAGE_SIZE + 1, draws[:, 0])
        column = _below(width - IMAGE_SIZE + 1, draws[:, 1])
        background = crops.index_select(0, row * width + column)
        background.add_(0.5 * _uniforms(draws[:, 2:])[:, :, None, None])
        return background.sub_(sprites).abs_()


def _read(path: Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8, scaled down to fit 350×274."""
    try:
        check_regular(path)
        with Image.open(path, formats=PICTURES) as opened:
            turn_upright(opened)
            picture = eight_bits(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise ValueError(f"data.background={path} can't be read as a picture, a PNG or JPEG: {error}") from error
    given = "{}×{}".format(*picture.size)
    picture.thumbnail(_PICTURE)
    if min(picture.size) < IMAGE_SIZE:
        fitted = "{}×{}".format(*picture.size)
        raise ValueError(
            f"data.background={path} has {given} pixels, {fitted} once it fits 350×274; it must keep 64×64 or more"
        )
    return np.asarray(picture)


def _generated() -> np.ndarray:
    """Paint (274, 350, 3) uint8: swirling bands, warm at the top and cool at the bottom."""
    width, height = _PICTURE
    y, x = np.mgrid[:height, :width] / height
    for centre_x, centre_y, turn in ((0.35, 0.3, 4.0), (0.9, 0.65, -5.0), (0.2, 0.85, 3.0)):
        dx, dy = x - centre_x, y - centre_y
        angle = turn * np.exp(-12 * (dx**2 + dy**2))
        x, y = centre_x + np.cos(angle) * dx - np.sin(angle) * dy, centre_y + np.sin(angle) * dx + np.cos(angle) * dy
    band = 0.5 + 0.5 * np.sin(40 * (y + 0.06 * np.sin(7 * x)))[..., None]
    coolness = 1 / (1 + np.exp(-12 * (y - 0.5)))[..., None]
    warm = band * np.array([0.98, 0.72, 0.22]) + (1 - band) * np.array([0.78, 0.22, 0.10])
    cool = band * np.array([0.30, 0.62, 0.70]) + (1 - band) * np.array([0.07, 0.13, 0.33])
    return np.round(255 * ((1 - coolness) * warm + coolness * cool)).astype(np.uint8)
