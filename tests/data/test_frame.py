"""Pictures and arrays of any size and proportions, brought to one size."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from omegaconf import OmegaConf
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


@pytest.mark.parametrize(
    ("frame", "counts", "sentence"),
    [
        (
            Frame(64),
            (1204, 3000),
            "1,204 of 3,000 pictures aren't square and are cropped at the centre; data.fit=pad shows whole pictures",
        ),
        (
            Frame(64, "pad"),
            (1, 2),
            "1 of 2 pictures isn't square and is padded with black; data.fit=crop fills the images",
        ),
        (
            Frame([48, 64], "stretch"),
            (2, 2, "images"),
            "2 of 2 images don't have the proportions of 48×64 and are stretched; data.fit=crop or data.fit=pad keeps "
            "the proportions",
        ),
    ],
)
def test_what_becomes_of_pictures_of_other_proportions_is_a_sentence(frame, counts, sentence):
    assert frame.remark(*counts) == sentence


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (7, "data.size must be 8 to 512 pixels, got 7"),
        ([48, 513], "data.size must be 8 to 512 pixels, got [48, 513]"),
        (64.5, "data.size must be an integer, got 64.5"),
        ([64, "64"], "data.size must be a number, got '64'"),
        (True, "data.size must be a number, got True"),
        (None, "data.size must be a number, got None"),
        ([64], "data.size must be a number of pixels or [height, width], got [64]"),
        ([], "data.size must be a number of pixels or [height, width], got []"),
    ],
)
def test_a_size_is_one_or_two_whole_numbers(size, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        Frame(size)
    assert Frame(64.0).size == Frame([64, 64]).size == Frame(OmegaConf.create([64.0, 64])).size == (64, 64)
    assert {type(side) for side in Frame([8.0, 512]).size} == {int}
    with pytest.raises(ValueError, match=r"^data\.fit must be one of crop, pad, stretch, got 'Crop'$"):
        Frame(64, "Crop")


def test_a_run_says_it_once_though_it_prepares_its_images_twice(tmp_path, caplog, monkeypatch):
    (tmp_path / "mine").mkdir()
    Image.fromarray(THIRDS).save(tmp_path / "mine" / "a.png")
    (tmp_path / "mine" / "b.png").write_text("no picture")
    np.save(tmp_path / "a.npy", np.stack([THIRDS] * 2) // 100)
    for make in (lambda: FolderImages(str(tmp_path / "mine")), lambda: ArrayFile(str(tmp_path / "a.npy"), size=16)):
        images = make()
        images.prepare(tmp_path / "cache")
        said = caplog.messages.copy()
        images.prepare(tmp_path / "cache")
        assert caplog.messages == said
        assert len(said) == 2  # what can't be read or is dark, and what isn't square
        caplog.clear()
        again = make()
        with monkeypatch.context() as patched:
            patched.setattr(type(again), "_blocks", None)
            again.prepare(tmp_path / "cache")
        assert caplog.messages == said  # as the cache file has it
        caplog.clear()


def test_a_picture_that_is_turned_in_its_file_is_judged_and_measured_upright(tmp_path, caplog, monkeypatch):
    exif, decoded = Image.Exif(), []
    exif[0x0112] = 6  # turned by a quarter: 512 wide and 1024 high in the file, upright twice as wide as high
    Image.fromarray(np.zeros((1024, 512), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    image = FolderImages._image
    monkeypatch.setattr(FolderImages, "_image", lambda self, name, p: (decoded.append(p.size), image(self, name, p))[1])
    served(FolderImages(str(tmp_path), size=[64, 128]), tmp_path / "cache")
    assert decoded == [(256, 512)]  # upright 512 wide
    assert "data.fit" not in caplog.text


def test_a_folder_of_any_size_says_how_many_pictures_lose_something(tmp_path, caplog):
    pictures, cache = tmp_path / "pictures", tmp_path / "cache"
    pictures.mkdir()
    caplog.set_level(logging.INFO)
    for name, size in (("a", (90, 60)), ("b", (60, 90)), ("c", (75, 50)), ("d", (10, 10))):
        Image.new("L", size, 200).save(pictures / f"{name}.png")
    for _ in range(2):  # also when they are in the cache
        caplog.clear()
        assert served(FolderImages(str(pictures), size=[40, 60]), cache).shape == (4, 1, 40, 60)
        assert "2 of 4 pictures don't have the proportions of 40×60 and are cropped at the centre;" in caplog.text
    caplog.clear()
    assert served(FolderImages(str(pictures), size=28, fit="stretch"), cache).shape == (4, 1, 28, 28)
    assert "3 of 4 pictures aren't square and are stretched; data.fit=crop or data.fit=pad keeps" in caplog.text
    for name in "abc":
        (pictures / f"{name}.png").unlink()
    caplog.clear()
    served(FolderImages(str(pictures), size=28), cache)
    assert "data.fit" not in caplog.text


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
    assert f"{path}: 2 of 2 images aren't square and are stretched; data.fit=crop or data.fit=pad keeps" in caplog.text
    assert served(ArrayFile(str(path), white=white), tmp_path).shape == (2, 1, 64, 192)  # a file of its own


def test_a_white_that_is_too_small_and_darkness_are_said_of_the_values_in_the_file(tmp_path, caplog):
    path = tmp_path / "images.npy"
    np.save(path, np.full((2, 16, 16), 3, np.uint8))
    with pytest.raises(ValueError, match=r"^white must be 3 or more, the largest value of the images, got 2"):
        served(ArrayFile(str(path), white=2, size=8), tmp_path / "cache")
    for _ in range(2):
        assert served(ArrayFile(str(path), size=8), tmp_path / "cache").max() == pytest.approx(3 / 255)
        assert "the brightest pixel is 0.012 of white; data.white=3 says which value is white" in caplog.text
        caplog.clear()
    assert served(ArrayFile(str(path), size=8, white=3), tmp_path / "cache").min() == 1
    dots = np.zeros((2, 64, 64), bool)
    dots[:, 30, 30] = True  # of which shrinking leaves a grey
    np.save(path, dots)
    assert 0 < served(ArrayFile(str(path), size=8), tmp_path / "cache").max() < 0.1
    assert caplog.text == ""


def test_bytes_that_are_black_once_they_are_shrunk_stay_bytes(tmp_path):
    pixels = np.zeros((2, 64, 64), np.uint8)
    pixels[:, 30, 30] = 40
    np.save(tmp_path / "images.npy", pixels)
    assert served(ArrayFile(str(tmp_path / "images.npy"), size=8), tmp_path / "cache").max() < 0.01


def test_a_byte_over_1_in_the_last_block_makes_bytes_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr("bvae.data.arrays._BLOCK", 2 * 16 * 16)
    pixels = np.zeros((9, 16, 16), np.uint8)
    pixels[0], pixels[8] = 1, 255
    np.save(tmp_path / "a.npy", pixels)
    found = served(ArrayFile(str(tmp_path / "a.npy"), size=8), tmp_path / "cache")
    assert found[[0, 8]].mean(axis=(1, 2, 3)) == pytest.approx([1 / 255, 1])


def test_colours_of_arrays_stay_in_their_channels(tmp_path):
    images = np.zeros((3, 10, 20, 3), np.uint8)
    images[..., 0], images[..., 2] = 255, 51
    np.savez(tmp_path / "images.npz", images=images)
    found = served(ArrayFile(str(tmp_path / "images.npz"), size=[8, 16]), tmp_path)
    assert found.shape == (3, 3, 8, 16)
    assert found[2, :, 4, 8].tolist() == pytest.approx([1, 0, 0.2])
