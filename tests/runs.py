"""Short runs of the real programs, and what they leave."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

SHORT = ("trainer.max_steps=6", "trainer.log_every_n_steps=2", "callbacks.pictures.every_n_steps=4")
WANDB = str(Path(sys.executable).with_name("wandb"))


def environment() -> dict[str, str]:
    """This process's, without what W&B and Hydra would take from it."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_"))}


def run_folder(output: str) -> Path:
    """The folder that the closing lines name."""
    return Path(next(line for line in output.splitlines() if line.startswith("Report")).partition(": ")[2]).parent


def metrics_of(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the speed."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "train/images_per_second"} for row in csv.DictReader(file)]


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
