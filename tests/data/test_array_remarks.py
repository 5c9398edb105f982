"""What is said of arrays that aren't as they seem, and read all the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from bvae.data import ArrayFile, ArrayImages

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)
LABELS = np.arange(16).reshape(8, 2) % 3


def prepared(path: Path, cache: Path, **options) -> ArrayFile:
    images = ArrayFile(str(path), **options)
    images.prepare(cache)
    images.load(cache)
    return images


def said(caplog) -> str:
    text = "\n".join(record.getMessage() for record in caplog.records)
    caplog.clear()
    return text


def test_labels_are_factors_if_they_are_as_many_as_the_images(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    images = prepared(tmp_path / "a.npz", tmp_path)
    assert images.factors.names == ("factor 0", "factor 1")
    assert images[np.arange(8)][1].tolist() == LABELS.tolist()
    np.savez(tmp_path / "b.npz", images=PIXELS, labels=LABELS[:, 0], factors=LABELS)
    assert prepared(tmp_path / "b.npz", tmp_path)[np.arange(8)][1].shape == (8, 2)
    assert "arrays that aren't read: labels (8,)" in said(caplog)
    np.savez(tmp_path / "c.npz", images=PIXELS, labels=LABELS[:5])
    assert prepared(tmp_path / "c.npz", tmp_path).factors is None
    assert "arrays that aren't read: labels (5, 2); factors are read from 'factors' or 'labels', (N, K)" in said(caplog)


def test_arrays_that_arent_read_are_named(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", images=PIXELS, y=LABELS[:, 0], latents_classes=LABELS)
    for _ in range(2):
        assert prepared(tmp_path / "a.npz", tmp_path).factors is None
        assert "arrays that aren't read: y (8,), latents_classes (8, 2); factors are read from" in said(caplog)


@pytest.mark.parametrize(
    ("chunks", "share"), [((2, 6, 6), "50%"), ((8, 6, 6), "100%"), (None, "100%"), ((3, 6, 6), "67%")]
)
def test_what_an_hdf5_file_never_got_is_said(chunks, share, tmp_path, caplog):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        images = file.create_dataset("images", (8, 6, 6), np.uint8, chunks=chunks)
        if chunks in ((2, 6, 6), (3, 6, 6)):
            images[: 4 if chunks[0] == 2 else 3] = 255
    for _ in range(2):
        prepared(tmp_path / "a.h5", tmp_path)
        assert f"{share} of 'images' was never written, and is trained on as it is filled in" in said(caplog)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["images"][:] = 255
    prepared(tmp_path / "a.h5", tmp_path)
    assert said(caplog) == ""


@pytest.mark.parametrize(
    ("pixels", "white", "dark", "brightest"),
    [
        (np.full((4, 6, 6), 2, np.uint8), 2, "0.0078", 1.0),
        (np.full((4, 6, 6), 2, np.uint8), 4, "0.0078", 0.5),
        (np.full((4, 6, 6), 0.01), 0.01, "0.01", 1.0),
    ],
)
def test_arrays_without_a_bright_pixel_are_remarked_on_and_scaled_by_white(
    pixels, white, dark, brightest, tmp_path, caplog
):
    np.savez(tmp_path / "a.npz", images=pixels)
    one, remark = np.arange(1), f"the brightest pixel is {dark} of white; data.white={pixels.max():.6g} says which"
    from_file, in_memory = partial(prepared, tmp_path / "a.npz", tmp_path), partial(ArrayImages, pixels)
    for make in (from_file, in_memory):
        make()
        assert remark in said(caplog)
        images = make(white=white)
        assert images.decode(images[one][0]).max().item() == pytest.approx(brightest)
        text = said(caplog)
        assert ("brightest" in text) == (brightest < 0.3)
        assert make().decode(make()[one][0]).max().item() == pytest.approx(float(dark), rel=0.02)
        said(caplog)


def test_nothing_is_whiter_than_white(tmp_path):
    with pytest.raises(ValueError, match="white must be 255 or more, the largest value of the images, got 200"):
        ArrayImages(np.full((2, 6, 6), 255, np.uint8), white=200)
    with pytest.raises(ValueError, match="white must be positive, got 0"):
        ArrayImages(PIXELS, white=0)


def test_errors_of_rounding_are_cut_off_and_others_advised_on():
    images = ArrayImages(np.array([[[1.0000001, -1e-12, 0.5]]], np.float64))
    assert images.decode(images[np.arange(1)][0]).flatten().tolist() == [1.0, 0.0, 0.5]
    for low, high, fix in (
        (-0.01, 1.02, r"images\.clip\(0, 1\) cuts off what is outside"),
        (-1, 1, r"\(images \+ 1\) / 2 brings −1 to 1 there"),
        (0, 255, "images / 255 brings 0 to 255 there"),
    ):
        with pytest.raises(ValueError, match=f"must lie in \\[0, 1\\], got {low} to {high}; {fix}$"):
            ArrayImages(np.array([[[low, high]]], np.float64))
