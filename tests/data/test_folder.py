"""Pictures of a person's own folder: every kind and size, each pixel where it belongs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from bvae.data import FolderImages, ImagesDataModule

RED, GREEN = (255, 0, 0), (0, 255, 0)


def halves(mode: str, left, right, size=(100, 100)) -> Image.Image:
    """A picture of two halves, side by side."""
    picture = Image.new(mode, size, right)
    picture.paste(left, (0, 0, size[0] // 2, size[1]))
    return picture


def served(folder, cache, **options) -> np.ndarray:
    images = FolderImages(str(folder), **options)
    images.prepare(cache)
    images.load(cache)
    return images.decode(images[np.arange(len(images))][0]).numpy()


def sides(image: np.ndarray) -> tuple[list[float], list[float]]:
    """The middle of the left and of the right half, by channel."""
    size = image.shape[-1]
    return tuple([round(float(v), 2) for v in image[:, size // 2, x]] for x in (size // 4, 3 * size // 4))


def sixteen_bits_clear_to_the_right() -> Image.Image:
    picture = Image.fromarray(np.repeat([[0] * 50 + [1_000] * 50], 100, axis=0).astype(np.uint16))
    picture.info["transparency"] = 1_000  # the one value that is transparent
    return picture


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "below" / "it").mkdir(parents=True)
    return folder


KINDS = {
    "rgb.png": lambda: halves("RGB", RED, GREEN),
    "rgba.png": lambda: halves("RGBA", (*RED, 255), (0, 0, 255, 0)),  # clear to the right: white
    "cmyk.jpg": lambda: halves("CMYK", (0, 255, 255, 0), (255, 0, 255, 0)),
    "grey.png": lambda: halves("L", 0, 255),
    "grey_alpha.png": lambda: halves("LA", (0, 255), (0, 0)),
    "sixteen.png": lambda: Image.fromarray(
        np.repeat([[0] * 50 + [65535] * 50], 100, axis=0).astype(np.uint16)
    ),  # white is 65,535
    "sixteen_clear.png": sixteen_bits_clear_to_the_right,
    "bilevel.png": lambda: halves("1", 0, 1),
    "palette.png": lambda: halves("RGB", RED, GREEN).quantize(4),
    "palette.gif": lambda: halves("RGB", RED, GREEN).quantize(4),
    "picture.webp": lambda: halves("RGB", RED, GREEN),
    "picture.bmp": lambda: halves("RGB", RED, GREEN),
}
COLOURED = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
BLACK_AND_WHITE = ([0.0] * 3, [1.0] * 3)
EXPECTED = {
    **dict.fromkeys(KINDS, COLOURED),
    **dict.fromkeys(("grey.png", "grey_alpha.png", "sixteen.png", "sixteen_clear.png", "bilevel.png"), BLACK_AND_WHITE),
    "rgba.png": ([1.0, 0.0, 0.0], [1.0] * 3),
}


def test_every_kind_of_picture_shows_what_it_shows(folder, tmp_path):
    for name, make in KINDS.items():
        make().save(folder / name)
    frames = [halves("RGB", RED, GREEN), halves("RGB", GREEN, RED)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half: the file has it upside down
    halves("RGB", GREEN, RED).save(folder / "turned.jpg", exif=exif, quality=95)
    (folder / "notes.txt").write_text("no picture")
    (folder / "._rgb.png").write_bytes(b"another system's notes")
    images = served(folder, tmp_path)
    names = sorted([*KINDS, "animated.gif", "turned.jpg"])
    assert images.shape == (len(names), 3, 64, 64)
    for name, image in zip(names, images, strict=True):
        expected = EXPECTED.get(name, COLOURED)
        assert np.allclose(sides(image), expected, atol=0.03), name  # JPEG and WebP round


def test_a_folder_of_grey_pictures_is_grey_and_colour_can_be_asked_for(folder, tmp_path):
    for name in ("grey.png", "sixteen.png", "bilevel.png"):
        KINDS[name]().save(folder / "below" / "it" / name)
    halves("L", 0, 255).quantize(2).save(folder / "grey.gif")  # a palette of greys
    assert served(folder, tmp_path).shape == (4, 1, 64, 64)
    assert served(folder, tmp_path, channels=3).shape == (4, 3, 64, 64)
    KINDS["rgb.png"]().save(folder / "rgb.png")
    assert served(folder, tmp_path).shape == (5, 3, 64, 64)
    assert served(folder, tmp_path, channels=1, size=32)[-1, 0, 0, 0] == pytest.approx(76 / 255)  # red's luminance


def test_pictures_are_cropped_to_their_centre_or_shown_whole(folder, tmp_path):
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))  # the middle third
    wide.save(folder / "wide.png")
    assert served(folder, tmp_path, size=128).min() > 0.9  # but for the ringing at its sides
    padded = served(folder, tmp_path, fit="pad")
    assert padded[0, 0, 32, 32] == 1
    assert padded[0, 0, 4, 32] == 0  # above it
    assert padded.mean() == pytest.approx(1 / 9, abs=0.01)


def test_what_cannot_be_read_is_named_and_left_out_or_ends_the_run(folder, tmp_path, caplog):
    KINDS["rgb.png"]().save(folder / "good.png")
    whole = (folder / "good.png").read_bytes()
    (folder / "below" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("hello")
    (folder / "nowhere.png").symlink_to("/nowhere/x.png")
    assert len(served(folder, tmp_path)) == 1
    assert "3 of 4 pictures can't be read and are left out: below/truncated.png (" in caplog.text
    assert "text.jpg (cannot identify" in caplog.text
    assert "nowhere.png ([Errno 2]" in caplog.text
    (folder / "nowhere.png").unlink()
    with pytest.raises(ValueError, match=r"can't read below/truncated\.png \(.*data\.strict=false leaves such files"):
        served(folder, tmp_path, strict=True)
    (folder / "good.png").unlink()
    with pytest.raises(ValueError, match=r"none of 2 pictures can be read, first below/truncated\.png"):
        served(folder, tmp_path)
    assert len(list(tmp_path.glob("folder-*.h5"))) == 1  # of the one that could be made


def test_a_folder_that_cant_be_listed_is_named(folder, tmp_path, caplog, monkeypatch):
    KINDS["rgb.png"]().save(folder / "good.png")
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) == "below":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert FolderImages(str(folder)).files == ["good.png"]
    assert "below can't be listed and is left out: Permission denied" in caplog.text
    with pytest.raises(ValueError, match="below can't be listed: Permission denied"):
        FolderImages(str(folder), strict=True).files  # noqa: B018


def test_a_colour_that_a_palette_lacks_is_no_reason_to_end(folder, tmp_path):
    picture = Image.new("P", (8, 8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(folder / "palette.bmp")
    whole = (folder / "palette.bmp").read_bytes()
    (folder / "palette.bmp").write_bytes(whole[:-1] + b"\xff")
    assert served(folder, tmp_path).shape == (1, 1, 64, 64)


def test_the_cache_is_made_again_when_the_folder_has_changed_and_only_then(folder, tmp_path, monkeypatch):
    KINDS["rgb.png"]().save(folder / "a.png")
    assert len(served(folder, tmp_path)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(FolderImages, "_read", None)
        assert len(served(folder, tmp_path)) == 1
    halves("RGB", GREEN, RED).save(folder / "b.png")
    assert len(served(folder, tmp_path)) == 2
    halves("RGB", GREEN, RED, (90, 90)).save(folder / "a.png")
    assert sides(served(folder, tmp_path)[0]) == ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
    (folder / "b.png").unlink()
    assert len(served(folder, tmp_path)) == 1


def test_wrong_folders_and_options_are_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"pictures holds no pictures: no file in it or below ends in \.png, .*, \.pnm$"
    ):
        FolderImages(str(folder)).shape  # noqa: B018
    with pytest.raises(FileNotFoundError, match=r"data\.path=.*nowhere is missing"):
        FolderImages(str(tmp_path / "nowhere"))
    (tmp_path / "file.npz").touch()
    with pytest.raises(FileNotFoundError, match=r"is a file, not a folder; data=arrays reads"):
        FolderImages(str(tmp_path / "file.npz"))
    for option, message in (
        ({"size": 7}, "data.size must be 8 to 512 pixels, got 7"),
        ({"size": [64, 513]}, r"data.size must be 8 to 512 pixels, got \[64, 513\]"),
        ({"size": [64, 64, 3]}, r"data.size must be a number of pixels or \[height, width\], got \[64, 64, 3\]"),
        ({"size": "big"}, "data.size must be a number, got 'big'"),
        ({"size": 64.5}, "data.size must be an integer, got 64.5"),
        ({"channels": True}, "data.channels must be a number, got True"),
        ({"channels": 4}, "data.channels must be 1, 3 or null, as the pictures are, got 4"),
        ({"fit": "no"}, "data.fit must be one of crop, pad, stretch, got 'no'"),
        ({"strict": "no"}, "data.strict must be true or false, got 'no'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            FolderImages(str(folder), **option)


def test_fewer_pictures_than_a_batch_are_refused_before_training(folder, tmp_path):
    KINDS["rgb.png"]().save(folder / "a.png")
    KINDS["grey.png"]().save(folder / "b.png")
    data = ImagesDataModule.of(FolderImages, cache_dir=str(tmp_path), path=str(folder))
    with pytest.raises(ValueError, match=r"data\.batch_size must be at most 2, all the images, got 64"):
        data.prepare_data()
