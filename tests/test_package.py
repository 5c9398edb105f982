"""The wheel, installed into an environment of its own that takes its dependencies from this one."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from runs import environment

ROOT = Path(__file__).parents[1]


def run(*command: object, folder: Path, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment() | more, capture_output=True, text=True, timeout=180
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of the programs of an environment that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    built = run("git", "clone", "--quiet", ROOT, source, folder=folder)
    if built.returncode:
        pytest.skip(f"needs a checkout: {built.stderr}")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, source, folder=folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("bvae-*.whl")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    here = ("--python", programs / "python", "install", "--no-deps", "--quiet", "--ignore-installed", wheel)
    built = run(*pip, *here, folder=folder)
    assert built.returncode == 0, built.stderr
    return programs


@pytest.mark.slow
def test_the_installed_programs_train_and_evaluate_from_any_folder(installed, cache_dir, tmp_path):
    short = ("trainer.max_steps=3", "data.eval_images=100", "metrics=none", "logger=csv", "hydra.run.dir=mine")
    job = run(installed / "bvae-train", "experiment=quick", *short, folder=tmp_path, BVAE_CACHE_DIR=str(cache_dir))
    assert job.returncode == 0, job.stdout + job.stderr
    assert (tmp_path / "mine" / "report.html").is_file()
    again = ("run=mine", "metrics=none", "logger=none")
    job = run(installed / "bvae-evaluate", *again, folder=tmp_path, BVAE_CACHE_DIR=str(cache_dir))
    assert job.returncode == 0, job.stdout + job.stderr
    where = run(installed / "python", "-c", "import bvae; print(bvae.__file__)", folder=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert (Path(where.strip()).parent / "py.typed").is_file()


def test_a_persons_own_yaml_and_modules_are_found_where_they_stand(installed, cache_dir, tmp_path):
    (tmp_path / "mine.py").write_text("from bvae.losses import Beta\n\n\nclass Mine(Beta):\n    pass\n")
    own = tmp_path / "own" / "loss"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: mine.Mine\nbeta: 3.0\n")
    short = ("trainer.max_steps=2", "data.eval_images=100", "metrics=none", "logger=csv", "hydra.run.dir=x")
    command = (installed / "bvae-train", "--config-dir", "own", "loss=mine", *short)
    job = run(*command, folder=tmp_path, BVAE_CACHE_DIR=str(cache_dir))
    assert job.returncode == 0, job.stdout + job.stderr
    refused = run(installed / "bvae-train", "hydra.run.dir=x", folder=tmp_path, BVAE_CACHE_DIR=str(cache_dir))
    assert f"bvae-train run={tmp_path / 'x'} resumes that one" in refused.stdout


def test_the_library_needs_neither_hydra_nor_wandb(installed, tmp_path):
    program = """if True:
        import sys
        sys.modules["hydra"] = sys.modules["omegaconf"] = sys.modules["wandb"] = None  # as if they weren't installed
        import bvae, bvae.callbacks, bvae.loggers, bvae.report, bvae.evaluation
        print(bvae.VAE, bvae.Training, bvae.load, bvae.metrics, bvae.data)
    """
    job = run(installed / "python", "-c", program, folder=tmp_path)
    assert job.returncode == 0, job.stderr
