"""Pictures and arrays of any size and proportions, brought to one size."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from bvae.data import ArrayFile, FolderImages
from bvae.data.frame import Frame

THIRDS = np.zeros((64, 192), np.uint8)  # black, white and grey, each 64×64
THIRDS[:, 64:128], THIRDS[:, 128:] = 255, 100


def served(images, folder) -> np.ndarray:
    images.prepare(folder)
    images.load(folder)
    batch, _ = images[np.arange(len(images))]
    return images.decode(batch).numpy()


def test_a_wide_picture_is_cropped_padded_or_stretched():
    picture = Image.fromarray(THIRDS)
    crop, pad, stretch = (np.asarray(Frame(48, fit).fitted(picture)) for fit in ("crop", "pad", "stretch"))
    assert crop[:, 4:-4].min() == 255
    assert pad[:16].max() == pad[-16:].max() == 0
    assert [pad[24, x] for x in (8, 24, 40)] == [0, 255, 100]
    assert [stretch[y, x] for y in (2, 45) for x in (8, 24, 40)] == [0, 255, 100] * 2


def test_a_frame_that_isnt_square_has_its_height_first():
    frame = Frame([32, 96], "crop")
    whole = np.asarray(frame.fitted(Image.fromarray(THIRDS)))
    assert whole.shape == (32, 96)
    assert [whole[16, x] for x in (16, 48, 80)] == [0, 255, 100]  # nothing is cut


@pytest.mark.parametrize(
    ("size", "width", "height", "fits"),
    [
        (64, 64, 64, True),
        (64, 512, 512, True),
        (64, 100, 101, True),  # less than a pixel of 64
        (64, 100, 102, False),
        ((32, 96), 192, 64, True),
        ((32, 96), 64, 192, False),
        ((48, 64), 640, 480, True),
        (64, 178, 218, False),
    ],
)
def test_proportions_are_those_of_the_frame_within_a_pixel(size, width, height, fits):
    assert Frame(size).has_the_proportions_of(width, height) == fits


def test_a_folder_of_any_size_says_how_many_pictures_lose_something(tmp_path, caplog):
    pictures, cache = tmp_path / "pictures", tmp_path / "cache"
    pictures.mkdir()
    caplog.set_level(logging.INFO)
    for name, size in (("a", (90, 60)), ("b", (60, 90)), ("c", (75, 50)), ("d", (10, 10))):
        Image.new("L", size, 200).save(pictures / f"{name}.png")
    for _ in range(2):  # also when they are in the cache
        caplog.clear()
        assert served(FolderImages(str(pictures), size=[40, 60]), cache).shape == (4, 1, 40, 60)
        assert "2 of 4 pictures have other proportions and are cropped at the centre; data.fit=pad shows" in caplog.text
    caplog.clear()
    assert served(FolderImages(str(pictures), size=28, fit="stretch"), cache).shape == (4, 1, 28, 28)
    assert "3 of 4 pictures have other proportions and are stretched" in caplog.text
    for name in "abc":
        (pictures / f"{name}.png").unlink()
    caplog.clear()
    served(FolderImages(str(pictures), size=28), cache)
    assert "proportions" not in caplog.text


@pytest.mark.parametrize(
    ("images", "white", "expected"),
    [
        (THIRDS, None, [0, 1, 100 / 255]),
        (THIRDS > 90, None, [0, 1, 1]),
        ((THIRDS > 90).astype(np.uint8), None, [0, 1, 1]),
        (THIRDS // 100, 2, [0, 1, 0.5]),  # labels of 0 to 2
        (THIRDS.astype(np.float32) / 255, None, [0, 1, 100 / 255]),
        (THIRDS.astype(np.float64), 255, [0, 1, 100 / 255]),
    ],
    ids=["bytes", "bools", "bits", "labels", "floats", "floats to 255"],
)
def test_arrays_are_fitted_whatever_they_hold(images, white, expected, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "images.npz"
    np.savez(path, images=np.stack([images, images]))
    found = served(ArrayFile(str(path), white=white, size=48, fit="stretch"), tmp_path)
    assert found.shape == (2, 1, 48, 48)
    assert [found[1, 0, 24, x] for x in (8, 24, 40)] == pytest.approx(expected, abs=0.003)
    assert found.min() >= 0
    assert found.max() <= 1
    assert f"{path}: images of 64×192 are stretched; data.fit=crop or pad keeps their proportions" in caplog.text
    assert served(ArrayFile(str(path), white=white), tmp_path).shape == (2, 1, 64, 192)  # a file of its own


def test_colours_of_arrays_stay_in_their_channels(tmp_path):
    images = np.zeros((3, 10, 20, 3), np.uint8)
    images[..., 0], images[..., 2] = 255, 51
    np.savez(tmp_path / "images.npz", images=images)
    found = served(ArrayFile(str(tmp_path / "images.npz"), size=[8, 16]), tmp_path)
    assert found.shape == (3, 3, 8, 16)
    assert found[2, :, 4, 8].tolist() == pytest.approx([1, 0, 0.2])
