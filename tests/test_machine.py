"""The machine and the commit that a run records."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from bvae.runs import surroundings


def test_the_machine_is_its_processor_its_cores_and_its_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "_processor", lambda: "CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, said in ((range(1), "CPU, 1 core"), (range(3), "CPU, 3 cores")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(cores), raising=False)
        assert surroundings.machine() == said
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: f"GPU {n}")
    assert surroundings.machine() == "CPU, 3 cores; GPU 0; GPU 1"
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert surroundings.machine().startswith("CPU, 5 cores")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nmodel name\t: Fast: 3 GHz \nmodel name: other\n", "Fast: 3 GHz"),
        ("a: 1\n", "made up"),
        (None, "made up"),
    ],
)
def test_the_processor_has_the_name_that_the_system_gives(monkeypatch, text, said):
    def read_text(path, **_):
        assert path == Path("/proc/cpuinfo")
        if text is None:
            raise OSError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(surroundings.platform, "processor", lambda: "")
    monkeypatch.setattr(surroundings.platform, "machine", lambda: "made up")
    assert surroundings._processor() == said


def test_the_commit_is_that_of_the_code_where_git_tracks_it(tmp_path, monkeypatch):
    package = tmp_path / "src" / "bvae"
    (package / "runs").mkdir(parents=True)
    (package / "runs" / "surroundings.py").write_text("1\n")
    monkeypatch.setattr(surroundings, "_CODE", package)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert surroundings.commit() == ""
    (package / "other").touch()
    git("add", "src/bvae/other")
    git("commit", "-qm", "one")
    assert surroundings.commit() == ""  # an installed package in somebody's repository
    git("add", ".")
    git("commit", "-qm", "two")
    whole = git("rev-parse", "HEAD").strip()
    assert surroundings.commit() == whole[:10]
    (package / "runs" / "surroundings.py").write_text("2\n")
    assert surroundings.commit() == f"{whole[:10]}-dirty"
    monkeypatch.setenv("PATH", "")
    assert surroundings.commit() == ""
