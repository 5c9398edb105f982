"""A person's own arrays: each layout, type and file; what they can't mean is refused."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import torch

from bvae.data import ArrayFile, ArrayImages, ImagesDataModule

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(6, 32, 32, 3), dtype=np.uint8)
FACTORS = np.stack(np.unravel_index(np.arange(6), (2, 3)), axis=1)


def served(images, folder) -> np.ndarray:
    images.prepare(folder)
    images.load(folder)
    return images.decode(images[np.arange(len(images))][0]).numpy()


LAYOUTS = {
    "channels last": (PIXELS, PIXELS.transpose(0, 3, 1, 2) / 255),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), PIXELS.transpose(0, 3, 1, 2) / 255),
    "grey": (PIXELS[..., 0], PIXELS[:, None, ..., 0] / 255),
    "one channel last": (PIXELS[..., :1], PIXELS[:, None, ..., 0] / 255),
    "bool": (PIXELS[..., 0] > 127, PIXELS[:, None, ..., 0] > 127),
    "0 and 1": ((PIXELS[..., 0] > 127).astype(np.uint8), PIXELS[:, None, ..., 0] > 127),
    "float": (PIXELS / 255, PIXELS.transpose(0, 3, 1, 2) / 255),
    "half": ((PIXELS[..., 0] / 255).astype(np.float16), PIXELS[:, None, ..., 0] / 255),
}


@pytest.mark.parametrize(("given", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_and_type_is_served_alike_from_memory_and_from_files(given, expected, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=given)
    np.save(tmp_path / "a.npy", given)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("pictures", data=given, chunks=(4, *given.shape[1:]), compression="gzip")
    files = (ArrayFile(str(tmp_path / f"a.{suffix}")) for suffix in ("npz", "npy", "h5"))
    for images in (ArrayImages(given), *files):
        found = served(images, tmp_path / "cache")
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-3 if given.dtype == np.float16 else 1e-6)
        assert images.shape == expected.shape[1:]
        assert images.factors is None


def test_factors_come_with_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, factors=FACTORS, factor_names=["hue", "size"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.update({"images": PIXELS, "factors": FACTORS, "factor_names": ["hue", "size"]})
    for images in (
        ArrayFile(str(tmp_path / "a.npz")),
        ArrayFile(str(tmp_path / "a.h5")),
        ArrayImages(PIXELS, FACTORS, ["hue", "size"]),
    ):
        served(images, tmp_path / "cache")
        assert (images.factors.names, images.factors.sizes) == (("hue", "size"), (2, 3))
        assert np.array_equal(images[np.array([5, 0])][1], FACTORS[[5, 0]])
    renamed = ArrayFile(str(tmp_path / "a.npz"), factor_names=["a", "b"])
    served(renamed, tmp_path / "cache")
    assert renamed.factors.names == ("a", "b")
    continuous = ArrayImages(PIXELS, np.linspace(0, 1, 6))
    assert continuous.factors.names == ("factor 0",)
    assert continuous[np.array([5])][1].tolist() == [[1.0]]


def test_names_may_be_bytes_in_utf8(tmp_path):
    names = ["größe", "色"]
    encoded = np.array([name.encode() for name in names])
    np.savez(tmp_path / "a.npz", images=PIXELS, factors=FACTORS, factor_names=encoded)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.update({"images": PIXELS, "factors": FACTORS, "factor_names": encoded})
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.update({"images": PIXELS, "factors": FACTORS, "factor_names": names})
    files = [ArrayFile(str(tmp_path / name)) for name in ("a.npz", "a.h5", "b.h5")]
    for images in (*files, ArrayImages(PIXELS, FACTORS, encoded)):
        served(images, tmp_path / "cache")
        assert images.factors.names == tuple(names)
    latin = np.array([name.encode("latin-1") for name in ("größe", "b")])
    np.savez(tmp_path / "c.npz", images=PIXELS, factors=FACTORS, factor_names=latin)
    with pytest.raises(ValueError, match=r"c\.npz: names must be UTF-8, got b'gr\\xf6\\xdfe'$"):
        served(ArrayFile(str(tmp_path / "c.npz")), tmp_path / "cache")


def test_arrays_may_be_in_the_only_group_of_an_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.update({"all/images": PIXELS, "all/factors": FACTORS, "all/more/labels": FACTORS})
    images = ArrayFile(str(tmp_path / "a.h5"))
    served(images, tmp_path / "cache")
    assert images.factors.sizes == (2, 3)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.update({"test/images": PIXELS[:2], "train/images": PIXELS})
        file["train/other"] = h5py.SoftLink("/nowhere")
    said = r"b\.h5 must hold an array 'images' .*, it has test/images \(2, .*\), train/images \(6, .*\)$"
    with pytest.raises(ValueError, match=said):
        ArrayFile(str(tmp_path / "b.h5"))


@pytest.mark.parametrize("name", ["A.NPZ", "a.Npy", "A.H5", "a.HDF5"])
def test_files_end_in_capitals_too(name, tmp_path):
    place = tmp_path / name
    if name in ("A.NPZ", "a.Npy"):
        with place.open("wb") as file:
            np.savez(file, images=PIXELS) if name == "A.NPZ" else np.save(file, PIXELS)
    else:
        with h5py.File(place, "w") as file:
            file["images"] = PIXELS
    assert len(served(ArrayFile(str(place)), tmp_path / "cache")) == 6


def test_factors_may_be_stored_column_by_column_and_what_cant_be_read_is_not_passed_over(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS, factors=np.asfortranarray(FACTORS))
    images = ArrayFile(str(path))
    served(images, tmp_path / "cache")
    assert np.array_equal(images[np.arange(6)][1], FACTORS)
    assert images[np.arange(6)][1].dtype == torch.int64  # classes
    masks = np.zeros((6, 32, 32), np.uint8)
    for arrays, what in (
        (
            {"images": np.asfortranarray(PIXELS), "masks": masks},
            "'images' must be .* in Fortran's order",
        ),
        ({"images": PIXELS, "factors": FACTORS.astype(object)}, "'factors' must be .* and is objects"),
        (
            {"images": PIXELS, "factors": FACTORS, "factor_names": np.array(["a", "b"], object)},
            "'factor_names' must be",
        ),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=what):
            ArrayFile(str(path))


@pytest.mark.parametrize("name", ["images", "pixels"])
def test_a_note_in_a_file_and_a_table_of_its_own_do_no_harm(name, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name], file["description"], file["weights"] = PIXELS, "of my own", np.ones((6, 2))
    assert len(served(ArrayFile(str(tmp_path / "a.h5")), tmp_path / "cache")) == 6


def test_a_link_is_read_by_its_own_name(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS)
    (tmp_path / "a.npz").rename(tmp_path / "0a1b2c")
    (tmp_path / "a.npz").symlink_to("0a1b2c")
    assert len(served(ArrayFile(str(tmp_path / "a.npz")), tmp_path / "cache")) == 6


def test_names_are_text_and_go_with_factors():
    assert ArrayImages(PIXELS, FACTORS, [1, 2]).factors.names == ("1", "2")
    with pytest.raises(ValueError, match="factor_names must be a list of names, got ab"):
        ArrayImages(PIXELS, FACTORS, "ab")
    with pytest.raises(ValueError, match="factor_names are given, a, b, but no factors"):
        ArrayImages(PIXELS, None, ["a", "b"])


def test_a_changed_file_is_read_again(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 32, 32), np.uint8))
    assert served(ArrayFile(str(tmp_path / "a.npy")), tmp_path / "cache").max() == 0
    np.save(tmp_path / "a.npy", np.full((5, 32, 32), 255, np.uint8))
    assert served(ArrayFile(str(tmp_path / "a.npy")), tmp_path / "cache").min() == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": PIXELS.astype(np.float32)},
            r"a\.npz: images of floats must lie in \[0, 1\], got 0 to 255; images / 255 brings 0 to 255 there$",
        ),
        (
            {"images": PIXELS / 127.5 - 1},
            r"must lie in \[0, 1\], got -1 to 1; \(images \+ 1\) / 2 brings −1 to 1 there$",
        ),
        ({"images": np.full((2, 8, 8), np.nan)}, r"a\.npz: images must be finite, got NaN or infinity$"),
        (
            {"images": PIXELS.astype(np.int64)},
            r"must be bool, uint8 or float in \[0, 1\], got int64; of 0 to 255 .* images\.astype\(np\.uint8\)$",
        ),
        (
            {"images": PIXELS[..., :2]},
            r"must be \(N, H, W\), \(N, H, W, C\) or \(N, C, H, W\) with C 1 or 3, got the shape \(6, 32, 32, 2\)$",
        ),
        ({"images": PIXELS[:0]}, r"must hold one or more, got the shape \(0, 32, 32, 3\)"),
        ({"images": np.array([{}, {}])}, "'images' must be a plain array in C order, as .* and is objects$"),
        ({"a": PIXELS, "b": PIXELS}, r"must hold an array 'images' or one of .* it has a \(6, 32, 32, 3\), b"),
        ({"images": PIXELS, "factors": FACTORS[:5]}, r"\(N, K\) for N = 6 images, got the shape \(5, 2\)"),
        (
            {"images": PIXELS, "factors": FACTORS.astype(str)},
            "factors must be integers, or floats where they are continuous, got <U",
        ),
        ({"images": PIXELS, "factors": FACTORS, "factor_names": ["a"]}, "must be 2 different names, got a"),
    ],
)
def test_what_the_arrays_can_not_mean_is_refused_in_a_sentence(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        served(ArrayFile(str(tmp_path / "a.npz")), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.h5")) or "factors" in arrays


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_arent_square_keep_their_height_and_width(channels):
    last = np.arange(2 * 4 * 6 * channels, dtype=np.uint8).reshape(2, 4, 6, channels)
    first = last.transpose(0, 3, 1, 2)
    for given in (last, first, *([last[..., 0]] if channels == 1 else [])):
        images = ArrayImages(given)
        assert images.shape == (channels, 4, 6)
        assert np.array_equal(images[np.arange(2)][0], first)
    assert ArrayImages(np.zeros((2, 3, 5, 3), np.uint8)).shape == (3, 3, 5)  # the last of two that could be channels
    for shape in ((2, 2, 2, 2), (2, 4), (2, 1, 4, 4, 1)):
        with pytest.raises(ValueError, match=r"with C 1 or 3, got the shape \(2, "):
            ArrayImages(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("bright", [0, 1030])
def test_any_pixel_over_1_makes_bytes_of_all(bright):
    pixels = np.zeros((1031, 2, 2), np.uint8)  # more than are looked at at once
    pixels[bright, 1, 1] = 51
    images = ArrayImages(pixels)
    assert images.decode(images[np.array([bright])][0])[0, 0, 1, 1].item() == pytest.approx(0.2)
    pixels[bright, 1, 1] = 1
    images = ArrayImages(pixels)
    assert images.decode(images[np.array([bright])][0])[0, 0, 1, 1].item() == 1
    floats = pixels.astype(np.float32)
    floats[bright] = 1.5
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0 to 1\.5; images / 255 brings 0 to 255 there$"):
        ArrayImages(floats)


@pytest.mark.parametrize(
    ("factors", "names", "said"),
    [
        (FACTORS, ["a", "a"], "^factor_names must be 2 different names, got a, a$"),
        (np.where(FACTORS == 2, np.nan, FACTORS), None, "^factors must be finite, got NaN or infinity$"),
        (FACTORS[:, :0], None, r"^factors must be \(N, K\) for N = 6 images, got the shape \(6, 0\)$"),
        (FACTORS[..., None], None, r"^factors must be \(N, K\) for N = 6 images, got the shape \(6, 2, 1\)$"),
        (FACTORS * 1j, None, "^factors must be integers, or floats where they are continuous, got complex128$"),
    ],
)
def test_factors_that_mean_nothing_are_refused(factors, names, said):
    with pytest.raises(ValueError, match=said):
        ArrayImages(PIXELS, factors, names)


def test_factors_are_integers_or_as_continuous_as_they_are_given():
    for given, expected in ((np.array([0.25, 0.5] * 3), np.float64), (np.array([True, False] * 3), np.int64)):
        found = ArrayImages(PIXELS, given)[np.array([1])][1].numpy()
        assert found.tolist() == [[given[1]]]
        assert found.dtype == expected
    assert ArrayImages(PIXELS, np.array([7, 9, 7, 7, 9, 9])).factors.sizes == (2,)


def test_files_that_are_none_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "a.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.npz is damaged or no \.npz archive"):
        ArrayFile(str(tmp_path / "a.npz"))
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["images"] = PIXELS
    (tmp_path / "d.h5").write_bytes((tmp_path / "d.h5").read_bytes().replace(b"TREE", b"tree"))
    np.save(tmp_path / "e.npy", PIXELS)
    (tmp_path / "e.npy").write_bytes((tmp_path / "e.npy").read_bytes().replace(b"{'descr'", b"(((((((("))
    for name, message in (("d.h5", "d.h5 is damaged or no .h5 archive"), ("e.npy", "e.npy holds no plain NumPy array")):
        with pytest.raises(ValueError, match=re.escape(message)):
            served(ArrayFile(str(tmp_path / name)), tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.npz"):
        ArrayFile(str(tmp_path / "b.npz"))
    with pytest.raises(ValueError, match=r"end in \.npz, \.npy, \.h5, \.hdf5, got .*c\.png"):
        ArrayFile(str(tmp_path / "c.png"))


def test_five_lines_train_on_them(tmp_path):
    from lightning import Trainer

    from bvae import Training
    from bvae.architectures import ConvDecoder, ConvEncoder
    from bvae.losses import Beta

    shape = (3, 32, 32)
    data = ImagesDataModule(ArrayImages(PIXELS, FACTORS), batch_size=2)
    training = Training(ConvEncoder(image_shape=shape), ConvDecoder(image_shape=shape), Beta())
    Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False).fit(training, data)
    assert data.train_size == 6
