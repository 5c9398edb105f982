"""What the training shows of itself, on terminals of some widths and where there is none."""

from __future__ import annotations

import re
from io import StringIO
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from bvae.callbacks import StepProgress, Throughput
from bvae.callbacks import progress as module

LOGGED = {
    f"train/{name}": torch.tensor(value)
    for name, value in {"loss": 2837.1, "reconstruction": 2812.0, "kl": 25.1, "capacity": 12.5}.items()
} | {"train/images_per_second": torch.tensor(1127.0), "train/learning_rate": torch.tensor(5e-4)}


def trainer(step: int, total: float) -> SimpleNamespace:
    return SimpleNamespace(
        is_global_zero=True,
        global_step=step,
        estimated_stepping_batches=total,
        log_every_n_steps=50,
        logged_metrics=LOGGED,
    )


def shown(steps, total=150_000, **console) -> str:
    """What stands there after these steps."""
    progress = StepProgress()
    progress._console = Console(file=StringIO(), **console)
    progress.on_train_start(trainer(0, total), None)
    for step in steps:
        progress.on_train_batch_end(trainer(step, total), None, None, None, 0)
    progress.on_train_end(trainer(steps[-1], total), None)
    return progress._console.file.getvalue()


def test_the_speed_counts_images_as_they_come_and_replayed_batches_as_full(monkeypatch):
    clock = count(step=0.5)
    monkeypatch.setattr("bvae.callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    logged, speed = [], Throughput()
    training = SimpleNamespace(log=lambda name, value, **_: logged.append(value))
    for starts, number, images in ((0, 0, 64), (1, 1, 64), (2, 2, 1), (3, 5, 1)):  # a GPU replays batches 3 and 4
        loop = SimpleNamespace(total_batch_idx=starts)
        trainer = SimpleNamespace(fit_loop=loop, global_step=number + 1, log_every_n_steps=3, world_size=1)
        speed.on_train_batch_start(trainer, training, None, 0)
        loop.total_batch_idx = number
        speed.on_train_batch_end(trainer, training, None, torch.zeros(images, 1), 0)
    assert logged == [2 * (64 + 64 + 1), 2 * (64 + 64 + 1)]


@pytest.mark.parametrize(
    ("width", "terms"),
    [
        (60, []),
        (70, ["loss 2837.1"]),
        (80, ["loss 2837.1", "KL 25.1"]),
        (90, ["loss 2837.1", "KL 25.1", "rec 2812.0"]),
        (160, ["loss 2837.1", "KL 25.1", "rec 2812.0", "C 12.5", "1,127 images/s"]),
    ],
)
def test_in_a_narrow_terminal_terms_give_way_from_the_right(width, terms):
    written = shown([149_950], width=width, force_terminal=True, color_system=None)
    words = " ".join(written.rpartition("\x1b[2K")[2].split())
    assert re.search(" ".join(["149950/150000", *terms, "0:00:0. left .*:"]), words), words


def test_without_a_terminal_the_first_line_comes_at_step_100_and_then_one_every_two_minutes(monkeypatch):
    clock = count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))  # about a second a step
    lines = shown(range(1, 401), width=80).splitlines()
    assert re.fullmatch(
        r"step 100 of 150,000  loss 2837.1  KL 25.1  rec 2812.0  C 12.5  1,127 images/s  4[0-3] h left", lines[0]
    )
    steps = [int(line.split()[1]) for line in lines]
    assert all(later - sooner <= 120 for sooner, later in zip(steps, [*steps[1:], 400], strict=True))
    assert len(steps) <= 5


def test_a_step_of_several_batches_has_one_line():
    assert shown([10, 10, 20, 20, 20], total=20 * 10).splitlines() == shown([10, 20], total=20 * 10).splitlines()


def test_a_bar_has_a_line_above_it_that_says_how_long_it_takes(monkeypatch):
    seconds = iter([0.0, 500.0, 545.0, 545.0])  # the start, the tenth step, which a compilation delayed, the hundredth
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    written = shown([10, 100, 150], total=10_000, width=80, force_terminal=True, color_system=None)
    assert written.count("About 82 min to go, by the first 100 steps; drawing and scoring come on top") == 1
    assert "to go" not in shown([3, 6], total=6, width=80, force_terminal=True)


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_a_bar_where_it_can_show_one(monkeypatch, widgets):
    monkeypatch.setattr(module, "find_spec", lambda name: widgets)
    started = []
    monkeypatch.setattr(module.Progress, "start", lambda progress: started.append(progress))
    shown([1], width=80, force_jupyter=True)
    assert bool(started) is widgets


def test_a_training_without_an_end_says_how_far_it_is():
    assert shown([99, 100], total=float("inf")).startswith("step 100  loss")
