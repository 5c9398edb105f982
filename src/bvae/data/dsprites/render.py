"""The dSprites dataset as a closed form: its factors, and its images drawn from them.

dSprites (Matthey et al. 2017, github.com/deepmind/dsprites-dataset) holds one 64×64 binary image for every combination
of five factors. Each image is a polygon, moved, turned and scaled, of which a pixel is white where its centre lies
inside. Images are drawn line by line: every polygon edge that a line of pixel centres crosses flips all pixels to its
left (the even-odd rule), and a line of 64 pixels is one 64-bit word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from bvae.data.image_set import FactorGrid

FACTOR_NAMES = ("shape", "scale", "orientation", "posX", "posY")
FACTOR_SIZES = (3, 6, 40, 32, 32)  # the last varies fastest in the archive
SHAPE_NAMES = ("square", "ellipse", "heart")
FACTORS = FactorGrid(
    names=FACTOR_NAMES,
    sizes=FACTOR_SIZES,
    value_names={"shape": SHAPE_NAMES},
    labels={"orientation": "rotation", "posX": "x", "posY": "y"},
    positions=("posX", "posY"),
    angles=("orientation",),
    closed_angles=("orientation",),
    categories=("shape",),
    quoted=(1, 2, 5, 0, 0),  # by github.com/miyosuda/disentangled_vae: an ellipse in the corner
)
NUM_IMAGES = int(np.prod(FACTOR_SIZES))
IMAGE_SIZE = 64
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE // 8

SCALES = np.linspace(0.5, 1.0, FACTOR_SIZES[1])
ORIENTATIONS = np.linspace(0.0, 2 * np.pi, FACTOR_SIZES[2])  # both ends: the last class repeats the first's picture
POSITIONS = np.linspace(0.0, 1.0, FACTOR_SIZES[3])

_CENTRES = 16.0 + 32.0 * POSITIONS  # of the sprite, in pixels; y grows downward
_PIXELS = np.arange(IMAGE_SIZE) + 0.5  # a pixel is sampled at its centre


def _outlines() -> tuple[np.ndarray, ...]:
    """Vertices (V, 2) of the square, the ellipse and the heart at scale 1 and orientation 0, in pixels.

    The constants were fitted to the 320 frames of the official preview, which the polygons give to the bit: within
    the fit's tolerance of ±0.0006 pixels the heart is the usual heart curve sampled every two degrees.
    """
    half_side = 9.5982
    square = half_side * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    t = np.radians(np.arange(360))
    ellipse = np.stack((12.766 * np.cos(t), 7.2133 * np.sin(t)), axis=1)
    t = np.radians(np.arange(0, 360, 2))
    heart_v = -1.43786 - 0.66218 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    heart = np.stack((9.5987 * np.sin(t) ** 3, heart_v), axis=1)
    return square, ellipse, heart


_OUTLINES = _outlines()

# Row n has its first n pixels white, as the bytes that np.packbits gives; viewed as one word a line so that lines
# can be combined by XOR, for which the machine's byte order does not matter.
_FIRST_PIXELS = np.packbits(np.tri(IMAGE_SIZE + 1, IMAGE_SIZE, -1, dtype=np.uint8), axis=1).view(np.uint64)[:, 0]


def _vertices(shape: int, scale: int, orientation: int) -> np.ndarray:
    """Vertices (V, 2) relative to the sprite's centre, as (x, y) in pixels."""
    u, v = _OUTLINES[shape].T * SCALES[scale]
    cos, sin = np.cos(ORIENTATIONS[orientation]), np.sin(ORIENTATIONS[orientation])
    return np.stack((cos * u + sin * v, cos * v - sin * u), axis=1)


def _draw(vertices: np.ndarray, centres_x: np.ndarray, centres_y: np.ndarray) -> np.ndarray:
    """Packed images of one polygon at every (y, x) centre: (Y,), (X,) -> (X, Y, 512) uint8."""
    lines = (_PIXELS - centres_y[:, None]).ravel()
    x0, y0 = vertices.T
    x1, y1 = np.roll(vertices, -1, axis=0).T
    below = lines[:, None] < y0
    line, edge = np.nonzero(below != np.roll(below, -1, axis=1))
    x = x0[edge] + (x1 - x0)[edge] * (lines[line] - y0[edge]) / (y1 - y0)[edge]
    left_of_edge = np.ceil(x + centres_x[:, None] - 0.5).astype(np.int64).clip(0, IMAGE_SIZE)
    crossed, first = np.unique(line, return_index=True)
    words = np.zeros((len(centres_x), len(lines)), dtype=np.uint64)
    words[:, crossed] = np.bitwise_xor.reduceat(_FIRST_PIXELS[left_of_edge], first, axis=1)
    return words.view(np.uint8).reshape(len(centres_x), len(centres_y), IMAGE_BYTES)


def _check_class(name: str, size: int, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"{name} must be class indices (integers), got {values.dtype}")
    if values.ndim > 1:
        raise ValueError(f"{name} must be a scalar or of shape (N,), got shape {values.shape}")
    if values.size and (values.min() < 0 or values.max() >= size):
        raise ValueError(f"{name} must lie in 0..{size - 1}, got {values.min()}..{values.max()}")
    return values


def render(
    shape: ArrayLike, scale: ArrayLike, orientation: ArrayLike, pos_x: ArrayLike, pos_y: ArrayLike
) -> np.ndarray:
    """Draw dSprites images from class indices, scalars or (N,) each -> (N, 64, 64) uint8 of 0/1.

    Raises TypeError for indices that are not integers and ValueError for indices outside the factor's range.
    """
    classes = (
        _check_class(name, size, values)
        for name, size, values in zip(
            FACTOR_NAMES, FACTOR_SIZES, (shape, scale, orientation, pos_x, pos_y), strict=True
        )
    )
    columns = [np.atleast_1d(column) for column in np.broadcast_arrays(*classes)]
    packed = np.empty((len(columns[0]), IMAGE_BYTES), dtype=np.uint8)
    for n, (s, c, o, x, y) in enumerate(zip(*columns, strict=True)):
        packed[n] = _draw(_vertices(s, c, o), _CENTRES[x, None], _CENTRES[y, None])
    return unpack(packed)


def render_all() -> Iterator[np.ndarray]:
    """Every image in the archive's order, packed: (1024, 512) uint8 for each shape, scale and orientation."""
    for shape, scale, orientation in np.ndindex(FACTOR_SIZES[:3]):
        yield _draw(_vertices(shape, scale, orientation), _CENTRES, _CENTRES).reshape(-1, IMAGE_BYTES)


def pack(images: np.ndarray) -> np.ndarray:
    """(N, 64, 64) of 0/1 -> (N, 512) uint8, eight pixels a byte, the first in the highest bit."""
    return np.packbits(images.reshape(len(images), -1), axis=1)


def unpack(packed: np.ndarray) -> np.ndarray:
    """(N, 512) uint8 -> (N, 64, 64) uint8 of 0/1."""
    return np.unpackbits(packed, axis=1).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
