"""Configurations as train.py composes them, and what a run or a sweep records of one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from bvae.app import recorded

CONF = Path(__file__).parents[1] / "conf"


@cache
def complete(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        where = ["hydra.runtime.output_dir=/typed/here/run", "hydra.runtime.cwd=/typed/here"]
        return compose("config", [*overrides, *where], return_hydra_config=True)


def command(*overrides: str):
    """Compose like train.py."""
    cfg = complete(*overrides).copy()
    HydraConfig.instance().set_config(cfg.copy())
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg


def leave(folder: Path, cfg, overrides: list[str], status: str = "finished") -> None:
    """What a run leaves, as far as it matters here."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "metrics.csv").write_text("step\n1\n")
    (folder / "mine.txt").touch()
    recorded.record(folder, cfg, overrides)
    ended(folder, status)


def write(run: Path, name: str = "config", **tree: object) -> Path:
    """Write one of Hydra's records of a run."""
    path = recorded.record_of(run, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(tree))
    return path


def ended(folder: Path, status: str) -> None:
    (folder / "job.json").write_text(json.dumps({"overrides": [], "status": status}))


def begun(folder: Path, overrides: list[str]) -> Path:
    folder.mkdir(parents=True)
    record = {"hydra": {"overrides": {"task": overrides, "hydra": ["hydra.mode=MULTIRUN"]}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(record))
    return folder
