"""What runs take from a machine: the network, folders, when many start at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import SHORT, environment, offline_runs, run_folder

pytestmark = pytest.mark.slow
TRAIN = [sys.executable, str(Path(__file__).parents[1] / "train.py"), *SHORT, "data.eval_images=500"]
NO_NETWORK = ["unshare", "--map-root-user", "--net"]  # a network of its own, in which there is nothing


def can_cut_the_network_off() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_cut_the_network_off(), reason="unshare can't make a network here")
def test_a_run_needs_no_network(tmp_path, cache_dir):
    job = subprocess.run(
        [*NO_NETWORK, *TRAIN, "metrics=fast", "metrics.every_image=null", f"data.cache_dir={cache_dir}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert (tmp_path / run_folder(job.stdout) / "report.html").exists()
    assert len(offline_runs(tmp_path)) == 1


def test_runs_started_at_once_get_folders_of_their_own_and_make_the_data_once(tmp_path):
    command = [*TRAIN, "metrics=none", "data.cache_dir=data"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    jobs = [subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) for _ in range(4)]
    said = [job.communicate(timeout=900)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, said
    assert len({run_folder(text) for text in said}) == 4
    assert len(list(tmp_path.glob("outputs/*/*/report.html"))) == 4
    assert len(offline_runs(tmp_path)) == 4
    assert sum("Rendering" in text for text in said) <= 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "dsprites-render.h5",
        "dsprites-render.h5.lock",
    ]
