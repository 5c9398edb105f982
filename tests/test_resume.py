"""Runs that are killed, preempted or left with truncated files, and are resumed: the real train.py."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import environment, metrics_of, offline_runs

from bvae.app.errors import InputError
from bvae.app.train import conclude
from bvae.callbacks import LastCheckpoint
from bvae.checkpoints.files import AtomicCheckpointIO, newest
from bvae.loggers import MetricsFile, WandbRun, rewind

ROOT = Path(__file__).parents[1]
# An epoch of 738 images, 93 steps, ends on the way.
LONG = (
    "trainer.max_steps=140",
    "trainer.log_every_n_steps=10",
    "callbacks.pictures.every_n_steps=50",
    "callbacks.resume.every_n_train_steps=20",
    "data.batch_size=8",
    "data.val_fraction=0.999",
    "data.eval_images=500",
    "metrics=none",
    "loss=capacity",
    "loss.anneal_steps=200",
    "scheduler=drop",
    "scheduler.milestones=[90]",
)


def start(folder: Path, cache_dir: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    if not any(override.startswith("run=") for override in overrides):
        command.append(f"data.cache_dir={cache_dir}")
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def finished(warm, cache_dir) -> Callable[..., str]:
    """Run train.py to its end, as nothing is going to kill it."""

    def run(folder: Path, *overrides: str) -> str:
        cache = () if any(override.startswith("run=") for override in overrides) else (f"data.cache_dir={cache_dir}",)
        job = warm.run([str(ROOT / "train.py"), *overrides, *cache], folder, environment())
        assert job.returncode == 0, job.stdout + job.stderr
        return job.stdout + job.stderr

    return run


def wait_for_step(run: Path, step: int, job: subprocess.Popen) -> None:
    """Until metrics.csv shows that the training has come to the step."""
    while job.poll() is None:
        seen = metrics_of(run) if (run / "metrics.csv").is_file() else []
        if any(int(row["step"]) >= step for row in seen if row.get("step")):
            return
        time.sleep(0.02)
    pytest.fail(f"ended before step {step}: {job.communicate()[0]}")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(shared, finished) -> Path:
    """A run that nothing happened to."""
    return shared("whole", lambda folder: finished(folder, *LONG, "hydra.run.dir=run")) / "run"


@pytest.mark.parametrize("steps", [((49, 99),), pytest.param(((29, 59), (59, 99), (99, 129)), marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(steps, whole, finished, tmp_path, cache_dir):
    rng = random.Random(0)
    job = start(tmp_path, cache_dir, *LONG, "overwrite=true", "hydra.run.dir=killed")  # what was there, not its own
    run = tmp_path / "killed"
    for n, (low, high) in enumerate(steps):
        if n:
            job = start(tmp_path, cache_dir, "run=killed")
        wait_for_step(run, rng.randrange(low, high, 10), job)
        time.sleep(rng.uniform(0, 0.3))
        job.kill()
        job.wait()
    assert "Resuming from step" in finished(tmp_path, "run=killed")
    for name, expected in weights(whole).items():
        assert torch.equal(weights(run)[name], expected), name
    assert metrics_of(run) == metrics_of(whole)
    assert len(list((run / ".hydra").glob("*.yaml"))) == 3  # what it was started with is still there
    segments = offline_runs(tmp_path)
    assert (
        len({segment.name.rpartition("-")[2] for segment in segments}) == len(segments) == len(steps) + 1
    )  # none replaces another


@pytest.mark.slow
def test_a_killed_sweep_leaves_out_what_is_finished_and_goes_on_with_the_rest(whole, finished, tmp_path, cache_dir):
    command = ("-m", "seed=1,0", *LONG)
    job = start(tmp_path, cache_dir, *command, "hydra.sweep.dir=multirun/today/now")
    first, second = (tmp_path / "multirun" / "today" / "now" / number for number in "01")
    wait_for_step(second, 49, job)
    job.kill()
    job.communicate()
    before = (first / "report.html").stat().st_mtime_ns
    output = finished(tmp_path, *command, "sweep=resume")
    assert f"Finished before, in {first}\n" in output
    assert "Resuming from step" in output
    assert (first / "report.html").stat().st_mtime_ns == before
    assert all(torch.equal(weights(second)[name], expected) for name, expected in weights(whole).items())
    assert metrics_of(second) == metrics_of(whole)
    with (first.parent / "sweep.csv").open(newline="") as file:
        assert [(row["seed"], row["status"]) for row in csv.DictReader(file)] == [("1", "finished"), ("0", "finished")]
    assert not any("sweep=" in path.read_text() for path in first.parent.glob("*/job.json"))


@pytest.mark.slow
def test_told_to_make_room_a_run_saves_and_says_how_it_goes_on(whole, finished, tmp_path, cache_dir):
    run = tmp_path / "told"
    job = start(tmp_path, cache_dir, *LONG, "hydra.run.dir=told", "callbacks.resume.every_n_train_steps=1000")
    for told, step in ((signal.SIGTERM, 29), (signal.SIGUSR1, 69)):
        wait_for_step(run, step, job)
        job.send_signal(told)
        output, _ = job.communicate(timeout=60)
        assert job.returncode == 75, output
        assert "python train.py run=" in output
        job = start(tmp_path, cache_dir, "run=told") if told == signal.SIGTERM else None
    finished(tmp_path, "run=told")
    assert all(torch.equal(weights(run)[name], expected) for name, expected in weights(whole).items())
    assert metrics_of(run) == metrics_of(whole)


@pytest.mark.slow
def test_two_processes_told_to_make_room_end_and_go_on_together(finished, tmp_path, cache_dir):
    run = tmp_path / "told"
    job = start(tmp_path, cache_dir, *LONG, "trainer=ddp", "logger=csv", "hydra.run.dir=told")
    wait_for_step(run, 49, job)
    job.send_signal(signal.SIGTERM)  # the first alone gets it
    output, _ = job.communicate(timeout=60)  # until both have closed it
    assert job.returncode == 75, output
    _, step = newest(run / "checkpoints")
    assert 50 <= step < 140
    assert f"Resuming from step {step}:" in finished(tmp_path, "run=told")
    steps = [int(row["step"]) for row in metrics_of(run) if row["train/loss"]]
    assert steps == list(range(9, 140, 10))


@pytest.mark.slow
def test_a_finished_run_goes_on_for_longer(whole, finished, tmp_path, cache_dir):
    short = [o for o in LONG if not o.startswith("trainer.max_steps")]
    finished(tmp_path, *short, "hydra.run.dir=longer", "trainer.max_steps=60")
    finished(tmp_path, "run=longer", "trainer.max_steps=140")
    run = tmp_path / "longer"
    assert all(torch.equal(weights(run)[name], expected) for name, expected in weights(whole).items())


@pytest.mark.slow
def test_a_full_disk_costs_only_the_steps_since_the_last_checkpoint(whole, finished, small_disk, tmp_path, cache_dir):
    disk, resize = small_disk
    job = start(tmp_path, cache_dir, *LONG, "hydra.run.dir=disk/run")  # two checkpoints fill the disk
    output, _ = job.communicate(timeout=180)
    assert job.returncode == 1
    assert output.count("the training continues without it") == 1
    assert "the disk is full" in output
    assert "step 140 of 140" in output
    resize("100m")
    assert "Resuming from step" in finished(tmp_path, "run=disk/run")
    assert all(torch.equal(weights(disk / "run")[name], expected) for name, expected in weights(whole).items())
    assert metrics_of(disk / "run") == metrics_of(whole)


def test_a_run_whose_last_checkpoint_cant_be_written_isnt_finished(tmp_path):
    checkpoint_io = AtomicCheckpointIO()
    (tmp_path / "checkpoints" / "last.ckpt").mkdir(parents=True)
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(checkpoint_io=checkpoint_io),
        save_checkpoint=lambda path: checkpoint_io.save_checkpoint({}, path),
        fast_dev_run=False,
    )
    LastCheckpoint(tmp_path / "checkpoints").on_train_end(trainer, None)
    with pytest.raises(
        InputError,
        match=r"^can't write .*last\.ckpt: Is a directory: once it can be written, python train.py run=\S+ resumes",
    ):
        conclude(SimpleNamespace(output=tmp_path, trainer=trainer), None)


def test_a_torn_checkpoint_is_named_and_the_one_before_used(tmp_path):
    def checkpoint(name: str, step: int) -> Path:
        torch.save({"global_step": step}, tmp_path / name)
        return tmp_path / name

    checkpoint("resume-step-10.ckpt", 10)
    expected = checkpoint("resume-step-20.ckpt", 20)
    torn = checkpoint("resume-step-30.ckpt", 30)
    torn.write_bytes(torn.read_bytes()[:-100])
    flipped = bytearray(checkpoint("resume-step-40.ckpt", 40).read_bytes())
    flipped[flipped.index(b"global_step")] ^= 1
    (tmp_path / "resume-step-40.ckpt").write_bytes(flipped)
    assert newest(tmp_path) == (expected, 20)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Crafted:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"global_step": 1, "crafted": Crafted()}, tmp_path / "crafted.ckpt")
    with pytest.raises(ValueError, match=r"crafted\.ckpt is not a training's checkpoint: Weights only load failed"):
        newest(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_loss_that_is_not_finite_ends_the_run_in_a_sentence(train, tmp_path):
    job = train(tmp_path, *LONG, "optimizer.lr=1e18", "callbacks.resume.every_n_train_steps=1", "logger=none")
    assert job.returncode == 1
    output = job.stdout + job.stderr
    last = output.strip().splitlines()[-1]
    assert "at step 2 " in last
    assert "reconstruction" in last
    assert "the last good checkpoint is" in last
    assert "resume-step-1.ckpt" in last
    assert "Traceback" not in output


def test_what_is_no_run_is_refused_and_nothing_is_made(warm, tmp_path):
    job = warm.run([str(ROOT / "train.py"), "run=typo"], tmp_path, environment())
    assert job.returncode == 1
    assert (job.stdout + job.stderr).strip() == "train.py: run=typo is not a run's folder: it has no .hydra/config.yaml"
    assert not any(tmp_path.iterdir())


def test_metrics_go_back_to_a_checkpoints_step_and_lose_a_torn_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,scores/mig\n9,3.5,\n10,,0.1\n19,2.5,\n20,,0.2\n29,1.5,\n30,,0.3\n39,0.")
    rewind(path, 20)
    assert path.read_text().splitlines() == ["step,train/loss,scores/mig", "9,3.5,", "10,,0.1", "19,2.5,", "20,,0.2"]
    rewind(path, 20, ends=True)  # which scores the last step again
    assert path.read_text().splitlines() == ["step,train/loss,scores/mig", "9,3.5,", "10,,0.1", "19,2.5,"]
    rewind(path, 19)
    path.write_text(path.read_text() + "19,2.5,\n20,,0.2\n")
    logger = MetricsFile(str(tmp_path))
    logger.log_metrics({"train/loss": 1.5}, step=29)
    logger.save()
    logger.log_metrics({"scores/sap": 0.5}, step=30)
    logger.save()
    assert list(csv.DictReader(path.open(newline="")))[4:] == [
        {"step": "29", "train/loss": "1.5", "scores/mig": "", "scores/sap": ""},
        {"step": "30", "train/loss": "", "scores/mig": "", "scores/sap": "0.5"},
    ]


def test_a_validation_that_comes_again_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/loss\n9,3.5,\n9,,3.6\n19,2.5,\n19,,2.6\n")
    rewind(path, 20, ends=True)
    assert path.read_text().splitlines()[1:] == ["9,3.5,", "9,,3.6", "19,2.5,", "19,,2.6"]
    rewind(path, 19)  # ended before it
    assert path.read_text().splitlines()[1:] == ["9,3.5,", "9,,3.6"]


@pytest.mark.parametrize(("resumed", "expected"), [(True, [1450, 1500]), (False, [1400, 1449, 1450, 1500])])
def test_a_resumed_wandb_run_gets_each_step_once(monkeypatch, resumed, expected):
    """What the server knows stands in a resumed run's summary; no server is needed for the rest."""
    logged = []
    run = SimpleNamespace(
        resumed=resumed,
        summary={"trainer/global_step": 1449} if resumed else {},
        log=lambda values, **_: logged.append(values["trainer/global_step"]),
    )
    monkeypatch.setattr(WandbRun, "experiment", run)
    logger = WandbRun(mode="disabled")
    for step in (1400, 1449, 1450, 1500):
        logger.log_metrics({"train/loss": 1.0}, step=step)
    assert logged == expected
