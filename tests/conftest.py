from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bvae.data import DSpritesDataModule

ROOT = Path(__file__).parents[1]
SHORT = ("trainer.max_steps=6", "trainer.log_every_n_steps=2", "callbacks.pictures.every_n_steps=4")
WANDB = str(Path(sys.executable).with_name("wandb"))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rendered dataset in it, which all workers share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "data"
    DSpritesDataModule(cache_dir=str(folder)).prepare_data()
    return folder


@pytest.fixture(scope="session")
def train(cache_dir: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real train.py with the overrides in a folder."""

    data = (f"data.cache_dir={cache_dir}", "data.eval_images=500")
    return lambda folder, *overrides, **environment: _program("train.py", folder, (*overrides, *data), environment)


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., subprocess.CompletedProcess]:
    """Run the real evaluate.py with the overrides in a folder."""
    return lambda folder, *overrides, **environment: _program("evaluate.py", folder, overrides, environment)


def _program(name: str, folder: Path, overrides: tuple[str, ...], environment: dict) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_"))} | environment
    command = [sys.executable, str(ROOT / name), *overrides]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="session")
def run(train: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """One short run, and the folder that it was started in."""
    folder = tmp_path_factory.mktemp("run")
    job = train(folder, *SHORT, "loss=annealed", "callbacks.checkpoint.every_n_train_steps=3", "seed=3")
    assert job.returncode == 0, job.stderr
    return folder, job


def run_folder(output: str) -> Path:
    """The folder that the closing lines name."""
    return Path(next(line for line in output.splitlines() if line.startswith("Report")).partition(": ")[2]).parent


def wandb_records(run: Path) -> list[dict]:
    """What W&B's own reader finds in an offline run."""
    (path,) = run.glob("*.wandb")
    job = subprocess.run([WANDB, "leet", "inspect", "--json", path], capture_output=True, text=True, timeout=60)
    assert job.returncode == 0, job.stderr
    return [json.loads(line) for line in job.stdout.splitlines()]


def history(records: list[dict]) -> dict[str, list]:
    """Each logged key's values."""
    values: dict[str, list] = {}
    for record in records:
        for key, value in record.get("history", {}).get("item", {}).items():
            values.setdefault(key, []).append(value)
    return values


def offline_runs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "wandb").glob("offline-run-*"))
