"""Strips, films and thumbnails: the pictures inside a page, pixel by pixel."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bvae.report.strips import film, strip, thumbnail


def opened(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_has_its_pictures_side_by_side_with_gaps_to_see_through(channels):
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 5, channels), dtype=np.uint8)
    found = opened(strip(frames))
    assert (found.mode, found.size) == ("LA" if channels == 1 else "RGBA", (3 * 5 + 2 * 3, 4))
    drawn = np.asarray(found)
    for n in range(3):
        assert np.array_equal(drawn[:, 8 * n : 8 * n + 5, :-1], frames[n])
        assert (drawn[:, 8 * n : 8 * n + 5, -1] == 255).all()
        assert (drawn[:, 8 * n + 5 : 8 * n + 8, -1] == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_has_its_frames_side_by_side(channels):
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 5, channels), dtype=np.uint8)
    drawn = np.asarray(opened(film(frames))).reshape(4, 15, channels)
    for n in range(3):
        assert np.array_equal(drawn[:, 5 * n : 5 * n + 5], frames[n])


def test_a_thumbnail_has_a_row_a_unit_from_one_end_to_the_other(tmp_path):
    (tmp_path / "traversals").mkdir()
    for unit in range(6):  # each frame is of a grey of its own; from the thirteenth on the film leads back
        there = [Image.new("L", (40, 40), 30 * unit + 2 * n) for n in range(13)]
        path = tmp_path / "traversals" / f"unit_{unit}.gif"
        there[0].save(path, save_all=True, append_images=[*there[1:], *there[-2:0:-1]])
    drawn = np.asarray(opened(thumbnail(tmp_path, [3, 0, 5, 1, 2])).convert("L"))
    assert drawn.shape == (4 * 20, 7 * 20)  # four units at most
    expected = [[30 * unit + 4 * n for n in range(7)] for unit in (3, 0, 5, 1)]
    assert drawn[10::20, 10::20].tolist() == expected
    assert np.array_equal(drawn, np.array(expected).repeat(20, axis=0).repeat(20, axis=1))
    assert opened(thumbnail(tmp_path, [7, 2])).size == (140, 20)  # one that left no film has no row
    assert thumbnail(tmp_path, [7]) == thumbnail(tmp_path, []) == ""
    (tmp_path / "traversals" / "unit_2.gif").write_bytes(b"GIF89a, torn")
    assert thumbnail(tmp_path, [2]) == ""
    sharp = np.zeros((40, 40), np.uint8)
    sharp[:, ::2] = 200  # pixels of a thumbnail are means, not one of those that they stand for
    Image.fromarray(sharp).save(tmp_path / "traversals" / "unit_0.gif", save_all=True)
    assert (np.asarray(opened(thumbnail(tmp_path, [0])).convert("L")) == 100).all()
