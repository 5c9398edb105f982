"""Sweeps whose jobs run beside each other and on a cluster: the launchers for real."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from runs import SHORT, environment

ROOT = Path(__file__).parents[1]


def has_slurm() -> bool:
    try:
        return subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=10).stdout != ""
    except FileNotFoundError:
        return False


slurm = pytest.mark.skipif(not has_slurm(), reason="needs Slurm: .ci/slurm starts one")
LAUNCHERS = [
    pytest.param(("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), marks=pytest.mark.slow, id="joblib"),
    pytest.param(("hydra/launcher=submitit_local",), marks=pytest.mark.slow, id="submitit_local"),
    pytest.param(
        ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"),
        marks=[pytest.mark.slow, slurm],
        id="submitit_slurm",
    ),
    pytest.param(
        ("hydra/launcher=ray",),
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install -e '.[ray]'"),
        ],
        id="ray",
    ),
]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_of_two_jobs_one_of_which_fails(launcher, train, tmp_path):
    job = train(tmp_path, "-m", "loss.gamma=100,-1", *SHORT, *launcher)
    assert job.returncode == 1, job.stderr
    (table,) = tmp_path.glob("multirun/*/*/sweep.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss.gamma"], row["status"]) for row in rows] == [("100", "finished"), ("-1", "failed")]
    assert "gamma must not be negative, got -1" in rows[1]["error"]
    assert "gamma must not be negative, got -1" in (table.parent / "1" / "train.log").read_text()
    assert (table.parent / "0" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("through", ["joblib", "submitit_local"])
def test_groups_that_are_trained_as_one_in_two_processes(through, train, tmp_path):
    groups = ("hydra/launcher=together", "hydra.launcher.most=2", f"hydra/launcher@hydra.launcher.through={through}")
    words = ("-m", "loss.gamma=100,-1", "seed=0,1", "data.seed=0", *SHORT, "trainer.max_steps=8")
    sweep = train(tmp_path, *words, *groups, "hydra.sweep.dir=sweep")
    assert sweep.returncode == 1, sweep.stdout + sweep.stderr
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    every = [("100", "0", "finished"), ("100", "1", "finished"), ("-1", "0", "failed"), ("-1", "1", "failed")]
    assert [(row["loss.gamma"], row["seed"], row["status"]) for row in rows] == every
    alone = train(tmp_path, *words[3:], "seed=1", "loss.gamma=100", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    checkpoints = [tmp_path / folder / "checkpoints" / "last.ckpt" for folder in ("alone", "sweep/1")]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in checkpoints]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@slurm
def test_slurm_puts_a_run_in_the_queue_again_and_it_ends_as_if_it_had_not_been(train, tmp_path, cache_dir):
    run = ("trainer.max_steps=1500", "trainer.log_every_n_steps=50", "callbacks.pictures.every_n_steps=5000")
    run += ("data.batch_size=8", "logger=csv", "metrics=none", "data.eval_images=500", f"data.cache_dir={cache_dir}")
    whole = train(tmp_path, *run, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    script = tmp_path / "job.sh"
    command = f"srun {sys.executable} {ROOT / 'train.py'} {' '.join(run)} hydra.run.dir=outputs/$SLURM_JOB_ID"
    script.write_text(f"#!/bin/bash\nexport OMP_NUM_THREADS=1\n{command}\n")
    queued = subprocess.run(
        ["sbatch", "--parsable", "--requeue", "--ntasks=1", "--mem=3G", "--open-mode=append", "-o", "log", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    number = queued.stdout.strip()
    log, folder = tmp_path / "log", tmp_path / "outputs" / number

    def until(what, seconds: int) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)

    until(lambda: log.is_file() and "step 150 of" in log.read_text(), 120)
    subprocess.run(["scancel", "--signal=USR1", number], check=True)
    until(lambda: (folder / "checkpoints" / "last.ckpt").is_file(), 400)  # Slurm waits for two minutes before
    assert log.read_text().count("Resuming from step") == 1
    states = [
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for f in (tmp_path / "whole", folder)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
