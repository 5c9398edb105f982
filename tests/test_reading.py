"""Received files within their bounds: which sizes, links and values are taken, and where the line is."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from bvae import received
from bvae.received import (
    PICTURES,
    check_links,
    check_regular,
    damaged,
    dataset_of,
    intact,
    open_hdf5,
    read_json,
    read_yaml,
    text_of,
    texts,
)


def test_texts_have_a_most_that_they_may_just_have(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text('{"ä": 1}')  # 9 bytes
    assert text_of(path, 9) == '{"ä": 1}'
    with pytest.raises(ValueError, match=rf"^{path} is larger than 0 MB$"):
        text_of(path, 8)
    monkeypatch.setattr(received, "_MOST_YAML", 9)
    assert read_yaml(path) == read_json(path) == {"ä": 1}
    monkeypatch.setattr(received, "_MOST_YAML", 8)
    with pytest.raises(ValueError, match=rf"^{path} is larger than 0 MB$"):  # and not damaged
        read_yaml(path)
    monkeypatch.undo()
    assert (received._MOST, received._MOST_YAML) == (128 * 2**20, 2**20)
    path.write_bytes(b"\xff")
    for read in (read_yaml, read_json, text_of):
        with pytest.raises(ValueError, match=rf"^{path} is damaged: 'utf-8' codec can't decode byte 0xff "):
            read(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_regular_is_a_file_or_a_folder_or_a_link_to_one(tmp_path):
    (tmp_path / "x").touch()
    (tmp_path / "link").symlink_to("x")
    os.mkfifo(tmp_path / "pipe")
    for name in ("x", "link", "."):
        check_regular(str(tmp_path / name))
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match=f"^{path} is no regular file$"):
            check_regular(path)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "none")


def test_patterns_reach_one_level_below_the_folders_that_they_name(tmp_path):
    for name in ("a/b/link", "a/link", "link", "c/link"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to("/")

    def refused(*names: str) -> str:
        with pytest.raises(ValueError, match="is a link that leads out of") as caught:
            check_links(tmp_path, names or None)
        return str(caught.value).partition(" is a link")[0]

    assert refused("a", "a/*") == str(tmp_path / "a" / "link")
    assert refused("link") == str(tmp_path / "link")
    check_links(tmp_path, ["a", "b", "*.txt"])
    check_links(tmp_path, ["a/b/link"])  # it isn't gone into a
    assert refused("a", "a/link") == str(tmp_path / "a" / "link")
    for name in ("link", "a/link", "c/link"):
        (tmp_path / name).unlink()
    assert refused() == str(tmp_path / "a" / "b" / "link")  # at any depth
    (tmp_path / "a" / "b" / "link").unlink()
    (tmp_path / "inside").symlink_to("a/b")
    check_links(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'a' / 'pipe'} is no regular file: remove it$"):
        check_links(tmp_path)


def test_yaml_reads_numbers_as_hydra_does_and_text_as_text(tmp_path):
    path = tmp_path / "x.yaml"
    for text, value in {
        "1e3": 1000.0,
        "-1E-2": -0.01,
        "1_0.5e1": 105.0,
        "1e": "1e",
        "e5": "e5",
        "1.e2": 100.0,
        "0x10": 16,
        "1:30": 90,
        "2026-01-31": "2026-01-31",
        "on": True,
        "~": None,
        "''": "",
    }.items():
        path.write_text(f"a: {text}")
        assert read_yaml(path) == {"a": value}, text
    path.write_text("a: &x 1")  # an anchor alone stands for nothing twice
    assert read_yaml(path) == {"a": 1}


def test_texts_are_a_list_of_texts_as_they_are_shown():
    assert texts([]) == []
    assert texts(["a\x1b", "b"]) == ["a\\x1b", "b"]
    for found in ("ab", ("a",), ["a", 1], None, {"a": 1}):
        with pytest.raises(ValueError, match=r"^it is no list of texts$"):
            texts(found)


def test_damage_is_one_line_and_a_damaged_file_is_left_out_with_it(tmp_path, caplog):
    assert str(damaged("x", "a\n  b")) == "x is damaged: a b"

    def read(path: Path) -> str:
        if path.name == "bad":
            raise damaged(path, "\x1b")
        return path.name

    assert intact(read, Path("good")) == "good"
    assert not caplog.messages
    assert intact(read, Path("bad")) is None
    assert caplog.messages == ["bad is damaged: \\x1b; it is left out"]
    with pytest.raises(ZeroDivisionError):
        intact(lambda path: 1 / 0, Path("x"))


def test_a_dataset_is_found_by_its_path_and_a_group_is_none(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b"] = np.arange(3)
        file["c"] = np.arange(2)
    with open_hdf5(tmp_path / "x.h5") as file:
        assert file.mode == "r"
        assert dataset_of(file, "a/b")[:].tolist() == [0, 1, 2]
        assert dataset_of(file, "c").shape == (2,)
        for key in ("a", "b", "c/d", "a/b/c", "", "a/none"):
            with pytest.raises(KeyError, match=f"^'{key}'$"):
                dataset_of(file, key)
    with pytest.raises(ValueError, match="is no regular file"), open_hdf5(Path("/dev/null")):
        pass


def test_no_reader_of_pictures_runs_another_program():
    assert set(PICTURES) == {"PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"}
