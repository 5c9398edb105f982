"""Arrays in files, block by block: whatever the layout and wherever a block ends, they are as they were written."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from bvae.data import arrays
from bvae.data.arrays import StoredArray, blocks_of, opened, stored, texts

TABLE = np.arange(35, dtype=np.int32).reshape(7, 5)  # 20 bytes a row
CUBE = np.arange(70, dtype=np.float32).reshape(7, 5, 2)  # 40 bytes a row
FILES = {
    "npy": lambda path, array: np.save(path, array),
    "npz": lambda path, array: np.savez(path, a=array),
    "compressed.npz": lambda path, array: np.savez_compressed(path, a=array),
    "h5": lambda path, array: hdf5(path, array),
    "chunked.hdf5": lambda path, array: hdf5(path, array, chunks=(3, *array.shape[1:]), compression="gzip"),
}


def hdf5(path: Path, array: np.ndarray, **options) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=array, **options)


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """An array, and how many rows each block has."""
    with opened(path, "" if path.suffix == ".npy" else "a") as array:
        blocks = list(array.blocks)
    assert {block.shape[1:] for block in blocks} == {array.shape[1:]}
    return np.concatenate(blocks), [len(block) for block in blocks]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("array", [TABLE, CUBE.astype(">f8"), TABLE[:, 0].astype("u1")], ids=["2", "3", "1"])
def test_an_array_is_the_same_in_blocks_of_any_size(kind, array, tmp_path, monkeypatch):
    path = tmp_path / f"x.{kind}"
    FILES[kind](path, array)
    row = array[0].nbytes
    for rows in (1, 2, 3, 7, 100):
        monkeypatch.setattr(arrays, "_BLOCK", rows * row + row // 2)
        found, sizes = read(path)
        assert np.array_equal(found, array)
        assert found.dtype.str[1:] == array.dtype.str[1:]  # in this machine's byte order
        step = max(rows, 3) if kind == "chunked.hdf5" else rows  # no less than a chunk, of which each read unpacks all
        assert sizes == [min(step, 7 - start) for start in range(0, 7, step)]
    monkeypatch.setattr(arrays, "_BLOCK", 1)
    assert read(path)[1] == ([3, 3, 1] if kind == "chunked.hdf5" else [1] * 7)  # a row at least
    with opened(path, "" if kind == "npy" else "a") as stored_array:
        assert (stored_array.shape, stored_array.dtype) == (array.shape, array.dtype)
        assert np.array_equal(stored_array.read(), array)


def test_no_more_of_a_chunk_is_held_than_fits(tmp_path, monkeypatch):
    FILES["chunked.hdf5"](tmp_path / "x.hdf5", TABLE)
    monkeypatch.setattr(arrays, "_BLOCK", 1)
    for most, sizes in ((60, [3, 3, 1]), (59, [2, 2, 2, 1]), (1, [1] * 7)):
        monkeypatch.setattr(arrays, "_MOST", most)
        assert read(tmp_path / "x.hdf5")[1] == sizes


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_table_in_fortrans_order_is_read_as_it_is(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK", 60)
    path = tmp_path / f"x.{suffix}"
    FILES[suffix](path, np.asfortranarray(TABLE))
    with opened(path, "" if suffix == "npy" else "a") as array:
        assert np.array_equal(array.read(), TABLE)
    FILES[suffix](path, np.asfortranarray(TABLE[:, 0]))
    assert np.array_equal(read(path)[0], TABLE[:, 0])
    FILES[suffix](path, np.asfortranarray(CUBE))
    said = r"^.*x\.\w+: ('a'|its array) must be a plain array in C order, as np\.ascontiguousarray\(…\) makes it, or "
    with pytest.raises(ValueError, match=said + r"\.astype\(str\) of text, and is in Fortran's order$"):
        read(path)


def test_what_has_no_rows_or_no_values_is_read_too(tmp_path):
    for array in (TABLE[:0], np.zeros((0, 3, 2)), np.zeros((4, 0))):
        np.save(tmp_path / "x.npy", array)
        with opened(tmp_path / "x.npy") as found:
            assert found.read().shape == array.shape
    rows = list(blocks_of(BytesIO(bytes(6)), (3, 2), np.dtype("u1")))
    assert [row.tolist() for row in rows] == [[[0, 0]] * 3]


def test_a_stream_that_ends_too_early_says_where(tmp_path):
    np.save(tmp_path / "x.npy", TABLE)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"x\.npy is damaged or no \.npy archive: it ends before row 7$"):
        read(tmp_path / "x.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_arrays_without_fields_are_known(version, tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, TABLE, version=version)
    if version < (3, 0):
        assert np.array_equal(read(tmp_path / "x.npy")[0], TABLE)
        return
    with pytest.raises(ValueError, match=r"x\.npy holds no plain NumPy array: it has the version \(3, 0\)$"):
        read(tmp_path / "x.npy")


def test_what_isnt_plain_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array(5), b=np.array([{}]))
    for key, what in (("a", "a single value"), ("b", "objects")):
        said = rf"x\.npz: '{key}' must be a plain array in C order, .*, and is {what}$"
        with pytest.raises(ValueError, match=said), opened(tmp_path / "x.npz", key):
            pass
    hdf5(tmp_path / "x.h5", np.array(5))
    with pytest.raises(ValueError, match=r"x\.h5: 'a' must be a plain array .*, and is a single value$"):
        read(tmp_path / "x.h5")


def test_a_key_that_is_missing_is_named_with_the_first_nine_that_are_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in "jihgfedcba":
            file[name] = TABLE
        file["group/inner"] = TABLE
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["x"] = TABLE
        file.create_group("group")
    for name, has in (("empty.npz", "none"), ("x.h5", "a, b, c, d, e, f, g, h, i"), ("one.h5", "x")):
        for key in ("y", "group"):
            said = rf"{name}: the key '{key}' is missing, it has {has}$"
            with pytest.raises(ValueError, match=said), opened(tmp_path / name, key):
                pass
    with opened(tmp_path / "x.h5", "group/inner") as array:
        assert np.array_equal(array.read(), TABLE)


def test_text_is_read_up_to_a_number(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = np.array(["hue", "größe"], dtype=h5py.string_dtype())
    with opened(tmp_path / "x.h5", "a") as array:
        assert texts(array.read()) == ["hue", "größe"]
    monkeypatch.setattr(arrays, "_MOST_TEXTS", 2)
    with opened(tmp_path / "x.h5", "a") as array:
        assert len(array.read()) == 2
    monkeypatch.setattr(arrays, "_MOST_TEXTS", 1)
    with pytest.raises(ValueError, match=r"x\.h5: 'a' holds 2 texts, at most 1 are read$"):
        read(tmp_path / "x.h5")


def test_what_is_read_whole_has_a_bound(monkeypatch):
    monkeypatch.setattr(arrays, "_MOST_WHOLE", 140)
    assert np.array_equal(StoredArray(TABLE.shape, TABLE.dtype, iter([TABLE])).read(), TABLE)  # of 140 bytes
    monkeypatch.setattr(arrays, "_MOST_WHOLE", 139)
    with pytest.raises(ValueError, match=r"^an array of shape \(7, 5\) and 140 bytes isn't read whole$"):
        StoredArray(TABLE.shape, TABLE.dtype, iter([TABLE])).read()


def test_what_is_stored_is_listed_without_what_cant_be_read_unless_it_must_be(tmp_path):
    np.savez(tmp_path / "x.npz", a=TABLE, b=np.array([{}]), c=CUBE)
    expected = {"a": (TABLE.shape, TABLE.dtype), "c": (CUBE.shape, CUBE.dtype)}
    assert stored(tmp_path / "x.npz") == stored(tmp_path / "x.npz", ["a", "z"]) == expected
    with pytest.raises(ValueError, match=r"'b' must be a plain array .*, and is objects$"):
        stored(tmp_path / "x.npz", ["b"])
    np.savez(tmp_path / "one.npz", b=np.array([{}]))
    with pytest.raises(ValueError, match="'b' must be a plain array"):  # as there is no other
        stored(tmp_path / "one.npz")
    np.save(tmp_path / "x.npy", TABLE)
    assert stored(tmp_path / "x.npy") == {"": (TABLE.shape, TABLE.dtype)}
    for suffix in (".h5", ".hdf5"):
        with h5py.File(tmp_path / f"x{suffix}", "w") as file:
            file["a"], file["c"] = TABLE, CUBE
            file.create_group("group")["d"] = TABLE
        assert stored(tmp_path / f"x{suffix}") == expected
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path / 'd.npz'} is a folder, not a file$"):
        stored(tmp_path / "d.npz")
    with pytest.raises(FileNotFoundError, match=f"^there is no file {tmp_path / 'none.h5'}$"):
        stored(tmp_path / "none.h5")
