"""What the training shows of itself, on terminals of some widths and where there is none."""

from __future__ import annotations

import math
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


@pytest.mark.parametrize(
    ("step", "seconds", "said"),
    [
        (110, 0.0, "0 s"),
        (110, 1.0, "99 s"),  # 100 steps took so long, and 9,890 are left
        (110, 1.2, "119 s"),
        (110, 1.25, "2 min"),
        (110, 72.0, "119 min"),
        (110, 73.0, "2 h"),
        (110, 1_740.0, "48 h"),
        (110, 1_760.0, "2 days"),
        (10_000, 5.0, "0 s"),
        (10, 1.0, None),  # the first of the steps that are measured
        (9, 1.0, None),
    ],
)
def test_the_time_that_is_left_is_told_in_the_largest_unit_of_which_there_are_two(monkeypatch, step, seconds, said):
    progress = StepProgress()
    progress._total, progress._since = 10_000, (10, 50.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 50.0 + seconds))
    assert progress._left(step) == said
    progress._since = None
    assert progress._left(step) is None
    progress._since, progress._total = (10, 50.0), None
    assert progress._left(step) is None


@pytest.mark.parametrize(
    ("step", "first", "seconds", "total", "due"),
    [
        *((50, 100, 0, 1_000, True), (51, 100, 0, 1_000, False)),  # each twentieth
        *((99, 100, 0, None, False), (100, 100, 0, None, True), (101, 100, 0, None, True), (101, None, 0, None, False)),
        *((7, None, 119.9, 1_000, False), (7, None, 120, 1_000, True), (50, None, 0, None, False)),
    ],
)
def test_a_line_is_due_each_twentieth_of_the_steps_after_the_first_100_and_each_two_minutes(
    monkeypatch, step, first, seconds, total, due
):
    progress = StepProgress()
    progress._total, progress._first, progress._spoke, progress._lines_every = total, first, 10.0, 50
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 10.0 + seconds))
    assert progress._has_something_to_say(step) is due


@pytest.mark.parametrize(
    ("start", "total", "every", "first", "warm"),
    [(0, 1_000, 50, 100, 10), (700, 1_000, 50, 800, 710), (0, 7, 1, 100, 10), (0, math.inf, 1, 100, 10)],
)
def test_what_is_counted_from_where_a_training_starts_or_goes_on(start, total, every, first, warm):
    progress = StepProgress()
    progress._console = Console(file=StringIO(), width=80)
    progress.on_train_start(trainer(start, total), None)
    assert (progress._lines_every, progress._first, progress._warm) == (every, first, warm)
    assert progress.every_n_steps == every
    assert progress._total == (None if total == math.inf else total)
    progress._bar = object()
    assert progress.every_n_steps is None  # a bar moves at the logging steps


def test_the_terms_that_are_shown():
    logged = {"train/kl_unit/0": 1.0, "val/loss": 2.0, "epoch": 3.0, "train/tc": 0.04, "train/mine": 12_345.67}
    every = StepProgress._terms(SimpleNamespace(logged_metrics=logged | LOGGED))
    assert every == ["loss 2837.1", "KL 25.1", "TC 0.0", "mine 12345.7", "rec 2812.0", "C 12.5", "1,127 images/s"]
    assert StepProgress._terms(SimpleNamespace(logged_metrics={"train/beta": 4.0})) == ["β 4.0"]
    symbols = {"information": "I", "offset": "O", "gamma": "γ", "free_nats": "λ", "mutual_information": "MI"}
    symbols |= {"dimension_wise_kl": "DWKL", "target_kl": "target"}
    named = StepProgress._terms(SimpleNamespace(logged_metrics={f"train/{name}": 1.0 for name in symbols}))
    assert named == [f"{symbol} 1.0" for symbol in symbols.values()]


def test_one_process_shows_and_one_of_several_trainings():
    for zero, speaks, written in ((True, True, True), (False, True, False), (True, False, False)):
        progress = StepProgress(lambda speaks=speaks: speaks)
        progress._console = Console(file=StringIO(), width=80)
        at = trainer(0, 20)
        at.is_global_zero = zero
        progress.on_train_start(at, None)
        for at.global_step in range(1, 4):
            progress.on_train_batch_end(at, None, None, None, 0)
        assert bool(progress._console.file.getvalue()) is written


def test_a_training_that_begins_to_speak_starts_a_bar_and_whatever_ends_it_stops_it():
    speaks = []
    progress = StepProgress(lambda: bool(speaks))
    progress._console = Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    at = trainer(0, 200)
    progress.on_train_start(at, None)
    assert progress._bar is None
    speaks.append("now")
    interrupt = KeyboardInterrupt()
    shown = StepProgress._terms(at)  # at the fiftieth step, as the terms change with the logging steps alone
    for steps, terms, end in (
        ((50, 77), shown, progress.on_train_end),
        ((120, 121), [], lambda *given: progress.on_exception(*given, interrupt)),
    ):
        for at.global_step in steps:
            progress.on_train_batch_end(at, None, None, None, 0)
        bar, task = progress._bar, progress._bar.tasks[0]
        assert (bar.live.is_started, task.completed, task.total) == (True, at.global_step, 200)
        assert task.fields["terms"] == terms
        end(at, None)
        assert progress._bar is None
        assert not bar.live.is_started
    progress.disable()
