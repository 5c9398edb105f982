from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch comes: two workers' threads would wait for each other
os.environ["BVAE_CACHE_DIR"] = os.path.join(os.devnull, "cache")  # a test that names no folder of its own fails there

import pytest
from runs import SHORT, environment
from warm import Warm

from bvae.data import DSpritesDataModule
from bvae.files import locked

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder that all workers read, in the first of them that needs it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = base / f"{name}.made"
        with locked(base / name):
            if not made.exists():
                (base / name).mkdir()
                make(base / name)
                made.touch()
        return base / name

    return folder


@pytest.fixture(scope="session")
def cache_dir(shared: Callable[..., Path]) -> Path:
    """A folder with the rendered dataset in it."""
    return shared("data", lambda folder: DSpritesDataModule(cache_dir=str(folder)).prepare_data())


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that has the programs' imports behind it."""
    process = Warm(environment())
    yield process
    process.close()


@pytest.fixture(scope="session")
def train(cache_dir: Path, warm: Warm) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real train.py with the overrides in a folder."""

    def run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess:
        typed = " ".join(overrides)
        cache = () if "data.cache_dir=" in typed else (f"data.cache_dir={cache_dir}",)
        return _program(warm, "train.py", folder, (*overrides, *cache, "data.eval_images=100"), environment)

    return run


@pytest.fixture(scope="session")
def evaluate(warm: Warm) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real evaluate.py with the overrides in a folder."""
    return lambda folder, *overrides, **environment: _program(warm, "evaluate.py", folder, overrides, environment)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assemble as the only process, with nothing changed beside `run=`."""
    from bvae.app import processes, resume

    monkeypatch.setattr(processes, "is_first", lambda: True)
    monkeypatch.setattr(resume, "conf_folders", list)
    monkeypatch.setattr(resume, "changes", [])
    monkeypatch.delenv("SLURM_NTASKS", raising=False)


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra's configuration for a command, as `records.command` sets it."""
    from hydra.core.hydra_config import HydraConfig

    from bvae.app import resume

    yield
    HydraConfig.instance().cfg = None
    resume.changes.clear()


@pytest.fixture
def composed(hydra: None) -> Callable:
    """Compose and resolve a configuration like train.py."""
    from records import command

    from bvae.app import recorded

    return lambda *overrides: recorded.resolved(command(*overrides))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], object]]]:
    """A folder on a disk of its own, and how to change its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=13m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _program(
    warm: Warm, name: str, folder: Path, overrides: tuple[str, ...], more: dict
) -> subprocess.CompletedProcess:
    command = [str(ROOT / name), *overrides]
    if not more:
        return warm.run(command, folder, environment())
    command = [sys.executable, *command]  # what is imported may look at the environment
    return subprocess.run(command, cwd=folder, env=environment() | more, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="session")
def run(train: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """One short run, and the folder that it was started in."""
    folder = tmp_path_factory.mktemp("run")
    job = train(folder, *SHORT, "loss=annealed", "callbacks.checkpoint.every_n_train_steps=3", "seed=3")
    assert job.returncode == 0, job.stderr
    return folder, job
