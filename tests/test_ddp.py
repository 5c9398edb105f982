"""Two processes that train together on the CPU: the real train.py."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import RunningStage
from omegaconf import OmegaConf
from runs import offline_runs, run_folder

from bvae.app import processes, resume
from bvae.data import DSpritesDataModule
from bvae.data.batches import Batches

RUN = (
    "trainer.max_steps=60",
    "trainer.log_every_n_steps=1",
    "data.val_fraction=0.0005",
    "trainer.val_check_interval=30",
    "loss=beta",
    "metrics=none",
)


def losses(run: Path) -> np.ndarray:
    with (run / "metrics.csv").open(newline="") as file:
        return np.array([float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]])


def batches(number: int, *arguments: int, **more: int) -> list[np.ndarray]:
    """The images of an epoch's batches."""
    of = Batches(None, np.arange(number), *arguments, **more)
    return [of.indices_of(n) for n in range(len(of))]


def test_processes_get_parts_of_the_same_batches_that_one_would_get():
    alone = batches(103, 8, seed=3)
    parts = [batches(103, 4, seed=3, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == len(alone) == 13
    for whole, first, second in zip(alone, *parts, strict=True):
        assert np.concatenate((first, second)).tolist() == whole.tolist()
    assert len(batches(9, 4, rank=1, world_size=2)) == 1  # one image can't be shared


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),  # of Lightning's own
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),  # before it has started the others of its machine
        ({"RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "GROUP_RANK": "0", "RANK": "0"}, True),  # of torchrun
        ({"LOCAL_RANK": "0", "GROUP_RANK": "1", "RANK": "2"}, False),
        ({"SLURM_PROCID": "0"}, True),  # of srun
        ({"SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, False),
    ],
    ids=str,
)
def test_one_process_on_all_machines_writes_the_files(monkeypatch, tmp_path, environment, first):
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.is_first() == first
    (tmp_path / "job.json").write_text('{"status": "running"}')  # as the first has just begun
    assert resume.resumes(tmp_path, OmegaConf.create({"overwrite": False}), may_change=False) is False
    assert (tmp_path / "job.json").exists() != first


def test_lightning_leaves_the_parts_as_they_are(cache_dir):
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    data = DSpritesDataModule(cache_dir=str(cache_dir), val_fraction=0.1)
    data.trainer = trainer
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert trainer._data_connector._prepare_dataloader(loader, shuffle=True, mode=RunningStage.TRAINING) is loader


@pytest.mark.slow
def test_two_processes_learn_like_one_with_the_doubled_batch(train, tmp_path):
    one = train(tmp_path, *RUN, "data.batch_size=16", "hydra.run.dir=one", "logger=csv")
    assert one.returncode == 0, one.stderr
    two = train(tmp_path, *RUN, "data.batch_size=8", "hydra.run.dir=two", "trainer=ddp")
    assert two.returncode == 0, two.stderr
    assert run_folder(two.stdout) == tmp_path / "two"
    assert len(offline_runs(tmp_path)) == 1
    assert two.stdout.count("Latent units") == 1
    alone, together = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(alone) == len(together) == 60
    assert together[0] == pytest.approx(alone[0], rel=0.01)  # the same images and weights, other noise
    assert together[-10:].mean() == pytest.approx(alone[-10:].mean(), rel=0.1)


@pytest.mark.slow
def test_each_job_of_a_sweep_starts_its_own_processes(train, tmp_path):
    sweep = ("-m", "seed=0,1", *RUN, "data.batch_size=8", "logger=csv")
    job = train(tmp_path, *sweep, "trainer=ddp")
    assert job.returncode == 0, job.stderr
    (folder,) = tmp_path.glob("multirun/*/*")
    states = [torch.load(folder / n / "checkpoints" / "last.ckpt", weights_only=True) for n in "01"]
    assert [state["global_step"] for state in states] == [60, 60]
    assert len(losses(folder / "0")) == len(losses(folder / "1")) == 60
