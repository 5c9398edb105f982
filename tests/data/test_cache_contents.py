"""What a cache file holds and what tells it from another: a stale one is never served, and no damage goes unnoticed."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bvae.data import ArrayFile, DSprites, FolderImages, Shapes3D, SmallNORB, cache
from bvae.data.cached import CachedImages
from bvae.data.dsprites import Archive, Download
from bvae.data.image_set import FactorGrid


class Own(CachedImages):
    """Images of (1, 2, 2), from blocks that a test gives."""

    shape = (1, 2, 2)
    cache_name = "own"

    def __init__(self, *blocks, dtype: type = np.uint8, key: str = "a", most: int | None = None) -> None:
        super().__init__()
        self.dtype, self.key = dtype, key
        self.blocks = [np.array(values, dtype)[:, None, None, None].repeat(2, 2).repeat(2, 3) for values in blocks]
        self.most = sum(map(len, self.blocks)) if most is None else most
        self.made = 0

    def about(self):
        return {"key": self.key, "source": "here"}

    def make(self, folder):
        self.made += 1
        return self.most, iter(self.blocks)


def served(images: CachedImages, folder: Path) -> list[float]:
    images.prepare(folder)
    images.load(folder)
    return images.decode(images[np.arange(len(images))][0])[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("blocks", "dtype", "expected"),
    [
        ([[255, 51], [0, 0]], np.uint8, [1, 0.2, 0, 0]),  # the last block is all black
        ([[0, 0], [51, 255]], np.uint8, [0, 0, 0.2, 1]),
        ([[0, 1], [1, 0]], np.uint8, [0, 1, 1, 0]),  # of 0 and 1, as none is over 1
        ([[0, 0], [2, 1]], np.uint8, [0, 0, 2 / 255, 1 / 255]),
        ([[0, 0.5], [1, 0.25]], np.float32, [0, 0.5, 1, 0.25]),
    ],
)
def test_bytes_are_of_255_where_any_is_over_1_and_floats_are_as_they_are(blocks, dtype, expected, tmp_path):
    images = Own(*blocks, dtype=dtype)
    assert served(images, tmp_path) == pytest.approx(expected)
    assert images[np.arange(1)][0].dtype == (torch.uint8 if dtype is np.uint8 else torch.float32)
    assert images.decode(images[np.arange(2)][0]).dtype == torch.float32
    about = cache.read_about(images.cache_file(tmp_path))
    assert (about["maximum"], about["count"], about["source"]) == (max(map(max, blocks)), 4, "here")
    with pytest.raises(RuntimeError, match="Own isn't loaded"):
        _ = pickle.loads(pickle.dumps(Own(*blocks, dtype=dtype))).images
    again = pickle.loads(pickle.dumps(images))
    assert again.decode(again[np.array([2, 1])][0])[:, 0, 0, 0].tolist() == pytest.approx([expected[2], expected[1]])


def test_a_file_that_doesnt_say_its_maximum_is_of_0_and_1(tmp_path):
    images = Own([0, 1])
    served(images, tmp_path)
    with h5py.File(images.cache_file(tmp_path), "r+") as file:
        del file.attrs["maximum"]
    assert served(Own([0, 1]), tmp_path) == [0, 1]


def test_images_that_were_left_out_as_the_file_was_made_are_not_served(tmp_path):
    images = Own([4, 6], [8], most=10)
    assert served(images, tmp_path) == pytest.approx([4 / 255, 6 / 255, 8 / 255])
    assert (len(images), images.images.shape) == (3, (3, 1, 2, 2))


def test_a_file_is_made_again_for_another_key_shape_or_type_and_for_nothing_else(tmp_path, caplog):
    first = Own([4, 6])
    assert not first.is_prepared(tmp_path)
    served(first, tmp_path)
    assert first.is_prepared(tmp_path)
    same = Own([8, 8])
    assert served(same, tmp_path) == pytest.approx([4 / 255, 6 / 255])
    assert same.made == 0
    assert not caplog.messages
    larger = Own([9, 9])
    larger.shape = (1, 4, 1)
    for other in (Own([8, 8], key="b"), Own([0.5, 1], dtype=np.float32), larger):
        assert not other.is_prepared(tmp_path)
    another = Own([8, 8], key="b")
    assert served(another, tmp_path) == pytest.approx([8 / 255, 8 / 255])
    assert another.made == 1
    assert caplog.messages == [f"{tmp_path / 'own.h5'} is damaged or of other images, and is made again"]
    assert not first.is_prepared(tmp_path)
    with pytest.raises(RuntimeError, match=r"^Own isn't loaded: call prepare\(folder\) and load\(folder\) first$"):
        len(Own([1]))


def test_factors_are_the_grids_or_the_sets_own_or_none(tmp_path):
    images = Own([4, 6])
    served(images, tmp_path)
    none = images[np.arange(2)][1]
    assert (none.shape, none.dtype) == ((2, 0), torch.int64)
    images._labels = np.array([[5], [7]])
    assert images[np.array([1, 0])][1].tolist() == [[7], [5]]
    images.factors = FactorGrid(("hue",), (2,))
    assert images[np.array([1, 0])][1].tolist() == [[1], [0]]


@pytest.mark.parametrize(("blocks", "stride"), [(16, 1), (4, 4), (2, 8)])
def test_damage_is_noticed_anywhere_in_a_small_file_and_anywhere_evenly_in_a_large_one(
    blocks, stride, tmp_path, monkeypatch
):
    """256 bytes in 16 pieces: all are summed up, or every fourth, or every eighth."""
    monkeypatch.setattr(cache, "_DIGEST_BLOCK", 16)
    monkeypatch.setattr(cache, "_DIGEST_BLOCKS", blocks)
    path, row = tmp_path / "x.h5", (16,)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cache.prepare(path, row, {}, lambda: (16, [pixels]))
    with h5py.File(path) as file:
        start = file["images"].id.get_offset()
    whole = path.read_bytes()
    noticed = []
    for piece in range(16):
        damaged = bytearray(whole)
        damaged[start + 16 * piece + 15] ^= 1
        path.write_bytes(damaged)
        if not cache.is_intact(path, row, None, np.uint8):
            noticed.append(piece)
    assert noticed == list(range(0, 16, stride))
    path.write_bytes(whole)
    assert cache.is_intact(path, row, None, np.uint8)


def test_what_is_summed_up_of_a_large_file_is_a_gigabyte():
    assert cache._DIGEST_BLOCK * cache._DIGEST_BLOCKS == 2**30


def test_room_is_asked_for_as_many_bytes_as_the_images_have(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for dtype, size in ((np.uint8, 8_000_000), (np.float32, 32_000_000)):  # 2 million images of 4 pixels
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, size=size: usage._replace(free=size - 1))
        said = f"^no room in {re.escape(str(tmp_path))}: {size / 1e6:.0f} MB are needed, {size / 1e6:.0f} MB are free$"
        with pytest.raises(OSError, match=said):
            Own([1], dtype=dtype, most=2_000_000).prepare(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=8))
    Own([1, 2]).prepare(tmp_path)  # just enough


def test_images_in_pieces_or_of_text_are_no_cache(tmp_path):
    for name, options in (
        ("pieces", {"chunks": (1, 2), "data": np.zeros((2, 2))}),
        ("text", {"data": np.zeros(2, "S4")}),
    ):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("images", **options)
        with pytest.raises(ValueError, match=rf"{name}\.h5: 'images' isn't stored in one piece, or isn't of numbers$"):
            cache.open_images(path)


# What a file's name depends on.


def write(path: Path, text: str, time_ns: int = 10**18) -> Path:
    path.write_text(text)
    os.utime(path, ns=(time_ns, time_ns))
    return path


def test_a_name_changes_with_each_files_place_size_and_time(tmp_path):
    a, b = write(tmp_path / "a", "one"), write(tmp_path / "b", "one")
    name = cache.name_of(a)
    assert re.fullmatch("[0-9a-f]{8}", name)
    assert cache.name_of(a) == name
    assert cache.name_of(write(a, "two")) == name  # of the same size and time, which is all that is looked at
    names = {name, cache.name_of(b), cache.name_of(a, b), cache.name_of(b, a)}
    names |= {cache.name_of(write(a, "three")), cache.name_of(write(a, "one", 10**18 + 1))}
    assert len(names) == 6
    with pytest.raises(FileNotFoundError, match=f"^there is no file {tmp_path / 'c'}$"):
        cache.name_of(a, tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        cache.name_of(tmp_path)


def test_each_set_names_its_own_file_in_the_folder(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    path = tmp_path / "x.npy"
    assert DSprites().cache_file(tmp_path) == tmp_path / "dsprites-render.h5"
    assert DSprites(Download()).cache_file(tmp_path) == tmp_path / "dsprites-download.h5"
    assert DSprites(Archive(str(path))).cache_name == f"dsprites-file-{cache.name_of(path)}"
    assert ArrayFile(str(path)).cache_name == f"arrays-{cache.name_of(path)}"
    assert ArrayFile(str(path)).about() == {"source": str(path)}


def test_all_six_files_of_smallnorb_are_in_the_name(tmp_path):
    parts = ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing")
    paths = [tmp_path / f"smallnorb-{part}-{kind}.mat" for part in parts for kind in ("dat", "cat", "info")]
    for path in paths:
        write(path, "x")
    names = {SmallNORB(str(tmp_path)).cache_name}
    for path in paths:
        write(path, "xy")
        names.add(SmallNORB(str(tmp_path)).cache_name)
    assert len(names) == 7
    assert all(name.startswith("smallnorb-") for name in names)


def test_an_official_set_says_where_its_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for typed in ("~/x.h5", "x.h5"):
        assert Shapes3D(typed).path == Archive(typed).path == tmp_path / "x.h5"
        assert Shapes3D(typed).about() == {"source": str(tmp_path / "x.h5")}


PICTURE = b"BM" + bytes(60)  # only its name, size and time count here


@pytest.mark.parametrize(
    "options", [{"fit": "pad"}, {"size": 32}, {"channels": 3}, {"size": 128, "channels": 3, "fit": "pad"}], ids=str
)
def test_a_folders_file_is_named_by_what_is_made_of_the_pictures(options, tmp_path):
    plain = {"size": 64, "channels": 1, "fit": "crop"}
    (tmp_path / "a.bmp").write_bytes(PICTURE)
    first, other = (FolderImages(str(tmp_path), **kind).cache_name for kind in (plain, plain | options))
    assert first.startswith("folder-")
    assert first != other
    assert FolderImages(str(tmp_path), **plain).cache_name == first
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.bmp").write_bytes(PICTURE)
    assert FolderImages(str(tmp_path / "below"), **plain).cache_name != first


def test_a_folders_key_changes_with_each_files_name_size_and_time_and_with_strictness(tmp_path):
    def key(**options) -> str:
        about = FolderImages(str(tmp_path), channels=1, **options).about()
        assert about["source"] == str(tmp_path)
        return about["key"]

    write(tmp_path / "a.bmp", "one")
    write(tmp_path / "b.bmp", "one")
    first = key()
    write(tmp_path / "notes.txt", "no picture")
    assert key() == first
    assert key(fit="pad", size=128) == first  # which its name tells
    keys = {first, key(strict=True)}
    write(tmp_path / "a.bmp", "three")
    keys.add(key())
    write(tmp_path / "a.bmp", "one", 10**18 + 1)  # other pixels, of the same size
    keys.add(key())
    write(tmp_path / "a.bmp", "one")
    assert key() == first
    (tmp_path / "b.bmp").rename(tmp_path / "c.bmp")
    keys.add(key())
    (tmp_path / "c.bmp").unlink()
    keys.add(key())
    (tmp_path / "b.bmp").symlink_to("/nowhere/at/all")
    keys.add(key())
    assert len(keys) == 7


def test_names_that_are_no_text_have_a_name_and_a_key_too(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    write(folder / os.fsdecode(b"\xfe.bmp"), "one")
    images = FolderImages(str(folder), channels=1)
    assert re.fullmatch("folder-[0-9a-f]{12}", images.cache_name)
    first = images.about()["key"]
    (folder / os.fsdecode(b"\xfe.bmp")).rename(folder / os.fsdecode(b"\xfd.bmp"))
    assert FolderImages(str(folder), channels=1).about()["key"] != first
