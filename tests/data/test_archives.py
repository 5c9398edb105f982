from __future__ import annotations

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from bvae.data import DSpritesDataModule, arrays, cache
from bvae.data.dsprites import archives
from bvae.data.dsprites.render import FACTORS, NUM_IMAGES, pack, render

SHAPE = (NUM_IMAGES, 64, 64)


def export(path: Path) -> Path:
    """Write an archive by the command."""
    command = [sys.executable, "-m", "bvae.data", "export", str(path)]
    job = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert job.returncode == 0, job.stderr
    assert f"Wrote {path}" in job.stdout
    return path


@pytest.fixture(scope="module")
def npz(shared) -> Path:
    return shared("archives", lambda folder: export(folder / "dsprites.npz")) / "dsprites.npz"


def check_images(path: Path, folder: Path, cache_dir: Path) -> None:
    data = DSpritesDataModule(source="file", path=str(path), cache_dir=str(folder))
    data.prepare_data()
    rendered = cache.open_images(cache_dir / "dsprites-render.h5")
    assert np.array_equal(cache.open_images(data.cache_file), rendered)
    with h5py.File(data.cache_file) as file:
        assert file.attrs["source"] == str(path)


def test_an_npz_reads_back_as_the_rendered_set(npz, cache_dir, tmp_path):
    check_images(npz, tmp_path, cache_dir)


@pytest.mark.slow
def test_an_hdf5_reads_back_as_the_rendered_set(cache_dir, tmp_path):
    check_images(export(tmp_path / "dsprites.hdf5"), tmp_path, cache_dir)


@pytest.mark.parametrize("suffix", ["npz", "hdf5", "h5"])
def test_a_few_images_are_written_and_read_in_order(suffix, tmp_path, monkeypatch):
    few = 2_500  # in blocks that a file's chunks don't divide
    images = render(*FACTORS.classes_of(np.arange(few)).T)
    packed = pack(images)
    monkeypatch.setattr(archives, "IMAGES_SHAPE", (few, 64, 64))
    monkeypatch.setattr(archives, "render_all", lambda: iter(np.split(packed, [1_000, 1_300])))
    path = tmp_path / f"few.{suffix}"
    archives.write(path)
    assert np.array_equal(np.concatenate(list(archives.read(path))), packed)
    with arrays.opened(path, "imgs") as stored:
        assert np.array_equal(np.concatenate(list(stored.blocks)), images)


def test_other_libraries_find_the_official_npz(npz):
    with np.load(npz, allow_pickle=True, encoding="latin1") as archive:
        assert sorted(archive) == ["imgs", "latents_classes", "latents_values", "metadata"]
        metadata = archive["metadata"][()]
        assert list(metadata["latents_sizes"]) == [1, 3, 6, 40, 32, 32]
        assert metadata["latents_names"] == ("color", "shape", "scale", "orientation", "posX", "posY")
        classes, values = archive["latents_classes"], archive["latents_values"]
    assert classes.dtype == np.int64
    assert values.dtype == np.float64
    assert classes[-1].tolist() == [0, 2, 5, 39, 31, 31]
    assert values[-1].tolist() == [1, 3, 1, 2 * np.pi, 1, 1]
    assert values[0].tolist() == [1, 1, 0.5, 0, 0, 0]
    with zipfile.ZipFile(npz) as archive:  # some 30 MB, which would be 3 GB
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}


@pytest.mark.parametrize("encoding", ["bytes", "latin1", "ASCII"])
def test_the_metadata_is_read_as_the_official_ones_which_python_2_pickled(encoding):
    file = BytesIO(archives._metadata())
    metadata = np.lib.format.read_array(file, allow_pickle=True, pickle_kwargs={"encoding": encoding})[()]
    as_read = (lambda text: text.encode()) if encoding == "bytes" else str
    keys = "author date description latents_names latents_possible_values latents_sizes title version"
    assert sorted(metadata) == [as_read(key) for key in keys.split()]
    assert metadata[as_read("title")] == as_read("dSprites dataset")
    assert metadata[as_read("latents_sizes")].tolist() == [1, 3, 6, 40, 32, 32]
    values = metadata[as_read("latents_possible_values")]
    assert tuple(values) == metadata[as_read("latents_names")]
    assert values[as_read("scale")].tolist() == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [len(value) for value in values.values()] == [1, 3, 6, 40, 32, 32]


