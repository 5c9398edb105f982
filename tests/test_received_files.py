"""Single files that somebody else hands over: HDF5 that points elsewhere, bombs, pipes, damage."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

import bvae.evaluation.codes
from bvae import load
from bvae.checkpoints.files import newest, read_file
from bvae.data import ArrayFile, FolderImages, Shapes3D, arrays, cache
from bvae.data.dsprites import Archive, ScreamDSprites
from bvae.data.pictures import Room
from bvae.evaluation import read_codes, scores
from bvae.files import atomic_write, locked
from bvae.received import check_links, check_regular, read_json, read_yaml
from bvae.report import title_of
from bvae.runs import job as jobs
from bvae.terminal import console, shown

EVIL = "\x1b]52;c;eA==\x07\x1b[2J\u202e[red]\r\n:smile:"
SHOWN = r"\x1b]52;c;eA==\x07\x1b[2J\u202e[red]\r\n:smile:"


# HDF5.


@pytest.fixture
def secret(tmp_path) -> Path:
    """Bytes that an HDF5 file could make pictures of, and such a file itself."""
    (tmp_path / "secret").write_bytes(bytes(range(256)) * 48)
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["images"] = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
        file["labels"] = np.zeros((3, 6))
    return tmp_path / "secret"


def pointing(kind: str, path: Path, key: str, secret: Path) -> None:
    """Write a file whose dataset has its data elsewhere."""
    with h5py.File(path, "w") as file:
        group = file.require_group(key.rpartition("/")[0] or "/")
        name = key.rpartition("/")[2]
        theirs = secret.with_name("theirs.h5")
        if kind == "external storage":
            group.create_dataset(name, (3, 64, 64), np.uint8, external=[(str(secret), 0, 3 * 64 * 64)])
        elif kind == "external link":
            group[name] = h5py.ExternalLink(str(theirs), "images")
        elif kind == "link to an external link":
            group["far"] = h5py.ExternalLink(str(theirs), "/")
            group[name] = h5py.SoftLink(f"{group.name.rstrip('/')}/far/images")
        else:
            virtual = h5py.VirtualLayout((3, 64, 64), np.uint8)
            virtual[:] = h5py.VirtualSource(str(theirs), "images", (3, 64, 64))
            group.create_virtual_dataset(name, virtual)


@pytest.mark.parametrize("kind", ["external storage", "external link", "link to an external link", "virtual dataset"])
def test_hdf5_takes_nothing_from_other_files(kind, secret, tmp_path):
    path = tmp_path / "received.h5"
    said = r"(takes its data from other files|is a link to elsewhere)"
    pointing(kind, path, "images", secret)
    with pytest.raises(ValueError, match=said):
        ArrayFile(str(path))
    with pytest.raises(ValueError, match=said):
        list(Shapes3D(str(path)).make(tmp_path)[1])
    with pytest.raises(ValueError, match=said), arrays.opened(path, "images"):
        pass
    assert not cache.is_intact(path, (64, 64), None, np.uint8)
    with pytest.raises(ValueError, match=said):
        cache.open_images(path)
    for key in ("imgs", "latents/classes"):
        pointing(kind, path, key, secret)
        with pytest.raises(ValueError, match=rf"({said}|the key 'latents/classes' is missing)"):
            next(Archive(str(path)).blocks(tmp_path))


def test_a_group_that_is_a_link_is_not_gone_through(secret, tmp_path):
    with h5py.File(tmp_path / "classes.h5", "w") as file:
        file["classes"] = np.zeros((3, 6), np.int64)
    with h5py.File(tmp_path / "received.h5", "w") as file:
        file["latents"] = h5py.ExternalLink("classes.h5", "/")
    with (
        pytest.raises(ValueError, match="is a link to elsewhere"),
        arrays.opened(tmp_path / "received.h5", "latents/classes"),
    ):
        pass


# Pipes, links, bombs.


def test_only_regular_files_are_opened(tmp_path):
    for name in ("a.ckpt", "x.png", "codes.npz", "images.h5", "background.png"):
        os.mkfifo(tmp_path / name)
    Image.new("L", (64, 64)).save(tmp_path / "y.png")
    end = threading.Timer(60, os._exit, (1,))  # what blocks on a pipe can't be interrupted
    end.start()
    with pytest.raises(ValueError, match="no regular file"):
        check_regular(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="has no checkpoint"):
        newest(tmp_path)
    for function in (read_file, read_codes, check_regular):
        with pytest.raises(ValueError, match="no regular file"):
            function(tmp_path / "codes.npz")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load(tmp_path / "a.ckpt")
    with pytest.raises(FileNotFoundError):
        ArrayFile(str(tmp_path / "images.h5"))
    images = FolderImages(str(tmp_path))
    images.prepare(tmp_path / "cache")
    images.load(tmp_path / "cache")
    assert len(images) == 1
    end.cancel()


def test_links_that_lead_out_are_found_however_they_do(tmp_path):
    inside = tmp_path / "run"
    inside.mkdir()
    (inside / "kept").write_text("")
    (inside / "in").symlink_to("kept")
    check_links(inside)
    check_links(inside, ["*"])
    for name, target in (("out", tmp_path), ("up", "../x"), ("gone", "/nowhere/at/all"), ("loop", "loop")):
        (inside / name).symlink_to(target)
        with pytest.raises(ValueError, match=f"{name} is a link that leads out of"):
            check_links(inside, [name])
        with pytest.raises(ValueError, match="is a link that leads out of"):
            check_links(tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    check_links(tmp_path / "latest", ["kept", "in"])  # the folder itself may be named by a link


@pytest.mark.parametrize("what", ["link", "pipe"])
@pytest.mark.parametrize(
    "name",
    [
        *(".lock", "train.log", "codes.npz", "hparams.yaml", "metrics.csv", "job.json", "wandb.json", "scores.json"),
        *("report.html", "explorer.html", "latents.csv", "reconstructions.png", "traversals.png", "traversals.gif"),
        "units.json",
        *("checkpoints", ".hydra", "traversals", "tensorboard", "hpc_ckpt_1.ckpt", "multirun.yaml", "sweep.csv"),
        *("checkpoints/last.ckpt", ".hydra/config.yaml", "traversals/unit_0.gif", "tensorboard/events.out.1"),
    ],
)
def test_whatever_is_written_into_a_run_is_looked_at_first(name, what, tmp_path):
    place = tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    jobs.check_folder(tmp_path / "run")
    if what == "link":
        place.symlink_to(tmp_path / "nowhere" if place.suffix else tmp_path)
    else:
        os.mkfifo(place)
    with pytest.raises(ValueError, match=rf"{place.name} is (a link that leads out of|no regular file)"):
        jobs.check_folder(tmp_path / "run")


def test_a_write_replaces_a_link_and_a_lock_follows_none(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "ours").symlink_to("theirs")
    with atomic_write(tmp_path / "ours") as partial:
        partial.write_text("ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "ours").read_text() == "ours"
    (tmp_path / ".lock").symlink_to("theirs")
    with pytest.raises(OSError, match="symbolic links"), jobs.alone_in(tmp_path):
        pass
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_planted_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    with atomic_write(tmp_path / "ours") as partial:
        partial.write_text("ours")
        name = partial.name
    (tmp_path / name).symlink_to("theirs")
    with atomic_write(tmp_path / "ours") as partial:
        partial.write_text("ours")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: [*a, *a]",
        "[" * 100_000,
        "!!python/object/apply:os.system [touch ran]",
        "a: [",
        "a: \x00",
        '!!int ""',
        "!!bool foo",
        "!!timestamp xx",
    ],
)
def test_yaml_is_plain_and_bounded(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.yaml is damaged: .+"):
        read_yaml(path)
    assert not Path("ran").exists()


def test_yaml_and_json_of_ours_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1.0e-05\nb: '1e-5'\nc: 1e-5\nd: 2026-01-31\ne: null\nf: [true, 'yes']\n")
    found = {"a": 1e-5, "b": "1e-5", "c": 1e-5, "d": "2026-01-31", "e": None, "f": [True, "yes"]}
    assert read_yaml(path) == found
    for text in ("[1]", "{", "[" * 100_000, "\ud800"):
        path.write_text(text, errors="surrogatepass")
        with pytest.raises(ValueError, match=r"x\.yaml is damaged: .+"):
            read_json(path)


def test_pictures_are_decoded_as_many_at_once_as_there_is_room_for():
    room, at_once, most, large = Room(100), [], [], set()

    def decode(picture: SimpleNamespace) -> None:
        if picture.width > 100:
            large.add(threading.get_ident())
            time.sleep(0.002)
            return
        at_once.append(picture.width)
        most.append(sum(at_once))
        time.sleep(0.005)
        at_once.remove(picture.width)

    def read(pixels: int) -> None:
        room.decode(SimpleNamespace(width=pixels, height=1), decode)

    threads = [threading.Thread(target=read, args=(n,)) for n in (30, 250, 40, 60, 250, 10, 90) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 15
    assert 30 < max(most) <= 100
    assert len(large) == 1  # one thread, for all of them


def test_only_the_arrays_that_are_used_are_read(tmp_path):
    path = tmp_path / "codes.npz"
    used = {"codes": np.eye(4, 3), "factors": np.arange(4)[:, None], "kl": np.ones(3)}
    np.savez(path, **used, objects=np.array([{}], dtype=object), more=np.zeros(1_000_000))
    codes, _ = read_codes(path)
    assert codes.mean.shape == (4, 3)
    np.savez(path, **{**used, "codes": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match=r"can't be read as an \.npz of plain arrays"):
        read_codes(path)


def test_an_intact_cache_that_there_is_no_memory_for_is_not_damaged(tmp_path):
    program = f"""if True:
        import resource, sys
        import numpy as np
        from pathlib import Path
        from bvae.data import cache
        path = Path({str(tmp_path)!r}) / "cache.h5"
        images = np.zeros((4096, 64, 1024), np.uint8)
        cache.prepare(path, (64, 1024), {{}}, lambda: (4096, [images]))
        del images
        made = path.stat().st_mtime_ns
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, -1))
        try:
            cache.prepare(path, (64, 1024), {{}}, lambda: sys.exit("made again"))
        except OSError as error:
            print(error, path.stat().st_mtime_ns == made)
    """
    job = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert job.stdout.strip().endswith("cache.h5: raise the limit of `ulimit -v` True"), job.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    program = f"""if True:
        import os, pathlib
        from bvae.files import atomic_write, locked
        path = pathlib.Path({str(tmp_path)!r}, "cache.h5")
        with locked(path), atomic_write(path) as partial:
            partial.write_bytes(b"x")
            os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", program], timeout=60)
    assert len(list(tmp_path.glob(".*"))) == 1
    (tmp_path / ".other.h5.host.1.partial").touch()
    with locked(tmp_path / "cache.h5"):
        assert [path.name for path in tmp_path.glob(".*")] == [".other.h5.host.1.partial"]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.host.1.partial").touch()
    with jobs.alone_in(tmp_path):
        assert [path.name for path in tmp_path.rglob(".*")] == [".lock"]


