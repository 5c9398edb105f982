"""The datasets that are read from their makers' files, of which these tests write small ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import official_files as files
import pytest

from bvae.data import MPI3D, CachedImages, Cars3D, FactorGrid, Shapes3D, SmallNORB
from bvae.data.__main__ import main


def loaded(images: CachedImages, folder: Path) -> CachedImages:
    images.prepare(folder)
    images.load(folder)
    return images


def decoded(images: CachedImages) -> np.ndarray:
    """All images (N, C, H, W), as they are served, in bytes."""
    batch, _ = images[np.arange(len(images))]
    return (images.decode(batch) * 255).round().byte().numpy()


def classes(images: CachedImages) -> list[list[int]]:
    return images[np.arange(len(images))][1].tolist()


def test_shapes3d_is_a_grid_whose_sizes_are_read_off_the_labels(tmp_path):
    images = loaded(Shapes3D(str(files.shapes3d(tmp_path / "3dshapes.h5"))), tmp_path)
    assert isinstance(images.factors, FactorGrid)
    assert images.factors.sizes == files.SHAPES3D_SIZES
    assert images.factors.names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert np.array_equal(decoded(images), files.noise(144).transpose(0, 3, 1, 2))
    assert classes(images)[:4] == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 1, 0]]
    worker = pickle.loads(pickle.dumps(images))
    assert np.array_equal(decoded(worker), decoded(images))


def test_an_excerpt_of_shapes3d_keeps_each_images_classes(tmp_path):
    order = np.random.default_rng(1).permutation(144)[:100]
    path = files.shapes3d(tmp_path / "3dshapes.h5", files.noise(144)[order], files.shapes3d_labels()[order])
    images = loaded(Shapes3D(str(path)), tmp_path)
    assert not isinstance(images.factors, FactorGrid)
    assert images.factors.sizes == files.SHAPES3D_SIZES
    assert classes(images) == FactorGrid(images.factors.names, files.SHAPES3D_SIZES).classes_of(order).tolist()
    assert np.array_equal(decoded(images)[5], files.noise(144)[order[5]].transpose(2, 0, 1))


def test_mpi3d_is_known_by_its_number_of_images_or_the_sizes_given(tmp_path):
    path = str(files.mpi3d(tmp_path / "mpi3d_toy.npz"))
    images = loaded(MPI3D(path, files.MPI3D_SIZES), tmp_path)
    assert images.factors.sizes == files.MPI3D_SIZES
    assert np.array_equal(decoded(images), files.noise(144).transpose(0, 3, 1, 2))
    assert classes(images)[13] == [0, 0, 1, 0, 0, 0, 1]
    for sizes, said in (
        (None, r"144 images, not 1,036,800 or 460,800; data\.factor_sizes=\[…\] names"),
        ((1, 1, 1, 1, 1, 1, 2), r"144 images, not 2; data\.factor_sizes"),  # the cache is there already
    ):
        with pytest.raises(ValueError, match=said):
            loaded(MPI3D(path, sizes), tmp_path)
    for sizes, said in (((6, 6), "must be 7 integers, of object_color"), ((0, 1, 1, 1, 1, 1, 1), "1 or more, got 0")):
        with pytest.raises(ValueError, match=said):
            MPI3D(path, sizes)
    assert (MPI3D._grid_of(MPI3D(path), 460_800).sizes, MPI3D._grid_of(MPI3D(path), 1_036_800).sizes) == (
        (4, 4, 2, 3, 3, 40, 40),
        (6, 6, 2, 3, 3, 40, 40),
    )


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_cars3d_goes_by_elevation_azimuth_and_car_in_the_order_of_their_names(tmp_path, kind):
    path = tmp_path / "cars"
    if kind == "archive":
        path = files.cars3d(tmp_path / "nips2015-analogy-data.tar.gz")
    else:
        path.mkdir()
        for name, data in files.cars().items():
            (path / name).write_bytes(data)
    images = loaded(Cars3D(str(path)), tmp_path)
    assert images.factors.sizes == (4, 24, 3)
    found = decoded(images)
    assert found.shape == (288, 3, 64, 64)
    expected = [[20 * (1, 2, 10)[car], 10 * azimuth, 60 * elevation] for elevation, azimuth, car in classes(images)]
    assert np.array_equal(found, np.broadcast_to(np.array(expected)[:, :, None, None], found.shape))


@pytest.mark.parametrize("compressed", [False, True])
def test_smallnorb_is_sorted_into_a_grid(tmp_path, compressed):
    images = loaded(SmallNORB(str(files.smallnorb(tmp_path / "norb", compressed))), tmp_path)
    assert isinstance(images.factors, FactorGrid)
    assert images.factors.sizes == (5, 3, 2, 2, 3)
    values = [(0, 1, 2, 3, 4), (0, 4, 6), (0, 8), (0, 17), (0, 1, 5)]
    real = np.array([[values[k][column] for k, column in enumerate(row)] for row in classes(images)])
    found = decoded(images)
    assert np.array_equal(found, np.broadcast_to(files.grey(real)[:, None, None, None], (180, 1, 64, 64)))


def test_a_part_of_smallnorb_keeps_each_images_classes(tmp_path):
    images = loaded(SmallNORB(str(files.smallnorb(tmp_path / "norb", leave_out=7))), tmp_path)
    assert not isinstance(images.factors, FactorGrid)
    assert len(images) == 166
    values = [(0, 1, 2, 3, 4), (0, 4, 6), (0, 8), (0, 17), (0, 1, 5)]
    real = np.array([[values[k][column] for k, column in enumerate(row)] for row in classes(images)])
    assert np.array_equal(decoded(images)[:, 0, 5, 5], files.grey(real))
    assert images.factors.value_names["category"] == ("animal", "human", "airplane", "truck", "car")


def test_a_second_use_reads_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("bvae.data.cars3d.loadmat", lambda *_, **__: pytest.fail("the archive was read again"))
    path = files.cars3d(tmp_path / "cars.tar.gz")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        loaded(Cars3D(str(path)), tmp_path)
    monkeypatch.undo()
    first = decoded(loaded(Cars3D(str(path)), tmp_path))
    monkeypatch.setattr("bvae.data.cars3d.loadmat", lambda *_, **__: pytest.fail("the archive was read again"))
    assert np.array_equal(decoded(loaded(Cars3D(str(path)), tmp_path)), first)


def cut(path: Path, to: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(to * path.stat().st_size)])
    return path


def changed(folder: Path, name: str, data: bytes) -> Path:
    (next(folder.glob(f"*{name}"))).write_bytes(data)
    return folder


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def cars_of(folder: Path, data: bytes) -> Path:
    return files.archive(folder / "x.tar.gz", {"data/cars/car_001_mesh.mat": data})


V73 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
PICTURES = files.noise(4)
BAD = {
    "no file": (Shapes3D, lambda f: f / "x.h5", "no file .*x.h5; data=shapes3d needs the file 3dshapes.h5 from https"),
    "a folder": (Shapes3D, lambda f: f, "is a folder; data=shapes3d needs the file 3dshapes.h5"),
    "suffix": (Shapes3D, lambda f: (f / "x.txt", (f / "x.txt").touch())[0], "files that end in .npz, .npy, .h5"),
    "no hdf5": (Shapes3D, lambda f: (f / "x.h5", (f / "x.h5").write_text("hello"))[0], "is damaged or no .h5 archive"),
    "truncated": (Shapes3D, lambda f: cut(files.shapes3d(f / "x.h5")), "is damaged or no .h5 archive"),
    "no labels": (
        Shapes3D,
        lambda f: saved(f / "x.npz", images=PICTURES),
        "the key 'labels' is missing, it has images",
    ),
    "labels": (
        Shapes3D,
        lambda f: files.shapes3d(f / "x.h5", PICTURES, np.zeros((4, 5))),
        r"'labels' must be numbers of shape \(N, 6\), got float64 \(4, 5\)",
    ),
    "few labels": (Shapes3D, lambda f: files.shapes3d(f / "x.h5", PICTURES, np.zeros((3, 6))), "are 4, 'labels' 3"),
    "no number": (
        Shapes3D,
        lambda f: files.shapes3d(f / "x.h5", PICTURES, np.full((4, 6), np.nan)),
        "must be finite numbers",
    ),
    "shape": (
        Shapes3D,
        lambda f: files.shapes3d(f / "x.h5", PICTURES[..., :1], np.zeros((4, 6))),
        r"'images' must be uint8 of shape \(N, 64, 64, 3\), got uint8 \(4, 64, 64, 1\)",
    ),
    "empty": (MPI3D, lambda f: saved(f / "x.npz", images=PICTURES[:0]), r"must be uint8 .* got uint8 \(0, 64, 64, 3\)"),
    "dtype": (MPI3D, lambda f: files.mpi3d(f / "x.npz", PICTURES / 255), "must be uint8 .* got float64"),
    "key": (MPI3D, lambda f: saved(f / "x.npz", imgs=PICTURES), "the key 'images' is missing, it has imgs"),
    "pickled": (MPI3D, lambda f: saved(f / "x.npz", images=np.array([{}])), "'images' must be a plain array"),
    "fortran": (MPI3D, lambda f: saved(f / "x.npz", images=np.asfortranarray(PICTURES)), "a plain array in C order"),
    "truncated npz": (MPI3D, lambda f: cut(files.mpi3d(f / "x.npz")), "is damaged or no .npz archive"),
    "no tar": (Cars3D, lambda f: (f / "x.tar.gz", (f / "x.tar.gz").write_text("hello"))[0], "damaged or no .tar.gz"),
    "truncated tar": (Cars3D, lambda f: cut(files.cars3d(f / "x.tar.gz")), "x.tar.gz is damaged or no .tar.gz"),
    "no cars": (Cars3D, lambda f: files.archive(f / "x.tar.gz", {"a.mat": b""}), "holds no cars/.*needs nips2015-an"),
    "no mat": (Cars3D, lambda f: f, "holds no .mat files; data=cars3d needs nips2015-analogy-data.tar.gz, or a folder"),
    "foreign mat": (Cars3D, lambda f: cars_of(f, b"hello"), "car_001_mesh.mat is damaged or no MAT-file of MATLAB 5"),
    "new mat": (Cars3D, lambda f: cars_of(f, V73), "no MAT-file of MATLAB 5: .*v7.3"),
    "mat's key": (Cars3D, lambda f: cars_of(f, files.mat(files.car(1), "x")), r"'im' must be uint8 .* got nothing"),
    "mat's shape": (Cars3D, lambda f: cars_of(f, files.mat(PICTURES)), r"'im' must be .* got uint8 \(4, 64, 64, 3\)"),
    "no norb": (SmallNORB, lambda f: f, "no smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat in .*https://cs.nyu.edu"),
    "five norb files": (
        SmallNORB,
        lambda f: ((folder := files.smallnorb(f / "x")), next(folder.glob("*testing-cat*")).unlink())[0],
        "no smallnorb-5x01235x9x18x6x2x96x96-testing-cat.mat in",
    ),
    "norb's header": (
        SmallNORB,
        lambda f: changed(files.smallnorb(f / "x"), "testing-dat.mat", b"hello world"),
        "is no file of SmallNORB: it begins with 0x6c6c6568",
    ),
    "norb is empty": (SmallNORB, lambda f: changed(files.smallnorb(f / "x"), "training-dat.mat", b""), "is damaged or"),
    "norb's shape": (
        SmallNORB,
        lambda f: changed(files.smallnorb(f / "x"), "testing-info.mat", files.matrix(np.zeros((4, 3), "<i4"))),
        r"must be int32 of shape \(N, 4\), got int32 \(4, 3\)",
    ),
    "norb's number": (
        SmallNORB,
        lambda f: changed(files.smallnorb(f / "x"), "testing-cat.mat", files.matrix(np.zeros(4, "<i4"))),
        "testing-cat.mat is of 4 images, .*testing-dat.mat has 60",
    ),
    "norb's classes": (
        SmallNORB,
        lambda f: changed(files.smallnorb(f / "x"), "testing-cat.mat", files.matrix(np.full(60, 7, "<i4"))),
        "testing-cat.mat: there is no category 7",
    ),
    "truncated norb": (
        SmallNORB,
        lambda f: (folder := files.smallnorb(f / "x"), cut(next(folder.glob("*testing-dat*"))))[0],
        "testing-dat.mat is damaged or no file of SmallNORB: it ends before row 60",
    ),
    "truncated norb.gz": (
        SmallNORB,
        lambda f: (folder := files.smallnorb(f / "x", True), cut(next(folder.glob("*testing-dat*"))))[0],
        "testing-dat.mat.gz is damaged or no file of SmallNORB",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_ends_in_one_sentence_and_leaves_no_cache(case, tmp_path):
    kind, make, said = BAD[case]
    path, cache = make(tmp_path), tmp_path.with_name(f"{tmp_path.name}-cache")
    with pytest.raises((ValueError, OSError), match=said) as caught:
        kind(str(path)).prepare(cache)
    assert "\n" not in str(caught.value)
    assert not [found for found in cache.glob("*") if found.suffix != ".lock"]


def test_info_prints_a_datasets_card(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bvae.data", "info", "smallnorb"])
    main()
    out = capsys.readouterr().out
    for said in ("images    48,600", "category 5, instance 10, elevation 9, azimuth 18, lighting 6", "cannot be sold"):
        assert said in out
    names = "cars3d, digits, dsprites.*, fashion_mnist, mnist, mpi3d, shapes3d, smallnorb"
    named = f"info needs the name of a dataset, one of {names}, got"
    for name in ("imagenet", "none"):
        monkeypatch.setattr("sys.argv", ["bvae.data", "info", *([name] if name != "none" else [])])
        with pytest.raises(SystemExit, match=f"bvae.data: {named} {name}"):
            main()
