from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import h5py
import numpy as np
import pytest

from bvae.data import DSpritesDataModule, cache
from bvae.data.dsprites.render import NUM_IMAGES, render_all
from bvae.files import locked

ROW = (512,)


def blocks_of(value: int):
    block = np.full((NUM_IMAGES // 8, 512), value, dtype=np.uint8)
    return lambda: (NUM_IMAGES, (block for _ in range(8)))


def must_not_render():
    raise AssertionError("the cache was made again")


def test_the_file_says_where_it_comes_from_and_what_it_holds(cache_dir):
    with h5py.File(cache_dir / "dsprites-render.h5") as file:
        assert file.attrs["source"] == "rendered"
        assert list(file.attrs["factor_names"]) == ["shape", "scale", "orientation", "posX", "posY"]
        assert list(file.attrs["factor_sizes"]) == [3, 6, 40, 32, 32]
        digest = 0
        for block in render_all():
            digest = zlib.crc32(block, digest)
        assert file.attrs["crc32"] == digest
    assert (cache_dir / "dsprites-render.h5").stat().st_size < 378e6
    assert not list(cache_dir.glob(".*"))  # no temporary file is left


def test_a_run_that_finds_the_cache_is_ready_within_a_second(cache_dir):
    start = time.process_time()
    data = DSpritesDataModule(cache_dir=str(cache_dir))
    data.prepare_data()
    data.setup()
    next(iter(data.train_dataloader()))
    assert time.process_time() - start < 1


def test_a_whole_file_is_kept_and_a_damaged_one_is_made_again(tmp_path):
    path = tmp_path / "cache.h5"
    cache.prepare(path, ROW, {"source": "ones"}, blocks_of(1))
    cache.prepare(path, ROW, {"source": "ones"}, must_not_render)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"damage")
    cache.prepare(path, ROW, {"source": "twos"}, blocks_of(2))
    assert cache.open_images(path)[-1, -1] == 2
    with path.open("r+b") as file:
        file.truncate(1000)
    cache.prepare(path, ROW, {"source": "threes"}, blocks_of(3))
    assert cache.open_images(path)[0, 0] == 3


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken():
        yield np.zeros((1024, 512), dtype=np.uint8)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        cache.prepare(tmp_path / "cache.h5", ROW, {"source": "broken"}, lambda: (NUM_IMAGES, broken()))
    assert [path.name for path in tmp_path.iterdir()] == ["cache.h5.lock"]


def test_no_room_is_said_in_a_sentence_and_the_old_file_stays(tmp_path, monkeypatch):
    old = tmp_path / "cache.h5"
    old.write_bytes(b"damaged, but not ours to lose")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10_000_000))
    with pytest.raises(OSError, match=r"no room in .*: 377 MB are needed, 10 MB are free"):
        cache.prepare(old, ROW, {"source": "ones"}, blocks_of(1))
    assert old.read_bytes() == b"damaged, but not ours to lose"


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """A user to whom the folder isn't writable, in it."""
    before, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0o555)
    parents = [parent for parent in folder.parents if parent.stat().st_uid == user and not parent.stat().st_mode & 1]
    for parent in parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(before)


def test_a_whole_file_is_served_from_a_folder_that_can_not_be_written(tmp_path):
    cache.prepare(tmp_path / "cache.h5", ROW, {"source": "ones"}, blocks_of(1))
    (tmp_path / "cache.h5.lock").unlink()
    with nobody(tmp_path):
        cache.prepare(tmp_path / "cache.h5", ROW, {"source": "ones"}, must_not_render)
        assert cache.open_images(tmp_path / "cache.h5")[0, 0] == 1
        with pytest.raises(OSError, match=r"^can't write .*other\.h5: Permission denied; choose .* data\.cache_dir="):
            cache.prepare(tmp_path / "other.h5", ROW, {"source": "ones"}, must_not_render)
    (tmp_path / "cache.h5").chmod(0o200)
    with nobody(tmp_path), pytest.raises(OSError, match=r"^can't read .*cache\.h5: Permission denied; have its owner"):
        cache.prepare(tmp_path / "cache.h5", ROW, {"source": "ones"}, must_not_render)
    (tmp_path / "cache.h5").chmod(0o600)
    cache.prepare(tmp_path / "cache.h5", ROW, {"source": "ones"}, must_not_render)  # what can't be read isn't damaged


def test_the_default_folder_is_the_users_own_and_shared(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in ("BVAE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert DSpritesDataModule().cache_dir == home / ".cache" / "bvae"
    with nobody(home):
        assert DSpritesDataModule().cache_dir == tmp_path / "data"
        assert "can't be written, the images are kept in ./data: BVAE_CACHE_DIR names another" in caplog.text
    cached = home / ".cache" / "bvae"
    cached.mkdir(parents=True)
    (cached / "dsprites-render.h5").touch()
    cached.chmod(0o555)
    with nobody(home):
        assert DSpritesDataModule().cache_dir == cached  # which needs no writing
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert DSpritesDataModule().cache_dir == tmp_path / "xdg" / "bvae"
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path / "mine"))
    assert DSpritesDataModule().cache_dir == tmp_path / "mine"
    assert DSpritesDataModule(cache_dir="theirs").cache_dir == tmp_path / "theirs"


def test_no_test_writes_into_the_users_own_folder():
    with pytest.raises(OSError, match="Not a directory"):
        cache.prepare(cache.default_folder() / "x.h5", ROW, {}, blocks_of(1))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "file"
    path.with_name("file.lock").touch()  # left over
    with locked(path):
        path.write_text("made")


def test_a_wait_says_for_what(tmp_path, caplog):
    with (tmp_path / "file.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        Timer(0.2, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        with locked(tmp_path / "file"):
            assert caplog.messages == [f"Waiting for another process to make {tmp_path / 'file'}"]


def _prepare_and_report(path: Path, made: multiprocessing.Queue) -> None:
    def blocks():
        made.put(1)
        time.sleep(0.5)
        return blocks_of(7)()

    cache.prepare(path, ROW, {"source": "sevens"}, blocks)


def test_of_processes_that_start_together_one_makes_the_file(tmp_path):
    context = multiprocessing.get_context("fork")
    made = context.Queue()
    jobs = [context.Process(target=_prepare_and_report, args=(tmp_path / "cache.h5", made)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    assert made.get(timeout=1) == 1
    assert made.empty()
