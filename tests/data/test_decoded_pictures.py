"""How pictures become images: each pixel's value, the order and number of the files, and what can't be read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from bvae.data import FolderImages, folder
from bvae.data.pictures import Room, eight_bits


def grey(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("L", size, value)


def images_of(path: Path, **options) -> np.ndarray:
    """The images of a folder, as they are kept."""
    images = FolderImages(str(path), **options)
    with TemporaryDirectory() as cache:
        images.prepare(Path(cache))
        images.load(Path(cache))
        return np.array(images.images)


def colour(picture: Image.Image) -> tuple[int, ...]:
    return eight_bits(picture).convert("RGB").getpixel((0, 0))


def sixteen(value: int) -> Image.Image:
    return Image.fromarray(np.full((2, 2), value, np.uint16))


def keyed(picture: Image.Image, transparency) -> Image.Image:
    picture.info["transparency"] = transparency
    return picture


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    """Of a palette whose first colour alone is used."""
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([value for each in colours for value in each])
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3)),
        (Image.new("RGBA", (2, 2), (200, 100, 0, 255)), (200, 100, 0)),
        (Image.new("RGBA", (2, 2), (200, 100, 0, 0)), (255, 255, 255)),
        # 0.6 of the colour and 0.4 of white
        (Image.new("RGBA", (2, 2), (200, 100, 0, 153)), (222, 162, 102)),
        (Image.new("LA", (2, 2), (100, 153)), (162, 162, 162)),
        (keyed(Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3)), (255, 255, 255)),
        (keyed(Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 4)), (1, 2, 3)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (sixteen(65535), (255, 255, 255)),
        (sixteen(257 * 100 + 128), (100, 100, 100)),  # 100.498
        (sixteen(257 * 100 + 129), (101, 101, 101)),  # 100.502
        (sixteen(0), (0, 0, 0)),
        (keyed(sixteen(1000), 1000), (255, 255, 255)),
        (keyed(sixteen(1000), 1001), (4, 4, 4)),
        (Image.fromarray(np.full((2, 2), 70_000, np.int32)), (255, 255, 255)),  # not 16
        (Image.fromarray(np.full((2, 2), -5, np.int32)), (0, 0, 0)),
    ],
)
def test_a_pixel_is_brought_to_eight_bits_and_onto_white(picture, expected):
    assert colour(picture) == pytest.approx(expected, abs=1 if picture.mode in ("RGBA", "LA") else 0)
    assert eight_bits(picture).mode == ("L" if picture.mode in ("L", "1", "I", "I;16") else "RGB")


def test_a_jpeg_is_decoded_at_twice_the_size_or_more(tmp_path, monkeypatch):
    """Stripes 5 pixels wide at 512 don't survive 64, and come out wrong by twice as much from 128."""
    stripes = (np.indices((512, 512))[1] // 5 % 2 * 255).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=95)
    decoded, image = [], FolderImages._image

    def remembering(self, name, picture):
        decoded.append(picture.size)
        return image(self, name, picture)

    monkeypatch.setattr(FolderImages, "_image", remembering)
    expected = ImageOps.fit(Image.fromarray(stripes), (128, 128), Image.Resampling.LANCZOS)
    found = images_of(tmp_path, size=128)[0, 0].astype(float)
    assert abs(found - np.asarray(expected)).mean() < 5
    assert decoded == [(256, 256)]  # less of it is read than there is
    for shape in ((1024, 512), (512, 1024)):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "stripes.jpg")
        images_of(tmp_path, size=128)
        assert min(decoded[-1]) == 256