def test_other_libraries_find_the_official_hdf5(tmp_path, monkeypatch):
    first = pack(render(*FACTORS.classes_of(np.arange(1_001)).T))
    monkeypatch.setattr(archives, "render_all", lambda: iter([first]))
    archives.write(tmp_path / "dsprites.hdf5")
    with h5py.File(tmp_path / "dsprites.hdf5") as archive:
        assert archive["imgs"].shape == SHAPE
        assert archive["imgs"].dtype == np.uint8
        assert archive["imgs"].compression == "gzip"
        assert archive["latents/values"].shape == archive["latents/classes"].shape == (NUM_IMAGES, 6)
        assert np.array_equal(archive["imgs"][1_000], render(*FACTORS.classes_of(1_000))[0])
        assert archive["latents/classes"][-1].tolist() == [0, 2, 5, 39, 31, 31]
        assert archive["latents/values"][-1].tolist() == [1, 3, 1, 2 * np.pi, 1, 1]


def sparse_hdf5(path: Path, shape=SHAPE, dtype=np.uint8, classes=None) -> Path:
    """An archive of black images that takes no time to write."""
    with h5py.File(path, "w") as archive:
        archive.create_dataset("imgs", shape, dtype, chunks=(1024, 64, 64), compression="gzip")
        archive["latents/classes"] = archives._latent_classes() if classes is None else classes
    return path


def truncated(path: Path, source: Path) -> Path:
    path.write_bytes(source.read_bytes()[:2_000_000])
    return path


def small_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def damaged_npz(path: Path, source: Path) -> Path:
    with zipfile.ZipFile(source) as archive:
        start = archive.getinfo("imgs.npy").header_offset
    data = bytearray(source.read_bytes())
    data[start + 10_000 : start + 10_100] = b"\xff" * 100
    path.write_bytes(data)
    return path


def not_binary(path: Path) -> Path:
    with h5py.File(sparse_hdf5(path), "r+") as archive:
        archive["imgs"][1000, 3, 3] = 255
    return path


CLASSES = np.zeros((4, 6), dtype=np.int64)
BAD = {
    "missing": (lambda folder, _: folder / "none.npz", "there is no file"),
    "foreign": (lambda folder, _: (folder / "x.png", (folder / "x.png").touch())[0], r"ends in \.npz, \.hdf5, \.h5"),
    "no zip": (lambda folder, _: (folder / "x.npz", (folder / "x.npz").write_text("hello"))[0], "damaged or no .npz"),
    "truncated npz": (lambda folder, good: truncated(folder / "x.npz", good), "is damaged or no .npz archive"),
    "damaged npz": (lambda folder, good: damaged_npz(folder / "x.npz", good), "is damaged or no .npz archive"),
    "truncated hdf5": (
        lambda folder, _: truncated(folder / "x.hdf5", sparse_hdf5(folder / "whole.hdf5")),
        "is damaged or no .hdf5",
    ),
    "no key": (lambda folder, _: small_npz(folder / "x.npz", a=CLASSES), "the key 'latents_classes' is missing"),
    "no images": (lambda folder, _: small_npz(folder / "x.npz", latents_classes=CLASSES), "the key 'imgs' is missing"),
    "pickled": (
        lambda folder, _: small_npz(folder / "x.npz", latents_classes=np.array([{}], dtype=object)),
        "'latents_classes' must be a plain array",
    ),
    "shape": (
        lambda folder, _: small_npz(folder / "x.npz", latents_classes=CLASSES, imgs=np.zeros((4, 64, 64), np.uint8)),
        r"must be uint8 of shape \(737280, 64, 64\), got uint8 \(4, 64, 64\)",
    ),
    "dtype": (lambda folder, _: sparse_hdf5(folder / "x.h5", dtype=np.float32), "must be uint8 .* got float32"),
    "order": (
        lambda folder, _: sparse_hdf5(folder / "x.h5", classes=CLASSES),
        "not the full grid",
    ),
    "not binary": (lambda folder, _: not_binary(folder / "x.h5"), "is not binary: 'imgs' holds 255"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_ends_in_one_sentence_and_leaves_no_cache(case, npz, tmp_path):
    make, message = BAD[case]
    path = make(tmp_path, npz)
    before = set(tmp_path.iterdir())

    def prepare():
        DSpritesDataModule(source="file", path=str(path), cache_dir=str(tmp_path)).prepare_data()

    with pytest.raises((ValueError, OSError), match=message) as caught:
        prepare()
    assert "\n" not in str(caught.value)
    assert {p for p in tmp_path.iterdir() if p.suffix != ".lock"} == before


def test_export_refuses_other_layouts(tmp_path):
    command = [sys.executable, "-m", "bvae.data", "export", str(tmp_path / "x.zip")]
    job = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert job.returncode == 1
    assert job.stderr.startswith("bvae.data: an archive ends in .npz, .hdf5, .h5")
    assert len(job.stderr.splitlines()) == 1
