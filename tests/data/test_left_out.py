"""Which files of a folder are trained on, and what is said of the others."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bvae.data import FolderImages


def draw(path: Path, value: int = 200, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (64, 64), value).save(path)


def prepared(folder: Path, cache: Path, **options) -> FolderImages:
    images = FolderImages(str(folder), **options)
    images.prepare(cache)
    images.load(cache)
    return images


def said(caplog) -> str:
    text = "\n".join(record.getMessage() for record in caplog.records)
    caplog.clear()
    return text


def test_what_runs_write_is_left_out_wherever_it_is(tmp_path):
    folder = tmp_path / "mine"
    draw(folder / "a.png")
    draw(folder / "below" / "wandb" / "b.png")  # a folder of that name in which W&B has written nothing
    for run in ("outputs/2026-01-31/12-00-00", "multirun/2026-01-31/12-00-00/0"):
        (folder / run / ".hydra").mkdir(parents=True)
        draw(folder / run / "traversals.png")
        draw(folder / run / "traversals" / "deep" / "x.png")
    draw(folder / "evaluations" / "x" / "reconstructions.png")
    (folder / "evaluations" / "x" / "latents.csv").touch()
    for name in ("offline-run-20260131_120000-abc", "run-20260131_120000-abc"):
        draw(folder / name / "wandb" / name / "files" / "media" / "images" / "x.png")
    assert FolderImages(str(folder)).files == ["a.png", "below/wandb/b.png"]
    run = folder / "outputs" / "2026-01-31" / "12-00-00"  # named itself, as by hydra.run.dir=. data.path=.
    draw(run / "own.png")
    draw(run / "reconstructions.png")
    assert FolderImages(str(run)).files == ["own.png"]


def test_links_to_folders_are_followed_to_each_folder_once(tmp_path):
    draw(tmp_path / "elsewhere" / "x.png")
    folder = tmp_path / "mine"
    draw(folder / "a" / "y.png")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "c").symlink_to(folder / "a")
    (folder / "a" / "up").symlink_to(folder)
    assert FolderImages(str(folder)).files == ["a/y.png", "b/x.png"]


def test_pictures_of_every_ending_that_is_read_are_read_and_other_files_counted(tmp_path, caplog):
    endings = ["png", "jpg", "jpe", "jfif", "jp2", "webp", "gif", "bmp", "dib", "tif", "tiff", "pgm", "ppm", "pnm"]
    for ending in endings:
        kind = {"jfif": "JPEG", "jpe": "JPEG", "pnm": "PPM"}.get(ending)
        Image.new("L", (64, 64), 200).save(tmp_path / f"x.{ending}", **({"format": kind} if kind else {}))
    for name in ("a.heic", "b.HEIC", "notes.txt", "bare", ".hidden"):
        (tmp_path / name).touch()
    images = prepared(tmp_path, tmp_path / "cache")
    assert len(images) == len(endings)
    assert np.abs(images.images.astype(int) - 200).max() <= 2
    text = said(caplog)
    assert "files that aren't read: 2 .heic, 1 without an ending, 1 .txt" in text
    assert "can't be read" not in text


def test_pictures_that_cant_be_read_are_named_at_every_run_and_tried_again(tmp_path, caplog):
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    draw(folder / "a.png")
    draw(folder / "b.png", 100)
    whole = (folder / "b.png").read_bytes()
    stat = (folder / "b.png").stat()
    (folder / "b.png").write_bytes(bytes(len(whole)))
    os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for _ in range(2):
        assert len(prepared(folder, cache)) == 1
        assert "1 of 2 pictures can't be read and are left out: b.png (" in said(caplog)
    (folder / "b.png").write_bytes(whole)
    os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size and time
    images = prepared(folder, cache)
    assert images.images[:, 0, 0, 0].tolist() == [200, 100]
    assert "left out" not in said(caplog)


@pytest.mark.parametrize(
    ("make", "white", "dark", "expected"),
    [
        (lambda: Image.fromarray(np.full((64, 64), 4095, np.uint16)), 4095, "0.063", 255),
        (lambda: Image.fromarray(np.full((64, 64), 1023, np.uint16)), 1023, "0.016", 255),
        (lambda: Image.fromarray(np.full((64, 64), 100, np.uint16)), 200, "0", 128),
        (lambda: Image.new("L", (64, 64), 3), 3, "0.012", 255),
        (lambda: Image.new("RGB", (64, 64), (1, 2, 4)), 4, "0.016", [64, 128, 255]),
    ],
)
def test_pictures_without_a_bright_pixel_are_remarked_on_and_scaled_by_white(
    make, white, dark, expected, tmp_path, caplog
):
    (tmp_path / "mine").mkdir()
    make().save(tmp_path / "mine" / "a.png")
    for _ in range(2):
        prepared(tmp_path / "mine", tmp_path / "cache")
        assert f"the brightest pixel is {dark} of white; data.white=255 or 4095 says" in said(caplog)
    images = prepared(tmp_path / "mine", tmp_path / "cache", white=white)
    assert images.images[0, :, 0, 0].tolist() == np.atleast_1d(expected).tolist()
    assert "brightest" not in said(caplog)


def test_floats_in_a_picture_are_from_0_to_1_unless_white_says_otherwise(tmp_path):
    draw_float = Image.fromarray(np.full((64, 64), 0.6, np.float32))
    draw_float.save(tmp_path / "a.tif")
    assert prepared(tmp_path, tmp_path / "cache").images.max() == 153
    assert prepared(tmp_path, tmp_path / "cache", white=3).images.max() == 51


def test_white_is_a_number_above_0(tmp_path):
    draw(tmp_path / "a.png")
    for wrong in (0, -1, 0.5):
        with pytest.raises(ValueError, match=r"data\.white must be"):
            FolderImages(str(tmp_path), white=wrong)


def test_nothing_is_said_of_pictures_that_are_as_they_seem(tmp_path, caplog):
    draw(tmp_path / "mine" / "a.png")
    with caplog.at_level(logging.INFO, logger="bvae"):
        prepared(tmp_path / "mine", tmp_path / "cache")
    assert said(caplog) == ""
