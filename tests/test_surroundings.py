"""What lies around a run and mustn't spoil it: the home folder, a notebook, the locale, the terminal, Ctrl-C, Slurm."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import Trainer
from runs import SHORT, offline_runs, run_folder
from torch.utils.data import DataLoader, TensorDataset

from bvae.app import interrupts, processes, sweeps
from bvae.app.train import after_divergence
from bvae.architectures import MLPDecoder, MLPEncoder
from bvae.callbacks import GracefulInterrupt
from bvae.losses import ELBO
from bvae.terminal import interruptible
from bvae.training import Training

ROOT = Path(__file__).parents[1]
NOTEBOOK = {"MPLBACKEND": "module://a_notebooks.backend"}
NO_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
def test_a_run_without_a_home_in_a_notebooks_shell_and_a_foreign_locale_with_the_advice_taken(train, tmp_path):
    (tmp_path / "home").write_text("no folder")
    (clipped,) = re.findall(r"\S*gradient_clip\S*", after_divergence(tmp_path))
    overrides = (*SHORT, "model=mlp", "loss=beta", "data.batch_size=16", "metrics=none", clipped)
    job = train(tmp_path, *overrides, HOME=str(tmp_path / "home"), **NOTEBOOK, **NO_UTF8)
    assert job.returncode == 0, job.stderr
    assert "Traceback" not in job.stdout + job.stderr
    assert "step 6 of 6  loss" in job.stdout
    assert "? 4.0" in job.stdout  # β
    assert not (run_folder(job.stdout) / "report.html").read_text(encoding="utf-8").isascii()
    assert (tmp_path / "wandb" / "home" / "data").is_dir()
    assert len(offline_runs(tmp_path)) == 1


def test_a_fused_optimizers_gradients_are_clipped_in_mixed_precision():
    vae = Training(
        MLPEncoder(2), MLPDecoder(2), ELBO(), lambda parameters: torch.optim.SGD(parameters, lr=1.0, fused=True)
    )
    before = torch.nn.utils.parameters_to_vector(vae.parameters()).detach().clone()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(max_steps=1, accelerator="cpu", precision="bf16-mixed", gradient_clip_val=0.25, **quiet)
    trainer.fit(vae, DataLoader(TensorDataset(torch.rand(4, 1, 64, 64)), batch_size=4))
    moved = torch.nn.utils.parameters_to_vector(vae.parameters()).detach() - before
    assert moved.double().norm().item() == pytest.approx(0.25, rel=1e-3)


def test_every_text_file_is_utf8():
    programs = [ROOT / "train.py", ROOT / "evaluate.py"]
    for path in programs + [path for part in ("src", "results", "benchmarks") for path in (ROOT / part).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = node.func if isinstance(node, ast.Call) else None
            called = getattr(function, "attr", getattr(function, "id", None))
            of = getattr(getattr(function, "value", None), "id", None)
            if called in ("open", "read_text", "write_text", "fdopen") and of not in (
                "Image",
                "archive",
                "os",
                "tarfile",
            ):
                binary = any(re.search(r"'[rwa]\+?b\+?'", ast.unparse(argument)) for argument in node.args)
                assert binary or "encoding" in [keyword.arg for keyword in node.keywords], f"{path}:{node.lineno}"


def test_all_that_is_printed_passes_one_place():
    package = ROOT / "src" / "bvae"
    for path in package.rglob("*.py"):
        if path in (package / "terminal.py", package / "data" / "__main__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in ("print", "Console"), f"{path}:{node.lineno}: use say() or console() of bvae.terminal"


def test_an_output_that_is_lost_or_lacks_a_letter_costs_nothing():
    program = """if True:
        import os, sys
        from bvae.terminal import spare
        spare()
        spare()
        print("β", flush=True)
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        for _ in range(3):
            print("x" * 100_000, flush=True)
        print("still here", file=sys.stderr)
    """
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    job = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=60)
    assert (job.returncode, job.stdout.strip(), job.stderr.strip()) == (0, b"?", b"still here")


def test_ctrl_c_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended, interruptible():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_wants_to_go_on(name, tmp_path):
    before = signal.signal(getattr(signal, name), signal.SIG_DFL)  # under nohup SIGHUP is ignored
    saved = []
    trainer = SimpleNamespace(world_size=1, global_step=7, save_checkpoint=saved.append)
    callback = GracefulInterrupt(str(tmp_path))
    callback.on_train_start(trainer, None)
    trainer.global_step = 8
    try:
        signal.raise_signal(getattr(signal, name))
        with pytest.raises(SystemExit) as ended:
            callback.on_train_batch_end(trainer, None, None, None, 0)
    finally:
        callback.on_train_end(trainer, None)
        signal.signal(getattr(signal, name), before)
    assert ended.value.code == 75
    assert saved == [tmp_path / "step-8.ckpt"]


def test_under_nohup_a_closed_terminal_is_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        callback = GracefulInterrupt(str(tmp_path))
        callback.on_train_start(SimpleNamespace(global_step=0), None)
        signal.raise_signal(signal.SIGHUP)
        callback.on_train_batch_end(SimpleNamespace(world_size=1, global_step=1), None, None, None, 0)
        callback.on_train_end(None, None)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("name", "whom"), [("SIGINT", "all"), ("SIGINT", "first"), ("SIGTERM", "first")])
def test_a_signal_reaches_jobs_beside_each_other_and_breaks_none(name, whom, tmp_path):
    """Three processes for two jobs that wait for it, and a third process that has nothing to do."""
    program = """if True:
        import os, signal, sys, threading, time
        from joblib import Parallel, delayed
        from bvae.app import interrupts

        def wait(started):
            open(started, "w").close()
            end = time.monotonic() + 30
            while interrupts.asked() is None and time.monotonic() < end:
                time.sleep(0.05)
            return interrupts.is_beside() and interrupts.asked().name

        def interrupt():
            while not all(map(os.path.exists, "ab")):
                time.sleep(0.05)
            (os.killpg if sys.argv[2] == "all" else os.kill)(os.getpid(), getattr(signal, sys.argv[1]))

        interrupts.hand_on()
        threading.Thread(target=interrupt).start()
        print(Parallel(n_jobs=3)(delayed(wait)(name) for name in "ab"), interrupts.asked().name, interrupts.is_beside())
    """
    command = [sys.executable, "-c", program, name, whom]
    job = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, start_new_session=True)
    assert job.returncode == 0, job.stderr
    assert job.stdout.splitlines()[-1] == f"{[name, name]} {name} False"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_scheduler_ends_the_scoring_as_it_does_the_training(name, monkeypatch):
    signum = getattr(signal, name)
    before = signal.signal(signum, signal.SIG_DFL)
    with pytest.raises(SystemExit) as ended, interrupts.preemptible():
        signal.raise_signal(signum)
    assert (ended.value.code, signal.getsignal(signum)) == (75, signal.SIG_DFL)
    got = []
    signal.signal(signum, lambda *_: got.append(name))
    with interrupts.preemptible():
        signal.raise_signal(signum)  # somebody else's
    assert got == [name]
    signal.signal(signum, before)


def test_an_interrupted_sweep_says_how_it_goes_on(monkeypatch):
    monkeypatch.setattr(sweeps.SweepFolder, "path", Path("multirun/x"))
    typed = ["-m", "loss.beta=[[0,1],[2,3]]", "sweep=resume", "hydra.sweep.dir=multirun/x"]
    assert sweeps.resume_command(typed) == "python train.py -m 'loss.beta=[[0,1],[2,3]]' sweep=multirun/x"
    monkeypatch.setattr(sweeps.SweepFolder, "path", Path("my runs/beta=4"))
    assert sweeps.resume_command(["-m", "seed=0,1"]) == """python train.py -m seed=0,1 'sweep="my runs/beta=4"'"""
    for strange in ('a\\b "c" \\"d"\\', "/home/müller/β", "123", "2026_01_31", "1e5", "null", "True", "inf"):
        monkeypatch.setattr(sweeps.SweepFolder, "path", Path(strange))
        typed = shlex.split(sweeps.resume_command(["-m"]))[-1]
        assert OverridesParser.create().parse_override(typed).value() == strange
    flags = ["-m", "seed=0,1", "--config-dir", "own"]
    monkeypatch.setattr(sweeps.SweepFolder, "path", Path("x"))
    assert sweeps.resume_command(flags) == "python train.py -m --config-dir own seed=0,1 sweep=x"
    assert sweeps.resume_command(["hparams=optuna", "seed=1"]) == "the same command"


def test_several_tasks_for_one_process_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(
        ValueError, match=r"4 tasks.*sbatch -n 1 -c 4 or.*--ntasks-per-node=4, srun and trainer=ddp trainer.devices=4"
    ):
        processes.check_tasks(1, 1)
    processes.check_tasks(4, 1)
    processes.check_tasks(1, 4)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    processes.check_tasks(1, 1)
