from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from bvae.data import DSpritesDataModule, cache
from bvae.data.download import download
from bvae.data.dsprites import archives

CONTENT = bytes(range(256)) * 20_000  # 5 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`, with or without ranges; breaks off after `breaks` bytes, or is busy, as many times as told."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges, self.requests, self.busy = content, [], True, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/archive.hdf5"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path != "/archive.hdf5":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.server.busy:
            self.server.busy -= 1
            self.send_error(503)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks.pop(0)] if self.server.breaks else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(CONTENT)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "archive.hdf5"
    for _ in range(2):
        download(server.url, path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_broken_transfer_goes_on_where_it_was(server, tmp_path):
    server.breaks = [1_000_000, 500_000]
    download(server.url, tmp_path / "archive.hdf5", MD5)
    assert (tmp_path / "archive.hdf5").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_too(server, tmp_path):
    path = tmp_path / "archive.hdf5"
    server.breaks = [1_000_000, 1_000_000, 1_000_000]
    with pytest.raises(OSError, match=r"broke off after 3,000,000 of 5,120,000 bytes; run again to continue"):
        download(server.url, path, MD5)
    assert not path.exists()
    download(server.url, path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=3000000-"


def test_a_part_that_is_too_long_is_no_try_and_a_busy_server_is_one(server, tmp_path):
    (tmp_path / "archive.hdf5.part").write_bytes(CONTENT + b"more")
    server.busy = 2
    download(server.url, tmp_path / "archive.hdf5", MD5)
    assert (tmp_path / "archive.hdf5").read_bytes() == CONTENT
    server.busy = 3
    with pytest.raises(OSError, match=r"503.*; run again to continue, or use data=dsprites"):
        download(server.url, tmp_path / "again", MD5)


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges, server.breaks = False, [1_000_000]
    download(server.url, tmp_path / "archive.hdf5", MD5)
    assert (tmp_path / "archive.hdf5").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"another file's half", CONTENT + b"too long", CONTENT])
def test_what_an_earlier_try_left_is_not_trusted(server, tmp_path, left):
    (tmp_path / "archive.hdf5.part").write_bytes(left)
    download(server.url, tmp_path / "archive.hdf5", MD5)
    assert (tmp_path / "archive.hdf5").read_bytes() == CONTENT


def test_another_file_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match=f"has the md5 {MD5} where 0000 is expected"):
        download(server.url, tmp_path / "archive.hdf5", "0000")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_no_server_is_said_in_a_sentence(server, tmp_path):
    with pytest.raises(
        OSError, match=r"can't download http.*nowhere: .*404.*; use data=dsprites, which renders"
    ) as caught:
        download(server.url.replace("archive.hdf5", "nowhere"), tmp_path / "x", MD5)
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError, match="can't download"):
        download("http://127.0.0.1:1/archive.hdf5", tmp_path / "x", MD5)


def test_the_data_module_says_that_the_download_failed(tmp_path):
    data = DSpritesDataModule(source="download", url="http://127.0.0.1:1/archive.hdf5", cache_dir=str(tmp_path))
    with pytest.raises(OSError, match=r"^can't download http"):
        data.prepare_data()


def test_the_data_module_trains_on_what_it_downloads(server, tmp_path):
    with h5py.File(tmp_path / "black.hdf5", "w") as archive:
        archive.create_dataset("imgs", archives.IMAGES_SHAPE, np.uint8, chunks=(1024, 64, 64), compression="gzip")
        archive["latents/classes"] = archives._latent_classes()
    server.content = (tmp_path / "black.hdf5").read_bytes()
    server.breaks = [len(server.content) // 2]
    md5 = hashlib.md5(server.content).hexdigest()
    data = DSpritesDataModule(source="download", url=server.url, md5=md5, cache_dir=str(tmp_path / "data"))
    data.prepare_data()
    assert not cache.open_images(data.cache_file).any()
    data.prepare_data()
    assert len(server.requests) == 2
