"""Files: what is written is whole or not there, by one process at a time, and what a check lets through."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import re
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bvae.app.resume import clear
from bvae.checkpoints.files import AtomicCheckpointIO, disk_is_full
from bvae.files import (
    atomic_write,
    check_room,
    locked,
    open_to_lock,
    remove_partials,
    seen_from,
    take_lock,
)


def test_what_is_written_reaches_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Else a machine that fails leaves a file that has a name and nothing in it."""
    happened = []
    fsync, replace = os.fsync, Path.replace

    def remembered_fsync(descriptor: int) -> None:
        happened.append(("synced", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def remembered_replace(self: Path, target: Path) -> Path:
        happened.append(("renamed", self.stat().st_ino, target))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", remembered_fsync)
    monkeypatch.setattr(Path, "replace", remembered_replace)
    (tmp_path / "x").write_text("before")
    with atomic_write(tmp_path / "x") as partial:
        partial.write_text("now it is whole")
        number = partial.stat().st_ino
        assert (tmp_path / "x").read_text() == "before"
    assert happened == [("synced", number, 15), ("renamed", number, tmp_path / "x")]
    assert (tmp_path / "x").read_text() == "now it is whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_temporary_file_is_beside_the_file_and_of_this_process_on_this_machine(tmp_path):
    with atomic_write(tmp_path / "new" / "er" / "x.h5") as partial:
        assert partial == tmp_path / "new" / "er" / f".x.h5.{platform.node()}.{os.getpid()}.partial"
        partial.touch()
    partial.write_text("of a process before, with this number")
    with atomic_write(tmp_path / "new" / "er" / "x.h5") as partial:
        assert not partial.exists()
        partial.touch()


def test_what_ends_the_writing_leaves_the_file_as_it_was(tmp_path):
    def break_off(error: BaseException) -> None:
        with atomic_write(tmp_path / "x") as partial:
            partial.write_text("half")
            raise error

    (tmp_path / "x").write_text("before")
    for error in (ValueError("of the contents"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            break_off(error)
        assert caught.value is error
    full, unnumbered = OSError(errno.ENOSPC, "No space left"), OSError("h5py's own")
    for error, said in ((full, "No space left"), (unnumbered, "h5py's own")):
        with pytest.raises(OSError, match=f"^can't write {re.escape(str(tmp_path / 'x'))}: {said}$") as caught:
            break_off(error)
        assert caught.value.errno == error.errno
        assert disk_is_full(caught.value) == (error is full)
    assert (tmp_path / "x").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert disk_is_full(OSError(errno.EDQUOT, "Quota"))
    assert not disk_is_full(OSError(errno.EACCES, "No"))


def test_only_what_processes_left_of_the_same_file_is_removed(tmp_path):
    names = [
        ".a.host.1.partial",
        ".a.other.2.partial",
        ".ab.host.1.partial",
        "a.host.1.partial",
        ".a.host.1",
        ".a.lock",
    ]
    for name in names:
        (tmp_path / name).touch()
    remove_partials(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[3:])
    (tmp_path / ".b.x.partial").mkdir()
    remove_partials(tmp_path)  # what can't be removed is left
    remove_partials(tmp_path / "nowhere")


def test_there_is_room_for_what_just_fits(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2_000_000, used=1, total=10**15))
    check_room(tmp_path, 2_000_000)
    with pytest.raises(OSError, match=r"^no room in .*: 5,001 MB are needed, 2 MB are free$"):
        check_room(tmp_path, 5_001_000_000)
    with pytest.raises(OSError, match="no room"):
        check_room(tmp_path, 2_000_001)


def test_a_path_is_named_from_a_folder_above_it():
    assert seen_from(Path("/a"), Path("/a/b/c")) == Path("b/c")
    assert seen_from(Path("/a"), Path("/ab/c")) == Path("/ab/c")
    assert seen_from(Path("/a/b"), Path("/a")) == Path("/a")


def test_a_lock_is_of_one_process_until_it_is_closed(tmp_path, monkeypatch, caplog):
    first, second = open_to_lock(tmp_path / "x"), open_to_lock(tmp_path / "x")
    assert fcntl.fcntl(first, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR  # NFS locks nothing else
    assert take_lock(first) is True
    assert take_lock(second) is False
    os.close(first)
    assert take_lock(second) is True
    os.close(second)
    with pytest.raises(IsADirectoryError):
        open_to_lock(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    opened = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match=r"it is no regular file: '.*pipe'") as caught:
        open_to_lock(tmp_path / "pipe")
    assert len(os.listdir("/dev/fd")) == opened
    assert caught.value.errno == errno.EINVAL
    end = os.open(tmp_path / "pipe", os.O_RDWR)  # of a pipe with both ends a lock could be taken
    with pytest.raises(OSError, match="it is no regular file"):
        open_to_lock(tmp_path / "pipe")
    os.close(end)
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(OSError, match="symbolic link"):
        open_to_lock(tmp_path / "link")
    monkeypatch.setattr("bvae.files.fcntl", None)
    assert take_lock(0) is None


def test_a_lock_that_may_only_be_read_is_taken_too(tmp_path, monkeypatch):
    opened, modes = os.open, []

    def refusing(path, flags, mode=0o777):
        modes.append(mode)
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    before = os.umask(0)
    try:
        descriptor = open_to_lock(tmp_path / "x")
    finally:
        os.umask(before)
    assert take_lock(descriptor) is True
    os.close(descriptor)
    assert modes == [0o666] * 2  # of all users, as far as their umask lets them
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666


def test_what_is_locked_is_one_files_and_its_leftovers_go_only_where_there_are_locks(tmp_path, monkeypatch):
    leftover = tmp_path / "new" / "er" / ".x.host.1.partial"
    with locked(tmp_path / "new" / "er" / "x"):
        assert (tmp_path / "new" / "er" / "x.lock").is_file()
        leftover.touch()
        with locked(tmp_path / "new" / "er" / "y"):
            assert leftover.exists()
        held = open_to_lock(tmp_path / "new" / "er" / "x.lock")
        assert take_lock(held) is False
        os.close(held)
    held = open_to_lock(tmp_path / "new" / "er" / "x.lock")
    assert take_lock(held) is True  # it is free again
    os.close(held)
    with monkeypatch.context() as patched:
        patched.setattr("bvae.files.fcntl", None)
        with locked(tmp_path / "new" / "er" / "x"):
            assert leftover.exists()  # perhaps another process is writing it
    with locked(tmp_path / "new" / "er" / "x"):
        assert not leftover.exists()
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"^can't write .*file/x: .*; choose a folder with data\.cache_dir=…$"),
        locked(tmp_path / "file" / "x"),
    ):
        pass


LEFT = {
    "": "metrics.csv scores.json wandb.json job.json hparams.yaml report.html explorer.html latents.csv codes.npz",
    ".": "units.json reconstructions.png traversals.png traversals.gif hpc_ckpt_1.ckpt",
    "checkpoints": "last.ckpt step-6.ckpt resume-step-6.ckpt",
    ".hydra": "config.yaml hydra.yaml overrides.yaml",
    "traversals": "unit_0.gif unit_12.gif",
    "tensorboard": "events.out.tfevents.1",
}
KEPT = ["mine.txt", "checkpoints/mine.txt", "checkpoints/deeper/a.ckpt", "traversals/mine.gif", "train.log"]


def test_to_overwrite_a_run_removes_every_file_that_a_run_leaves_and_no_other(tmp_path):
    left = [f"{folder or '.'}/{name}" for folder, names in LEFT.items() for name in names.split()]
    for name in (*left, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(KEPT)


def test_while_a_checkpoint_cant_be_written_none_is_removed_and_it_is_said_once(tmp_path, monkeypatch, caplog):
    checkpoints = AtomicCheckpointIO([tmp_path])
    checkpoints.save_checkpoint({"global_step": 1}, tmp_path / "a.ckpt")
    assert checkpoints.error is None
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with caplog.at_level(logging.ERROR):
        monkeypatch.setattr(os, "fsync", full)
        for name in ("b.ckpt", "c.ckpt"):
            checkpoints.save_checkpoint({"global_step": 2}, tmp_path / name)
            checkpoints.remove_checkpoint(tmp_path / "a.ckpt")  # as Lightning does once the newer one is there
        assert caplog.messages == [
            f"can't write {tmp_path / 'b.ckpt'}: No space left on device; the training continues without it"
        ]
        assert str(checkpoints.error) == f"can't write {tmp_path / 'c.ckpt'}: No space left on device"
        assert disk_is_full(checkpoints.error)
        assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
        monkeypatch.setattr(os, "fsync", fsync)
        checkpoints.save_checkpoint({"global_step": 3}, str(tmp_path / "d.ckpt"))
        assert checkpoints.error is None
        checkpoints.remove_checkpoint(str(tmp_path / "a.ckpt"))
        assert [path.name for path in tmp_path.iterdir()] == ["d.ckpt"]
        monkeypatch.setattr(os, "fsync", full)
        checkpoints.save_checkpoint({"global_step": 4}, tmp_path / "e.ckpt")
        assert len(caplog.messages) == 2  # once again, as it was written in between
    assert checkpoints.load_checkpoint(tmp_path / "d.ckpt") == {"global_step": 3}
    tensor = {"x": torch.ones(2)}
    monkeypatch.setattr(os, "fsync", fsync)
    checkpoints.save_checkpoint(tensor, tmp_path / "f.ckpt")
    assert checkpoints.load_checkpoint(tmp_path / "f.ckpt", map_location="meta")["x"].is_meta
