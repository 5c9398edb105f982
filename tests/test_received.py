"""Attacks by what somebody else hands over; each test looks at the outside, at what mustn't run, change or be called.

Here are the attacks on the real programs, by a run's folder. test_received_files.py has those by single files.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from runs import environment, offline_runs, run_folder
from warm import Warm

ROOT = Path(__file__).parents[1]
EXPLORE = "import sys; from bvae.app.explore import run; sys.argv[0] = 'bvae-explore'; run()"


@pytest.fixture
def launch(warm: Warm) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real train.py, in a process that is forked from one that has the imports behind it."""
    return lambda folder, *typed, **more: warm.run([str(ROOT / "train.py"), *typed], folder, environment() | more)


@pytest.fixture
def score(warm: Warm) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real evaluate.py likewise."""
    return lambda folder, *typed, **more: warm.run([str(ROOT / "evaluate.py"), *typed], folder, environment() | more)


@pytest.fixture
def received(run, tmp_path) -> Path:
    """A copy of the short run's folder, beside which nothing else is."""
    return shutil.copytree(run_folder(run[1].stdout), tmp_path / "received")


@pytest.fixture
def outside(tmp_path_factory) -> Iterator[Path]:
    """A folder with a user's files, which are the same afterwards."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "theirs.ckpt").write_text("theirs")
    (folder / "profile").write_text("theirs")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            asked.append(self.rfile.readline().decode(errors="replace"))
            self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


def contents(folder: Path) -> dict[str, str]:
    """What is in a folder, by name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def change(run: Path, **values: object) -> None:
    """Change keys of what a run records, a dot as two underscores."""
    path = run / ".hydra" / "config.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *parents, last = key.split("__")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def explore(folder: Path, *overrides: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", EXPLORE, *overrides]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)


def refused(job: subprocess.CompletedProcess, *said: str) -> None:
    """It ended in one sentence."""
    lines = (job.stdout + job.stderr).strip().splitlines()
    assert job.returncode == 1, lines
    assert len(lines) == 1, lines
    assert all(text in lines[0] for text in said), lines


# 1. Code.


def test_what_a_configuration_calls_cannot_change_after_it_was_looked_at(received, launch, score, tmp_path):
    target = "${oc.select:run_tags.0,bvae.callbacks.Throughput}"
    change(received, run_tags=["os.system"], callbacks__throughput={"_target_": target, "command": "touch ran"})
    change(received, data___target_="${oc.select:run_tags.0,bvae.data.ImagesDataModule.of}")
    for job in (
        launch(tmp_path, f"run={received}", "trainer.max_steps=8"),
        score(tmp_path, f"run={received}", "metrics=none"),
        explore(tmp_path, f"run={received}"),
    ):
        refused(job, "has an interpolation, ", "${oc.select:run_tags.0,", "which isn't resolved because a file has it")
    assert not list(tmp_path.rglob("ran"))


def test_no_interpolation_is_resolved_and_no_secret_written(received, launch, tmp_path):
    change(received, data__path="${oc.env:SECRET}/x")
    refused(launch(tmp_path, f"run={received}", "trainer.max_steps=8", SECRET="hunter2"), "${oc.env:SECRET}")
    hydra = received / ".hydra" / "hydra.yaml"
    change(received, data__path=None)
    recorded = yaml.safe_load(hydra.read_text())
    recorded["hydra"]["sweep"]["dir"] = "${oc.env:SECRET}"
    hydra.write_text(yaml.safe_dump(recorded))
    refused(launch(tmp_path, f"run={received}", SECRET="hunter2"), "hydra.yaml is damaged")
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


# 2. Links.


@pytest.mark.slow  # test_received_files.py has all names, without the program
@pytest.mark.parametrize(
    "name",
    [
        *(".lock", "train.log", "codes.npz", "traversals.png", "traversals.gif", "hparams.yaml", "metrics.csv"),
        *("checkpoints/last.ckpt", ".hydra/config.yaml", "checkpoints", "traversals", ".hydra", "tensorboard"),
    ],
)
def test_nothing_is_written_through_a_link(name, received, outside, launch, score, tmp_path):
    place = received / name
    target = outside / "profile"
    if not place.suffix and name != ".lock":  # a folder, with the same in it
        target = tmp_path / "elsewhere"
        place.rename(target) if place.exists() else target.mkdir()
        before = contents(target)
    place.unlink(missing_ok=True)
    if name == ".hydra/config.yaml":
        shutil.copy(target, tmp_path / "kept")
    place.symlink_to(target)
    commands = [launch(tmp_path, f"run={received}", "trainer.max_steps=8")]
    if name in ("codes.npz", "traversals", "traversals.png"):
        commands.append(score(tmp_path, f"run={received}", "metrics=none"))
    for job in commands:
        assert job.returncode == 1
        assert "Traceback" not in job.stdout + job.stderr
    if target != outside / "profile":
        assert contents(target) == before


