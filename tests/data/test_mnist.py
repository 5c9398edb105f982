"""The digits that come with scikit-learn, and MNIST's files, of which these tests write small ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from official_files import put

from bvae.data import MNIST, Digits, FashionMNIST, ImagesDataModule
from bvae.data.__main__ import described

COUNTS = {"train": 5, "t10k": 3}


def idx(array: np.ndarray) -> bytes:
    """0, 0, 8 for bytes, the number of dimensions and these, most significant byte first."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def images_of(part: str) -> np.ndarray:
    return np.random.default_rng(COUNTS[part]).integers(0, 256, (COUNTS[part], 28, 28), np.uint8)


def labels_of(part: str) -> np.ndarray:
    return np.arange(COUNTS[part], dtype=np.uint8) + (part == "t10k")


def files(folder: Path, compressed: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for part in COUNTS:
        for kind, array in (("images-idx3", images_of(part)), ("labels-idx1", labels_of(part))):
            put(folder / f"{part}-{kind}-ubyte", idx(array), compressed)
    return folder


def loaded(images: MNIST, folder: Path) -> tuple[np.ndarray, list[int]]:
    images.prepare(folder)
    images.load(folder)
    batch, labels = images[np.arange(len(images))]
    return (images.decode(batch) * 255).round().byte().numpy(), labels[:, 0].tolist()


def test_the_digits_are_those_of_scikit_learn():
    data = ImagesDataModule(Digits())
    images = data.images(1797)
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    first, label = data.image_set[np.array([0])]
    # Its first digit is a 0, whose third row in sixteenths of white is this.
    assert (data.image_set.decode(first)[0, 0, 2] * 16).round().tolist() == [0, 3, 15, 2, 0, 11, 8, 0]
    assert label.tolist() == [[0]]
    assert data.factors.value_names["digit"][7] == "7"
    assert data.factors.categories == ("digit",)
    assert all("\nfactors   digit 10\n" in described(name) for name in ("digits", "mnist"))


@pytest.mark.parametrize("compressed", [False, True])
def test_both_parts_come_in_order_with_their_labels(tmp_path, compressed):
    folder = str(files(tmp_path / "files", compressed))
    pixels, labels = loaded(MNIST(folder), tmp_path)
    assert np.array_equal(pixels[:, 0], np.concatenate([images_of("train"), images_of("t10k")]))
    assert labels == [0, 1, 2, 3, 4, 1, 2, 3]
    pixels, labels = loaded(MNIST(folder, part="test"), tmp_path)
    assert np.array_equal(pixels[:, 0], images_of("t10k"))
    assert labels == [1, 2, 3]
    assert loaded(MNIST(folder, part="train"), tmp_path)[1] == [0, 1, 2, 3, 4]


def test_a_fashion_has_names(tmp_path):
    images = FashionMNIST(str(files(tmp_path / "files")))
    assert images.factors.value_names["kind"][9] == "ankle boot"
    assert loaded(images, tmp_path)[1] == [0, 1, 2, 3, 4, 1, 2, 3]


def damaged(name: str, content: bytes | None):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return damage


def pipe(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()
    os.mkfifo(folder / "train-labels-idx1-ubyte")


WRONG = {
    "missing": (
        damaged("t10k-labels-idx1-ubyte", None),
        "no t10k-labels-idx1-ubyte in .*data=mnist needs a .*, or data.path=null, which fetches them$",
    ),
    "empty": (damaged("train-labels-idx1-ubyte", b""), "train-labels-idx1-ubyte is damaged or no IDX file"),
    "text": (damaged("train-images-idx3-ubyte", b"hello world, this is text"), "no IDX file of bytes in 3 dimensions"),
    "numbers of four bytes": (
        damaged("train-labels-idx1-ubyte", struct.pack(">HBBI", 0, 12, 1, 5) + bytes(20)),
        "bytes in 1 dimensions: it begins with 0000 0c 01",
    ),
    "other pictures": (
        damaged("train-images-idx3-ubyte", idx(np.zeros((5, 32, 32), np.uint8))),
        r"must have the shape \(N, 28, 28\) with N from 1 to 1,000,000, got \(5, 32, 32\)",
    ),
    "too many to be true": (
        damaged("train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28)),
        r"N from 1 to 1,000,000, got \(2147483648, 28, 28\)",
    ),
    "cut off": (damaged("train-images-idx3-ubyte", idx(images_of("train"))[:-1]), "is damaged or no IDX file"),
    "longer": (
        damaged("train-images-idx3-ubyte", idx(images_of("train")) + b"x"),
        "train-images-idx3-ubyte is longer than the 3,920 bytes that its header says",
    ),
    "longer labels": (
        damaged("train-labels-idx1-ubyte", idx(labels_of("train")) + b"x"),
        "train-labels-idx1-ubyte is longer than the 5 bytes that its header says",
    ),
    "fewer labels": (
        damaged("train-labels-idx1-ubyte", idx(np.zeros(4, np.uint8))),
        "train-labels-idx1-ubyte has 4 labels for 5 images",
    ),
    "eleven digits": (
        damaged("train-labels-idx1-ubyte", idx(np.array([0, 1, 2, 3, 10], np.uint8))),
        "labels must be 0 to 9, got 10",
    ),
    "a pipe": (pipe, "no train-labels-idx1-ubyte in"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, kind):
    damage, said = WRONG[kind]
    folder, cache = files(tmp_path / "files"), tmp_path / "cache"
    damage(folder)
    with pytest.raises((ValueError, OSError), match=said) as caught:
        MNIST(str(folder)).prepare(cache)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*.h5"))


def test_damage_within_compressed_files_is_noticed_and_a_bomb_is_read_no_further_than_its_header_says(tmp_path):
    folder = files(tmp_path / "files", compressed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "damaged or no IDX file: Compressed file ended before the end-of-stream"),
        (whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], "damaged or no IDX file: CRC check failed"),
        (b"hello", "damaged or no IDX file: Not a gzipped file"),
        (gzip.compress(idx(images_of("train")) + bytes(1 << 26)), "longer than the 3,920 bytes that its header says"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte\.gz is {said}"):
            MNIST(str(folder), part="train").prepare(tmp_path / "cache")


def test_another_part_is_refused():
    with pytest.raises(ValueError, match=r"data\.part must be one of train, test, all, got 'validation'"):
        MNIST(part="validation")


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[tuple[str, list[str]]]:
    """An address that serves the files, and the names that were asked for."""
    served = files(tmp_path / "served", compressed=True)
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *arguments):
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in served.iterdir()}
    monkeypatch.setattr(MNIST, "md5", md5)
    yield f"http://127.0.0.1:{server.server_port}/", requests
    server.shutdown()
    server.server_close()


def test_they_are_fetched_once(tmp_path, server, monkeypatch):
    url, requests = server
    for _ in range(2):
        pixels, labels = loaded(MNIST(part="test", url=url), tmp_path / "cache")
        assert np.array_equal(pixels[:, 0], images_of("t10k"))
        assert labels == [1, 2, 3]
    assert sorted(requests) == ["/t10k-images-idx3-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(MNIST, "md5", {**MNIST.md5, "train-images-idx3-ubyte.gz": "0" * 32})
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz has the md5 .* where 0{32} is expected"):
        loaded(MNIST(url=url), tmp_path / "other")


def test_what_is_prepared_needs_the_labels_only_and_nothing_is_fetched_or_locked_to_load_it(tmp_path, server):
    url, requests = server
    cache = tmp_path / "cache"
    expected = loaded(MNIST(part="train", url=url), cache)[1]
    (cache / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    for lock in (cache / "mnist").glob("*.lock"):
        lock.unlink()
    assert MNIST(part="train", url=url).is_prepared(cache)
    assert loaded(MNIST(part="train", url=url), cache)[1] == expected
    assert [path.name for path in (cache / "mnist").iterdir()] == ["train-labels-idx1-ubyte.gz"]
    assert len(requests) == 2
    labels = cache / "mnist" / "train-labels-idx1-ubyte.gz"
    for content in (b"damaged", None):
        labels.unlink() if content is None else labels.write_bytes(content)
        images = MNIST(part="train", url=url)
        assert not images.is_prepared(cache)
        images.url = url.rstrip("/")
        with pytest.raises((ValueError, OSError)):
            images.load(cache)  # which doesn't fetch them
        assert loaded(images, cache)[1] == expected
    assert requests[2:] == 2 * ["/train-labels-idx1-ubyte.gz"]


def test_without_a_network_it_says_what_else_there_is(tmp_path):
    with pytest.raises(OSError, match=r"can't download .*; .*name a folder of its files in data.path=…"):
        MNIST(url="http://127.0.0.1:9/").prepare(tmp_path)
