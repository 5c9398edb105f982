from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bvae.data import DSpritesDataModule

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rendered dataset in it."""
    folder = tmp_path_factory.mktemp("data")
    DSpritesDataModule(cache_dir=str(folder)).prepare_data()
    return folder


@pytest.fixture(scope="session")
def train(cache_dir: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real train.py with the overrides in a folder."""

    def run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "train.py")]
        overrides = (*overrides, f"data.cache_dir={cache_dir}", "data.eval_images=500")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_"))} | environment
        return subprocess.run([*command, *overrides], cwd=folder, env=env, capture_output=True, text=True, timeout=180)

    return run
