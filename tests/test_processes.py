"""Processes that train together and signals that end them: who writes, what is launched, what is remembered."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bvae.app import allocator, interrupts, processes
from bvae.app.processes import check_tasks, is_first, launched_to_resume, own_command_line
from bvae.callbacks.interrupt import HANDLED, PREEMPTED

NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
CONF = Path(__file__).parents[1] / "conf"


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # the first of the second machine
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"GROUP_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "0"}, True),  # launched by Lightning within a task
    ],
)
def test_the_process_that_writes_is_the_first_of_all_machines(environment, first, monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first


def test_several_tasks_of_slurms_and_a_run_of_one_process_are_a_mistake(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    check_tasks(1, 1)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_tasks(1, 1)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    said = r"asked for 4 tasks, .*devices=1 is one: use sbatch -n 1 -c 4 or, for 4 processes .*=4, srun and .*=4$"
    with pytest.raises(ValueError, match=said):
        check_tasks(1, 1)
    for devices, nodes in ((4, 1), (1, 4), ("auto", 1)):
        check_tasks(devices, nodes)
    for shell in ("bash", "interactive"):
        monkeypatch.setenv("SLURM_JOB_NAME", shell)
        check_tasks(1, 1)


@cache
def composed() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", ["hydra.runtime.output_dir=/x"], return_hydra_config=True)


@pytest.fixture
def hydra() -> Iterator[DictConfig]:
    """Hydra's own configuration of a command, which a test may change."""
    cfg = composed().copy()
    HydraConfig.instance().set_config(cfg)
    own = HydraConfig.get()
    OmegaConf.set_readonly(own, False)
    yield own
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("resumes", [True, False])
def test_the_other_processes_are_launched_with_the_command_of_this_one_run(resumes, hydra, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1"])
    monkeypatch.delenv("BVAE_RESUMES", raising=False)
    assert launched_to_resume() is None
    before = OmegaConf.to_container(hydra)
    with own_command_line(["seed=1", "loss=beta"], Path("/runs/1"), resumes):
        assert sys.argv == ["train.py", "seed=1", "loss=beta", "hydra.mode=RUN"]
        assert launched_to_resume() is resumes
        assert HydraConfig.get().run.dir == "/runs/1"
        os.environ["OF_THE_RUN"] = "1"
    assert sys.argv == ["train.py", "-m", "seed=0,1"]
    assert OmegaConf.to_container(HydraConfig.get()) == before
    assert "OF_THE_RUN" not in os.environ
    assert launched_to_resume() is None
    with pytest.raises(ZeroDivisionError), own_command_line(["seed=1"], Path("/runs/1"), resumes):
        raise ZeroDivisionError
    assert sys.argv == ["train.py", "-m", "seed=0,1"]
    assert launched_to_resume() is None


@pytest.mark.parametrize("grouped", [True, False])
def test_the_processes_of_a_job_part_before_the_next_one_begins(grouped, hydra, monkeypatch):
    parted = []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: grouped)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: parted.append(len(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1", "loss=beta"])
    with own_command_line(["seed=1"], Path("/runs/1"), False):
        assert parted == []
    assert parted == [3] * grouped


def test_a_command_line_keeps_the_folders_of_the_configuration(hydra, tmp_path, monkeypatch):
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    hydra.overrides.hydra = ["hydra.verbose=true", searched]
    own = ConfigSourceInfo(path=str(tmp_path), schema="file", provider="command-line")
    hydra.runtime.config_sources = [*hydra.runtime.config_sources, own]
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with own_command_line(["seed=1"], Path("/runs/1"), False):
        assert sys.argv[1:] == ["--config-dir", str(tmp_path), "seed=1", searched, "hydra.mode=RUN"]


def test_a_job_in_a_thread_launches_nothing(hydra, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m"])
    seen = []

    def run() -> None:
        with own_command_line(["seed=1"], Path("/runs/1"), False):
            seen.extend(sys.argv)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == ["train.py", "-m"]


# Signals.


@pytest.fixture
def handlers(monkeypatch):
    """What handles signals is as before, whatever a test does."""
    before = {signum: signal.getsignal(signum) for signum in (*HANDLED, signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interrupts, "_asked", None)
    yield before
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_for_the_jobs_and_a_second_one_ends_the_program(signum, handlers, capsys):
    with interrupts.remembered():
        assert interrupts.asked() is None
        signal.raise_signal(signum)
        assert interrupts.asked() == signum
        assert isinstance(interrupts.asked(), signal.Signals)
        ends = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(signum) == ends
    said = capsys.readouterr().out
    assert (
        said
        == {
            signal.SIGINT: "Ctrl-C: the jobs under way end with this step, save and draw; once more kills them\n",
            signal.SIGTERM: "SIGTERM: the jobs under way save a checkpoint and end\n",
        }[signum]
    )
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_signal_that_is_pending_counts_as_one(handlers):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        assert interrupts.asked() is None
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # not to another thread, which doesn't block it
        assert interrupts.asked() == signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    assert interrupts.asked() == signal.SIGTERM  # and stays so


def test_a_program_that_must_make_room_before_it_trains_ends_with_75(handlers):
    assert PREEMPTED == 75  # EX_TEMPFAIL of sysexits.h, for which a scheduler runs it again
    ours = set(HANDLED) - {signal.SIGINT}
    assert signal.SIGTERM in ours
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    for signum in ours - {signal.SIGHUP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with interrupts.preemptible():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # Ctrl-C is no scheduler's
    with pytest.raises(SystemExit) as caught, interrupts.preemptible():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 75
    assert {signal.getsignal(signum) for signum in ours - {signal.SIGHUP}} == {signal.SIG_DFL}
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    entered = []

    def run() -> None:  # where no signal can be handled
        with interrupts.preemptible():
            entered.append(interrupts.is_beside())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered == [True]
    assert not interrupts.is_beside()


def test_a_process_of_a_pool_is_beside_others(monkeypatch):
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert interrupts.is_beside()


def waits() -> None:
    """Wait for SIGTERM, but not for ever."""
    end = time.monotonic() + 15
    while interrupts.asked() != signal.SIGTERM:
        if time.monotonic() > end:
            sys.exit(1)
        time.sleep(0.01)


def hands_on() -> str:
    """Hand SIGTERM on to a process, and say how both got it."""
    interrupts.hand_on()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child = multiprocessing.get_context("fork").Process(target=waits)
    child.start()
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + 20
    while child.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    return f"{child.exitcode} {interrupts.asked()} {sorted(blocked & {signal.SIGINT, signal.SIGTERM})}"


def test_signals_are_handed_on_to_the_processes_of_a_pool(handlers, tmp_path):
    """In a process of its own, as its main thread blocks them from then on."""
    child = os.fork()
    if child == 0:
        try:
            (tmp_path / "said").write_text(hands_on())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "said").read_text() == "0 15 [<Signals.SIGINT: 2>, <Signals.SIGTERM: 15>]"


# Memory.


def test_freed_memory_is_kept_within_glibcs_bounds(monkeypatch):
    asked = {}

    class Glibc:
        def __init__(self, name):
            assert name is None  # of this process

        def mallopt(self, parameter, value):
            asked[parameter] = value

    monkeypatch.setattr(allocator.ctypes, "CDLL", Glibc)
    allocator.keep_freed_memory()
    # M_MMAP_THRESHOLD is -3, M_TOP_PAD -2 and M_TRIM_THRESHOLD -1 in malloc.h; HEAP_MAX_SIZE / 2 bounds the first.
    assert asked == {-3: 32 * 2**20, -2: 256 * 2**20, -1: 2**31 - 1}
    asked.clear()
    monkeypatch.delattr(Glibc, "mallopt")
    allocator.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    allocator.keep_freed_memory()
    assert asked == {}
    assert processes.is_first()