def test_the_log_does_not_follow_a_link_before_anything_looks(received, outside, launch, tmp_path):
    (received / "train.log").unlink(missing_ok=True)
    (received / "train.log").symlink_to(outside / "profile")
    refused(launch(tmp_path, f"run={received}", "trainer.max_steps=8"), "train.log")


def test_overwriting_removes_nothing_through_a_link(received, outside, launch, tmp_path):
    shutil.rmtree(received / "checkpoints")
    (received / "checkpoints").symlink_to(outside)
    refused(launch(tmp_path, f"hydra.run.dir={received}", "overwrite=true"), "is a link that leads out of")


def test_a_sweeps_folder_with_links_is_refused(outside, launch, tmp_path):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    for name in ("multirun.yaml", "0"):
        (sweep / name).symlink_to(outside / "profile" if name != "0" else outside)
        refused(launch(tmp_path, "-m", "seed=0,1", f"hydra.sweep.dir={sweep}"), "is a link that leads out of")
        (sweep / name).unlink()


# 3. Deletion, 8. names, 13. the newest two, 14. an empty job.json, and where images are made: many traps in one folder.


@pytest.mark.slow
def test_a_folder_full_of_traps_is_resumed_and_nothing_outside_changes(received, outside, launch, cache_dir, tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e[red]\n> ~.profile"
    checkpoints = received / "checkpoints"
    (checkpoints / "mine.txt").write_text("mine")
    (tmp_path / "victim.ckpt").write_text("theirs")
    for path in checkpoints.glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for key, state in checkpoint["callbacks"].items():
            if "StepCheckpoint" in key:
                victims = [outside / "theirs.ckpt", checkpoints / ".." / ".." / "victim.ckpt", checkpoints / "mine.txt"]
                best = {str(victim): torch.tensor(-float(n)) for n, victim in enumerate(victims, 1)}
                state |= {"dirpath": str(checkpoints), "best_k_models": best}
                state |= {"kth_best_model_path": str(victims[-1]), "kth_value": torch.tensor(-3.0)}
                state |= {"last_model_path": str(victims[0]), "best_model_path": str(victims[0])}
        torch.save(checkpoint, path)
    (checkpoints / f"step-9{evil}.ckpt").write_text("no checkpoint")
    (received / "job.json").write_text("")
    change(received, data__cache_dir=f"{outside}/new")
    before = Path(yaml.safe_load((received / ".hydra" / "config.yaml").read_text())["output_dir"])
    assert before.is_absolute()
    assert before != received  # it was copied
    was = contents(before)
    typed = ("callbacks.resume.every_n_train_steps=2", "callbacks.checkpoint.every_n_train_steps=100", "logger=csv")
    for steps in (10, 14):
        own = {"BVAE_CACHE_DIR": str(cache_dir)}
        job = launch(tmp_path, f"run={received}", f"trainer.max_steps={steps}", *typed, **own)
        assert job.returncode == 0, job.stdout + job.stderr
        assert f"Resuming from step {6 if steps == 10 else 10}" in job.stdout
        kept = {path.name for path in checkpoints.glob("resume-step-*.ckpt")}
        assert kept == {f"resume-step-{steps - 2}.ckpt", f"resume-step-{steps}.ckpt"}
    assert (tmp_path / "victim.ckpt").read_text() == "theirs"
    assert (checkpoints / "mine.txt").read_text() == "mine"
    assert contents(before) == was
    now = yaml.safe_load((received / ".hydra" / "config.yaml").read_text())
    assert (now["output_dir"], now["callbacks"]["resume"]["dirpath"]) == (str(received), str(checkpoints))
    said = job.stdout + job.stderr + (received / "train.log").read_text()
    assert "is truncated or damaged" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert not any(line.startswith("> ~") for line in said.splitlines())


@pytest.mark.slow
def test_images_are_scored_from_the_users_own_cache(received, outside, score, cache_dir, tmp_path):
    change(received, data__cache_dir=f"{outside}/new")
    own = {"BVAE_CACHE_DIR": str(cache_dir)}
    assert score(tmp_path, f"run={received}", "metrics=none", "logger=none", **own).returncode == 0


# 4. and 16. The network.


def test_a_received_configuration_says_nothing_of_wandbs_connection(received, server, launch, tmp_path):
    address, asked = server
    settings = {"_target_": "bvae.loggers.wandb_settings", "console": "off", "folder": "."}
    change(received, logger__mode="online", logger__loggers__wandb__mode="online", logger__entity="them")
    change(received, logger__loggers__wandb__settings={**settings, "base_url": address})
    change(received, logger__loggers__wandb__base_url=address)
    key = {"WANDB_API_KEY": "0123456789" * 4, "NO_PROXY": "127.0.0.1"}
    job = launch(tmp_path, f"run={received}", "trainer.max_steps=8", **key)
    assert "W&B can't resume a run that was made offline" in job.stdout, job.stdout + job.stderr
    assert job.returncode == 0
    assert len(offline_runs(tmp_path)) == 1
    assert asked == []
    (received / "wandb").mkdir(exist_ok=True)
    (received / "wandb" / "settings").write_text(f"[default]\nbase_url = {address}\n")
    refused(launch(received, "run=.", "trainer.max_steps=10", **key), "settings would be followed in a run's folder")
    assert asked == []


def test_offline_means_that_nobody_is_called(server, launch, cache_dir, tmp_path):
    address, asked = server
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), address)
    typed = ("trainer.max_steps=2", "metrics=none", "data.batch_size=4", f"data.cache_dir={cache_dir}")
    job = launch(tmp_path, *typed, "data.eval_images=100", NO_PROXY="", no_proxy="", **proxies)
    assert job.returncode == 0, job.stderr
    assert len(offline_runs(tmp_path)) == 1
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize("key", ["data__images__source__url", "compile"])
def test_an_address_is_refused(key, received, server, launch, score, tmp_path):
    address, asked = server
    change(received, data__images__source___target_="bvae.data.dsprites.Download")
    change(received, **{key: f"{address}/x.hdf5"})
    refused(launch(tmp_path, f"run={received}", "trainer.max_steps=8"), "is an address: where you trust it, add ")
    if key.startswith("data"):
        refused(score(tmp_path, f"run={received}"), "is an address: where you trust it, add ")
    assert asked == []