def test_pictures_are_in_the_order_of_their_paths_over_several_blocks(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder, "_BLOCK", 2)
    names = ["B.PNG", "a.png", "below/a.Jpeg", "below/deeper/a.bmp", "c.webp", "d.gif", "e.jpg"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        grey(30 * number + 20).save(tmp_path / name)
    for name in (".a.png", ".hidden/a.png", "a.tiffs", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    images = FolderImages(str(tmp_path))
    assert images.files == names
    assert images.make(tmp_path)[0] == 7
    found = images_of(tmp_path, channels=1)  # WebP has no grey
    assert found.shape == (7, 1, 64, 64)
    assert found.dtype == np.uint8
    assert found.mean(axis=(1, 2, 3)) == pytest.approx([30 * number + 20 for number in range(7)], abs=1)
    for name in names[2:4]:  # a whole block
        (tmp_path / name).write_text("no picture")
    assert len(images_of(tmp_path, channels=1)) == 5
    assert "2 of 7 pictures can't be read and are left out: below/a.Jpeg (cannot identify image file" in caplog.text


def test_ten_files_that_cant_be_read_are_named_and_the_rest_is_counted(tmp_path, caplog):
    grey(5).save(tmp_path / "z.png")
    for number in range(12):
        (tmp_path / f"{number:02}.png").write_text("no picture")
        images_of(tmp_path, channels=1)
        said = next(message for message in reversed(caplog.messages) if "left out" in message)
        assert said.startswith(f"{number + 1} of {number + 2} pictures can't be read and are left out: 00.png (")
        assert said.count("cannot identify") == min(number + 1, 10)
        assert said.endswith(")" if number < 10 else f") and {number - 9} more")
    (tmp_path / "z.png").unlink()
    with pytest.raises(ValueError, match=r"none of 12 pictures can be read, first 00\.png \("):
        images_of(tmp_path, channels=1)
    with pytest.raises(ValueError, match=r"can't read 00\.png \(.*\); data\.strict=false leaves such files out$"):
        images_of(tmp_path, channels=1, strict=True)


@pytest.mark.parametrize(
    ("picture", "channels"),
    [
        (grey(9), 1),
        (Image.new("LA", (8, 8)), 1),
        (palette((7, 7, 7), (255, 0, 0)), 1),  # a red that no pixel has
        (palette((7, 7, 8), (0, 0, 0)), 3),
        (palette((8, 7, 7)), 3),
        (palette((7, 8, 7)), 3),
        (Image.new("RGB", (8, 8)), 3),  # black, but of a kind that has colours
        (Image.new("RGBA", (8, 8)), 3),
        (sixteen(9), 1),
    ],
)
def test_a_folder_is_in_colour_if_one_picture_is(picture, channels, tmp_path):
    for name in ("a.png", "z.png"):
        grey(9).save(tmp_path / name)
    picture.save(tmp_path / "m.png")
    (tmp_path / "damaged.png").write_text("no picture")
    assert FolderImages(str(tmp_path)).shape == (channels, 64, 64)
    assert FolderImages(str(tmp_path), channels=4 - channels, size=32).shape == (4 - channels, 32, 32)


def test_a_long_picture_is_cropped_to_its_middle_or_padded_with_black(tmp_path):
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, :64], pixels[:, 64:128], pixels[:, 128:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for name, turned in (("a.bmp", pixels), ("b.bmp", pixels.transpose(1, 0, 2))):
        Image.fromarray(turned).save(tmp_path / name)
    cropped = images_of(tmp_path)
    assert cropped.mean(axis=(2, 3)) == pytest.approx(np.array([[0, 255, 0]] * 2))
    padded = images_of(tmp_path, fit="pad")
    wide, tall = padded[0], padded[1].transpose(0, 2, 1)
    for image in (wide, tall):
        assert [image[:, 32, x].argmax() for x in (5, 32, 58)] == [0, 1, 2]
        assert image[:, 32, [5, 32, 58]].max(axis=0).tolist() == [255] * 3
        white = image.any(axis=(0, 2)).nonzero()[0]
        assert (len(white), white.min() in (21, 22)) == (21, True)  # a third, in the middle


def test_exif_data_turn_a_picture_that_isnt_square(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[0:32, 0:32], pixels[0:32, 32:], pixels[32:, 0:32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter clockwise, the first row is the right side
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    corners = images_of(tmp_path)[0][:, [10, 10, 50, 50], [10, 50, 10, 50]].T.tolist()
    assert corners == [[0, 0, 255], [255, 0, 0], [0, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF at all", b"Exif\0\0MM\0*", b"hello"])
def test_a_whole_picture_with_damaged_exif_data_is_read(exif, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
    for name in ("a.png", "b.webp", "c.jpg"):
        options = {"quality": 100} if name == "c.jpg" else {"lossless": True}
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, **options)
    found = images_of(tmp_path, channels=1)
    assert len(found) == 3
    assert np.array_equal(found[0, 0], pixels)
    assert np.abs(found[1:, 0].astype(int) - pixels).max() < 8  # WebP's grey and JPEG's are rounded


def test_a_truncated_picture_is_left_out_whatever_its_exif_data(tmp_path):
    grey(9, (64, 64)).save(tmp_path / "a.png")
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8))
    for name in ("b.png", "c.webp"):
        noise.save(tmp_path / name, exif=b"hello", lossless=True)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert len(images_of(tmp_path)) == 1


def test_as_many_pictures_are_decoded_at_once_as_just_fit():
    room, running, together = Room(12), [], threading.Barrier(2, timeout=5)

    def picture(width: int, height: int) -> SimpleNamespace:
        return SimpleNamespace(width=width, height=height)

    def meet(which: SimpleNamespace) -> int:
        running.append(which)
        return together.wait()  # breaks unless both are decoded at once

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(partial(room.decode, function=meet), [picture(2, 3), picture(3, 2)])) == [0, 1]
    here, own = threading.get_ident(), []
    room.decode(picture(12, 1), lambda _: own.append(threading.get_ident()))
    room.decode(picture(13, 1), lambda which: own.append(threading.get_ident() if which.width == 13 else None))
    assert (own[0] == here, own[1] == here) == (True, False)  # what never fits has a thread of its own
    with pytest.raises(ZeroDivisionError):
        room.decode(picture(12, 1), lambda _: 1 / 0)
    assert room.decode(picture(12, 1), lambda _: "there is room again") == "there is room again"


def test_the_card_counts_the_pictures_once_they_are_there(tmp_path):
    (tmp_path / "mine").mkdir()
    for number in range(2):
        grey(number).save(tmp_path / "mine" / f"{number}.png")
    (tmp_path / "link").symlink_to("mine")
    images = FolderImages(str(tmp_path / "link"))
    assert images.card.about == f"The pictures of {tmp_path / 'mine'}"
    images.prepare(tmp_path)
    images.load(tmp_path)
    assert images.card.about == f"2 pictures of {tmp_path / 'mine'}"
    assert (images.card.name, images.card.source) == ("folder", str(tmp_path / "mine"))