def test_a_picture_that_another_program_would_draw_is_not_opened(tmp_path, monkeypatch):
    """Pillow goes by a file's content, and has Ghostscript draw EPS."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
    monkeypatch.setattr(EpsImagePlugin, "has_ghostscript", lambda: True)
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.format == "EPS"
    with pytest.raises(ValueError, match=r"none of 1 pictures can be read, first x\.png \(cannot identify"):
        FolderImages(str(tmp_path)).prepare(tmp_path / "cache")
    with pytest.raises(ValueError, match="can't be read as a picture"):
        ScreamDSprites(background=str(tmp_path / "x.png"))


def test_what_unpacks_to_more_than_memory_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((4, 64, 64), np.uint8)
        file.create_dataset("factors", (4, 10**10), np.int64, chunks=(1, 10**6), compression="gzip")
        file.create_dataset("names", (10**9,), h5py.string_dtype(), chunks=(10**6,), compression="gzip")
    assert path.stat().st_size < 100_000
    images = ArrayFile(str(path))
    images.prepare(tmp_path)
    with pytest.raises(ValueError, match=r"an array of shape .* and 320,000,000,000 bytes isn't read whole"):
        images.load(tmp_path)
    with pytest.raises(ValueError, match="holds 1,000,000,000 texts"), arrays.opened(path, "names"):
        pass
    np.savez_compressed(tmp_path / "bomb.npz", codes=np.zeros((1000, 4)), factors=np.zeros((1000, 1)))
    read_codes(tmp_path / "bomb.npz")
    monkeypatch.setattr(bvae.evaluation.codes, "_MOST", 10_000)
    with pytest.raises(ValueError, match=r"can't be read as an \.npz of plain arrays") as refused:
        read_codes(tmp_path / "bomb.npz")
    assert "'codes' has 32,128 bytes, more than is read" in str(refused.value.__cause__)


# The terminal.


def test_what_is_shown_can_be_read_and_obeys_nothing(capsys):
    assert shown(EVIL) == SHOWN
    assert shown("\ud800") == r"\ud800"
    assert shown("β = 4,\tposX") == r"β = 4,\tposX"
    assert shown("two\nlines", keep="\n") == "two\nlines"
    console(width=200).print(EVIL, "[bold]plain[/]", "[/]")
    written = capsys.readouterr().out
    assert "\x1b" not in written
    assert "[red]" in written
    assert "[bold]plain[/] [/]" in written


def test_names_of_factors_scores_and_jobs_are_shown(tmp_path):
    np.savez(tmp_path / "x.npz", codes=np.eye(4, 3), factors=np.arange(4)[:, None], factor_names=[EVIL])
    assert read_codes(tmp_path / "x.npz")[1] == [SHOWN]
    np.savez(tmp_path / "y.npz", images=np.zeros((2, 64, 64), np.uint8), factors=[0, 1], factor_names=[EVIL])
    images = ArrayFile(str(tmp_path / "y.npz"))
    images.prepare(tmp_path)
    images.load(tmp_path)
    assert images.factors.names == (SHOWN,)
    fields = {"value": 1, "protocol": EVIL, "n": 1, "seed": None, "seconds": 0}
    (tmp_path / "scores.json").write_text(json.dumps({EVIL: fields}))
    (score,) = scores.read_json(tmp_path / "scores.json")
    assert (score.name, score.protocol) == (SHOWN, SHOWN)
    (tmp_path / "job.json").write_text(json.dumps({"overrides": [EVIL], "status": EVIL, "error": EVIL}))
    job = jobs.read(tmp_path)
    assert (job.overrides, job.status, job.error) == ((SHOWN,), SHOWN, SHOWN)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(json.dumps([EVIL]))
    assert title_of(tmp_path) == SHOWN