def test_a_sweeps_own_storage_is_not_opened(received, launch, tmp_path, outside):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    job = sweep / "0"
    received.rename(job)
    hydra = yaml.safe_load((job / ".hydra" / "hydra.yaml").read_text())
    database = {"_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper", "study_name": "x"}
    hydra["hydra"]["sweeper"] = {**database, "storage": f"sqlite:///{outside}/made.db"}
    (job / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
    from bvae.report import compare

    compare(sweep)
    assert (sweep / "sweep.html").is_file()


# Where is written.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("callbacks__pictures__folder", "{outside}/new", "is outside of the run's folder"),
        ("callbacks__pictures__folder", "new", "is outside of the run's folder"),
        ("callbacks__checkpoint__filename", "../../escaped-{{step}}", "isn't a name with {step} and the like in it"),
        ("callbacks__checkpoint__dirpath", "~/escaped", "is outside of the run's folder"),
        ("data___target_", "lightning.pytorch.loggers.MLFlowLogger", "which no file of"),
        ("data__images", "text", ""),
        ("callbacks", [1, 2], ""),
        ("model", None, ""),
        ("trainer", 5, ""),
        ("seed", {"a": 1}, ""),
    ],
)
def test_a_configuration_writes_into_its_own_folder(key, value, said, received, outside, launch, tmp_path):
    change(received, **{key: value.format(outside=outside) if isinstance(value, str) else value})
    refused(launch(tmp_path, f"run={received}", "trainer.max_steps=8"), said)
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.slow
def test_lightnings_folder_is_the_runs_own_whatever_is_recorded(received, outside, launch, tmp_path):
    change(received, trainer__default_root_dir=str(outside))
    job = launch(tmp_path, f"run={received}", "trainer.max_steps=8")
    assert job.returncode == 0, job.stdout + job.stderr


# 10. The import path; test_targets.py has when the current folder is on it.


@pytest.mark.slow
def test_nothing_is_imported_from_the_current_folder(received, tmp_path):
    for name in ("pynvml", "dill", "psutil", "mine", "hydra_plugins/evil"):
        (received / name).parent.mkdir(exist_ok=True)
        (received / f"{name}.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()\n")
    named = ("++callbacks.throughput._target_=mine.Loss", "trainer.max_steps=10")
    commands = [("train", "trainer.max_steps=8"), ("evaluate", "metrics=none"), ("train", *named)]
    for program, *typed in commands:  # each imported anew
        command = [sys.executable, str(ROOT / f"{program}.py"), "run=.", "logger=none", *typed]
        job = subprocess.run(command, cwd=received, env=environment(), capture_output=True, text=True, timeout=120)
        assert job.returncode == (typed[0] == named[0]), job.stdout + job.stderr
    assert not list(tmp_path.rglob("*.ran"))


# 8. and 14. What isn't what it should be.


@pytest.mark.slow
@pytest.mark.parametrize("name", [".lock", "train.log", "hparams.yaml", "checkpoints/step-9.ckpt", "metrics.csv"])
def test_a_pipe_in_a_runs_folder_blocks_nothing(name, received, launch, tmp_path):
    (received / name).unlink(missing_ok=True)
    os.mkfifo(received / name)
    job = launch(tmp_path, f"run={received}", "trainer.max_steps=8", "logger=csv")
    refused(job, name.rpartition("/")[2])
