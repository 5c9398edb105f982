from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bvae.data.dsprites.render import FACTOR_SIZES, FACTORS, NUM_IMAGES, pack, render, render_all, unpack

DIGESTS = Path(__file__).with_name("preview_digests.txt").read_text().splitlines()[1:]


def test_every_picture_of_the_official_preview_is_drawn_to_the_bit():
    rows = [line.split() for line in DIGESTS]
    images = render(*np.array([row[:5] for row in rows], dtype=int).T)
    found = [hashlib.sha256(packed).hexdigest() for packed in pack(images)]
    assert found == [row[5] for row in rows]
    assert len(rows) == 258  # the preview's 320 frames, each picture once


def test_all_images_have_the_official_mean_and_order():
    white = 0
    rng = np.random.default_rng(0)
    for start, block in zip(range(0, NUM_IMAGES, 1024), render_all(), strict=True):
        white += int(np.bitwise_count(block).sum()) if hasattr(np, "bitwise_count") else int(unpack(block).sum())
        n = rng.integers(1024)
        assert np.array_equal(unpack(block[n : n + 1]), render(*FACTORS.classes_of(start + n)))
    # The official archive has 174.02 white pixels an image. Outlines known to 0.0006 pixels, some 50 pixels long, leave
    # 0.03 of them open.
    assert white / NUM_IMAGES == pytest.approx(174.02, abs=0.035)


def test_render_takes_scalars_and_arrays():
    single = render(0, 5, 0, 16, 16)
    assert single.shape == (1, 64, 64)
    assert single.dtype == np.uint8
    assert set(np.unique(single)) == {0, 1}
    mixed = render(0, 5, [0, 39], 16, 16)
    assert np.array_equal(mixed[0], mixed[1])  # orientation 39 repeats orientation 0
    assert np.array_equal(mixed[0], single[0])


def test_a_square_has_the_side_of_the_official_one():
    square = render(0, 5, 0, 16, 16)[0]
    rows, columns = np.nonzero(square)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 19
    assert square.sum() == 19 * 19


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ((3, 0, 0, 0, 0), ValueError, r"shape must lie in 0\.\.2, got 3\.\.3"),
        ((0, 0, -1, 0, 0), ValueError, r"orientation must lie in 0\.\.39"),
        ((0, 0.5, 0, 0, 0), TypeError, "scale must be class indices"),
        ((0, 0, 0, [[1]], 0), ValueError, r"posX must be a scalar or of shape \(N,\)"),
    ],
)
def test_render_refuses_what_is_no_class_index(classes, error, message):
    with pytest.raises(error, match=message):
        render(*classes)


def test_factors_of_counts_like_the_archive():
    assert FACTORS.classes_of([0, 1, 32, NUM_IMAGES - 1]).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [size - 1 for size in FACTOR_SIZES],
    ]
